#include "env/journal.h"

#include <algorithm>
#include <cerrno>

#include "dio/buffer_pool.h"
#include "dio/out_of_memory.h"
#include "env/file_kind.h"
#include "env/superblock.h"

namespace diofs {

Result Journal::Format(const std::vector<std::string>& snapshot) {
  State state;
  // No frame of an earlier volume can count, for nonces are random; its header
  // goes so that no reader has to ask whose it is.
  Result result = WriteBlock(layout_.region_offset[1],
                             std::string(kRegionHeaderBytes, '\0'));
  if (result.ok()) result = WriteSnapshot(snapshot, 0, &state);
  if (result.ok()) result = WriteRegionHeader(state);
  if (!result.ok()) return std::move(result).With("journal: format");
  std::lock_guard<std::mutex> lock(mutex_);
  state_ = state;
  return Result::Ok();
}

Lsn Journal::Append(std::string_view operations) {
  std::lock_guard<std::mutex> lock(mutex_);
  const Lsn lsn = tail_lsn_ + 1;
  // After an error nothing is ever taken from it again.
  if (error_.ok()) {
    pending_.append(operations);
    if (keeping_) kept_.append(operations);
    // Behind one that found no room it would count for nothing.
    if (safe_lsn_ == tail_lsn_ &&
        staged_->Stage(StagedType::kOperations, lsn, 0, operations)) {
      safe_lsn_.store(lsn, std::memory_order_release);
    }
  }
  return tail_lsn_ = lsn;
}

void Journal::SetStaging(Staging* staging) {
  std::lock_guard<std::mutex> lock(mutex_);
  staging_ = staging;
  staged_ = std::make_unique<Staging::Hold>(staging);
  NoteEnd(state_, /*tentative=*/false);
}

void Journal::NoteEnd(const State& state, bool tentative) {
  if (staging_ == nullptr) return;
  staging_->NoteBase({state.sequence, state.chain, tentative});
}

Lsn Journal::TakeForSnapshot() {
  std::lock_guard<std::mutex> lock(mutex_);
  kept_.clear();
  keeping_ = true;
  return tail_lsn_;
}

Result Journal::Commit(Lsn lsn, CommitLevel level) {
  // In a forked child the leader of the parent will never be done.
  if (device_->stale()) return Result::Error(ESTALE, "journal: after a fork");
  Lock lock(mutex_);
  if (lsn > tail_lsn_) {
    return Result::Error(EINVAL, "journal: commit of what was never appended");
  }
  const bool durable = level == CommitLevel::kDurable;
  if (durable) durable_wanted_lsn_ = std::max(durable_wanted_lsn_, lsn);
  while (true) {
    if (!error_.ok()) return error_;
    if ((durable ? durable_.lsn : written_lsn_) >= lsn) return Result::Ok();
    if (written_lsn_ >= lsn) {
      FlushWritten(&lock);
    } else if (leading_ || (switching_ && MustSwitch())) {
      committed_cv_.Wait(&lock);
    } else {
      Lead(&lock, /*switch_region=*/false);
    }
  }
}

// Those who wait for the same frame share one flush: the device sees to that.
void Journal::FlushWritten(Lock* lock) {
  const Mark mark = {written_lsn_, state_.sequence - 1};
  lock->unlock();
  Result result = CatchBadAlloc([this] { return device_->Flush(); });
  lock->lock();
  if (result.ok()) {
    NoteDurable(mark);
  } else if (error_.ok()) {
    error_ = std::move(result).With("journal");
  }
}

void Journal::NoteDurable(const Mark& mark) {
  durable_.lsn = std::max(durable_.lsn, mark.lsn);
  durable_.sequence = std::max(durable_.sequence, mark.sequence);
}

Result Journal::SwitchRegion() {
  if (device_->stale()) return Result::Error(ESTALE, "journal: after a fork");
  Lock lock(mutex_);
  while (leading_ || switching_) committed_cv_.Wait(&lock);
  if (error_.ok()) Lead(&lock, /*switch_region=*/true);
  return error_;
}

Result Journal::SwitchAhead() {
  if (device_->stale()) return Result::Error(ESTALE, "journal: after a fork");
  Lock lock(mutex_);
  if (!error_.ok() || switching_ || !HalfUsed()) return error_;
  switching_ = true;
  State state = state_;
  lock.unlock();
  Snapshot snapshot;
  Result result =
      CatchBadAlloc([&] { return WriteSnapshotBeside(state, &snapshot); });
  lock.lock();
  while (leading_) committed_cv_.Wait(&lock);
  if (result.error() == ENOMEM) {
    // Nothing depends on it yet: another time.
    NoteSwitched();
    committed_cv_.NotifyAll();
    return error_;
  }
  leading_ = true;
  if (result.ok()) result = error_;
  state = state_;
  lock.unlock();
  Batch batch;
  if (result.ok()) {
    result =
        CatchBadAlloc([&] { return FinishSwitch(snapshot, &batch, &state); });
  }
  lock.lock();
  NoteDone(std::move(result), batch, state);
  NoteSwitched();
  return error_;
}

void Journal::Lead(Lock* lock, bool switch_region) {
  leading_ = true;
  const bool switching = switch_region || MustSwitch();
  if (switching) switching_ = true;
  Batch batch = TakePending();
  State state = state_;
  lock->unlock();
  Result result = CatchBadAlloc([&] {
    return switching ? Switch(&batch, &state) : WriteBatch(&batch, &state);
  });
  lock->lock();
  NoteDone(std::move(result), batch, state);
  if (switching) NoteSwitched();
}

Journal::Batch Journal::TakePending() {
  Batch batch;
  batch.operations.swap(pending_);
  batch.first_lsn = written_lsn_ + 1;
  batch.last_lsn = tail_lsn_;
  batch.durable_sequence = durable_.sequence;
  batch.staged_mark = staged_->mark();
  batch.through = write_through_ && durable_wanted_lsn_ > written_lsn_ &&
                  durable_.sequence == state_.sequence - 1;
  return batch;
}

void Journal::NoteDone(Result result, const Batch& batch, const State& state) {
  if (result.ok()) {
    written_lsn_ = batch.last_lsn;
    if (safe_lsn_ < written_lsn_) {
      safe_lsn_.store(written_lsn_, std::memory_order_release);
    }
    NoteEnd(state, /*tentative=*/false);
    staged_->Release(batch.staged_mark);
    if (batch.durable) NoteDurable({batch.last_lsn, state.sequence - 1});
  } else if (error_.ok()) {
    error_ = std::move(result).With("journal");
  }
  state_ = state;
  leading_ = false;
  committed_cv_.NotifyAll();
}

void Journal::NoteSwitched() {
  switching_ = false;
  keeping_ = false;
  kept_ = std::string();
}

// Recovery reads all of the live region, so it is left when it is half used;
// one that starts with a large snapshot is at least given an eighth for frames
// before, and a quarter before commits wait.
bool Journal::HalfUsed() const {
  return Used(layout_.region_bytes / 2, layout_.region_bytes / 8);
}

bool Journal::Used(uint64_t bytes, uint64_t frame_bytes) const {
  return state_.write_offset >
         std::max(bytes, state_.header.deltas_offset() + frame_bytes);
}

bool Journal::MustSwitch() const {
  if (pending_.empty() || state_.header.nonce == 0) return false;
  return state_.must_switch ||
         Used(layout_.region_bytes / 4 * 3, layout_.region_bytes / 4) ||
         FrameBytes(pending_.size()) >
             layout_.region_bytes - state_.write_offset;
}

Result Journal::WriteBatch(Batch* batch, State* state) {
  if (state->header.nonce == 0) {
    return Result::Error(EIO, "written to before it was recovered");
  }
  if (batch->operations.empty()) return Result::Ok();
  FrameHeader header;
  header.first_lsn = batch->first_lsn;
  header.last_lsn = batch->last_lsn;
  header.durable_sequence = batch->durable_sequence;
  batch->durable = batch->through;
  return WriteFrame(header, batch->operations,
                    batch->through ? Durability::kFua : Durability::kNone,
                    state);
}

Result Journal::WriteFrame(FrameHeader header, std::string_view payload,
                           Durability durability, State* state) {
  const std::string name = "frame " + std::to_string(state->sequence);
  const uint64_t frame_bytes = FrameBytes(payload.size());
  if (frame_bytes > layout_.region_bytes - state->write_offset ||
      !CountOperations(payload, &header.op_count)) {
    return Result::Error(EIO, name + ": does not fit or is not whole");
  }
  AlignedBuffer buffer = BufferPool::Get(frame_bytes);
  if (!buffer) return Result::Error(ENOMEM, name);
  header.nonce = state->header.nonce;
  header.sequence = state->sequence;
  header.chain = state->chain;
  header.EncodeFrame(payload, buffer.data());
  Result result =
      device_->Write(layout_.region_offset[state->region] + state->write_offset,
                     buffer.data(), frame_bytes, kIoClassJournal, durability);
  if (!result.ok()) return std::move(result).With(name);
  state->write_offset += frame_bytes;
  state->chain = header.crc;
  ++state->sequence;
  ++frames_written_;
  return Result::Ok();
}

Result Journal::Switch(Batch* batch, State* state) {
  Snapshot snapshot;
  Result result = WriteSnapshotBeside(*state, &snapshot);
  if (!result.ok()) return result;
  return FinishSwitch(snapshot, batch, state);
}

Result Journal::WriteSnapshotBeside(const State& state, Snapshot* snapshot) {
  if (state.header.nonce == 0) {
    return Result::Error(EIO, "written to before it was recovered");
  }
  std::vector<std::string> chunks;
  if (!snapshot_) return Result::Error(EIO, "no source of snapshots");
  const Lsn tail = tail_lsn();
  snapshot->lsn = snapshot_(&chunks);
  if (snapshot->lsn < tail) {
    return Result::Error(EIO, "snapshot lacks what was appended");
  }
  snapshot->state = state;
  snapshot->state.region = 1 - state.region;
  // No frame that commits may still add to this region has a number as high.
  snapshot->state.sequence += layout_.region_bytes / kBlockBytes;
  return WriteSnapshot(chunks, snapshot->lsn, &snapshot->state);
}

Result Journal::FinishSwitch(Snapshot snapshot, Batch* batch, State* state) {
  State& next = snapshot.state;
  // What came meanwhile is more than there is room for: commits stand still
  // now, so a second snapshot is behind by little.
  if (!TakeKept(snapshot, batch)) return Switch(batch, state);
  if (Result r = WriteBatch(batch, &next); !r.ok()) return r;
  NoteEnd(next, /*tentative=*/true);
  if (Result r = WriteRegionHeader(next); !r.ok()) return r;
  batch->durable = true;
  // Should the new header get lost one day, the old region must not pass for
  // the live one. No flush: the next one, at the latest before this block is
  // written again, covers it, and until then the higher sequence decides.
  RegionHeader old = state->header;
  old.flags = RegionHeader::kTombstone;
  old.successor_nonce = next.header.nonce;
  const uint64_t old_offset = layout_.region_offset[state->region];
  next.must_switch = false;
  *state = next;
  Result result = WriteBlock(old_offset, old.Encode());
  return result.ok() ? result : std::move(result).With("tombstone");
}

bool Journal::TakeKept(const Snapshot& snapshot, Batch* batch) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (FrameBytes(kept_.size()) >
      layout_.region_bytes - snapshot.state.write_offset) {
    return false;
  }
  *batch = Batch();
  batch->operations.swap(kept_);
  batch->first_lsn = snapshot.lsn + 1;
  batch->last_lsn = tail_lsn_;
  batch->durable_sequence = durable_.sequence;
  batch->staged_mark = staged_->mark();
  keeping_ = false;
  pending_.clear();
  return true;
}

Result Journal::WriteSnapshot(const std::vector<std::string>& snapshot, Lsn lsn,
                              State* next) {
  if (snapshot.empty()) return Result::Error(EIO, "an empty snapshot");
  RegionHeader header;
  header.uuid = layout_.uuid;
  Result result = RandomNonce(&header.nonce);
  if (!result.ok()) return result;
  header.first_sequence = next->sequence;
  header.snapshot_frames = static_cast<uint32_t>(snapshot.size());
  for (const std::string& chunk : snapshot) {
    if (chunk.size() > kMaxSnapshotPayload) {
      return Result::Error(EIO, "a piece of the snapshot is too large");
    }
    header.snapshot_bytes += FrameBytes(chunk.size());
  }
  // Far above what admission lets the metadata grow to: a volume whose snapshot
  // did not fit could not even be mounted to delete something.
  if (header.deltas_offset() > layout_.region_bytes / 4 * 3) {
    return Result::Error(ENOSPC, "snapshot of " +
                                     std::to_string(header.snapshot_bytes) +
                                     " bytes does not fit");
  }
  next->header = header;
  next->write_offset = kRegionHeaderBytes;
  next->chain = FirstChain(header.nonce);
  FrameHeader frame;
  frame.last_lsn = lsn;
  frame.durable_sequence = next->sequence - 1;
  for (size_t i = 0; i < snapshot.size(); ++i) {
    const bool last = i + 1 == snapshot.size();
    frame.flags =
        FrameHeader::kSnapshot | (last ? FrameHeader::kSnapshotEnd : 0);
    result = WriteFrame(frame, snapshot[i], Durability::kNone, next);
    if (!result.ok()) return result;
  }
  return Result::Ok();
}

Result Journal::WriteRegionHeader(const State& next) {
  // The header makes the snapshot count, so that comes after it.
  if (Result r = device_->Flush(); !r.ok()) return r;
  if (Result r =
          WriteBlock(layout_.region_offset[next.region], next.header.Encode());
      !r.ok()) {
    return r;
  }
  return device_->Flush();
}

Result Journal::WriteBlock(uint64_t offset, std::string_view block) {
  AlignedBuffer buffer = BufferPool::Get(block.size());
  if (!buffer) return Result::Error(ENOMEM, "block");
  std::copy(block.begin(), block.end(), buffer.data());
  return device_->Write(offset, buffer.data(), block.size(), kIoClassJournal);
}

Lsn Journal::tail_lsn() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return tail_lsn_;
}

Lsn Journal::durable_lsn() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return durable_.lsn;
}

Journal::Mark Journal::written() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {written_lsn_, state_.sequence - 1};
}

void Journal::NoteFlushed(const Mark& mark) {
  std::lock_guard<std::mutex> lock(mutex_);
  NoteDurable(mark);
}

bool Journal::half_used() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return HalfUsed();
}

uint64_t Journal::next_sequence() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return state_.sequence;
}

uint64_t Journal::region_nonce() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return state_.header.nonce;
}

}  // namespace diofs
