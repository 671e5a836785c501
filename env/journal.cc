#include "env/journal.h"

#include <algorithm>
#include <cerrno>

#include "dio/buffer_pool.h"
#include "env/file_kind.h"
#include "env/superblock.h"

namespace diofs {

Result Journal::Format(const std::vector<std::string>& snapshot) {
  State state;
  // No frame of an earlier volume can count, for nonces are random; its header
  // goes so that no reader has to ask whose it is.
  Result result = WriteBlock(layout_.region_offset[1],
                             std::string(kRegionHeaderBytes, '\0'));
  if (result.ok()) result = WriteRegion(0, snapshot, 0, &state);
  if (!result.ok()) return std::move(result).With("journal: format");
  std::lock_guard<std::mutex> lock(mutex_);
  state_ = state;
  return Result::Ok();
}

Lsn Journal::Append(std::string_view operations) {
  std::lock_guard<std::mutex> lock(mutex_);
  // After an error nothing is ever taken from it again.
  if (error_.ok()) pending_.append(operations);
  return ++tail_lsn_;
}

Lsn Journal::TakeForSnapshot() {
  std::lock_guard<std::mutex> lock(mutex_);
  pending_.clear();
  return tail_lsn_;
}

Result Journal::Commit(Lsn lsn, CommitLevel level) {
  // In a forked child the leader of the parent will never be done.
  if (device_->stale()) return Result::Error(ESTALE, "journal: after a fork");
  std::unique_lock<std::mutex> lock(mutex_);
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
    } else if (leading_) {
      committed_cv_.Wait(&lock);
    } else {
      Lead(&lock, /*switch_region=*/false);
    }
  }
}

// Those who wait for the same frame share one flush: the device sees to that.
void Journal::FlushWritten(std::unique_lock<std::mutex>* lock) {
  const Mark mark = {written_lsn_, state_.sequence - 1};
  lock->unlock();
  Result result = device_->Flush();
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
  std::unique_lock<std::mutex> lock(mutex_);
  while (leading_) committed_cv_.Wait(&lock);
  if (error_.ok()) Lead(&lock, /*switch_region=*/true);
  return error_;
}

void Journal::Lead(std::unique_lock<std::mutex>* lock, bool switch_region) {
  leading_ = true;
  Batch batch;
  batch.operations.swap(pending_);
  batch.first_lsn = written_lsn_ + 1;
  batch.last_lsn = tail_lsn_;
  batch.durable_sequence = durable_.sequence;
  batch.through = write_through_ && durable_wanted_lsn_ > written_lsn_ &&
                  durable_.sequence == state_.sequence - 1;
  State state = state_;
  lock->unlock();
  Result result = CarryOut(switch_region, &batch, &state);
  lock->lock();
  if (result.ok()) {
    written_lsn_ = batch.last_lsn;
    if (batch.durable) NoteDurable({batch.last_lsn, state.sequence - 1});
  } else {
    error_ = std::move(result).With("journal");
  }
  state_ = state;
  leading_ = false;
  committed_cv_.NotifyAll();
}

Result Journal::CarryOut(bool switch_region, Batch* batch, State* state) {
  if (state->header.nonce == 0) {
    return Result::Error(EIO, "written to before it was recovered");
  }
  if (switch_region || MustSwitch(*batch, *state)) return Switch(batch, state);
  return WriteBatch(batch, state);
}

// A region is left when it is half used, for recovery reads all of it; one that
// starts with a large snapshot is at least given a quarter for frames.
bool Journal::MustSwitch(const Batch& batch, const State& state) const {
  if (batch.operations.empty()) return false;
  const uint64_t limit =
      std::max(layout_.region_bytes / 2,
               state.header.deltas_offset() + layout_.region_bytes / 4);
  return state.must_switch || state.write_offset > limit ||
         FrameBytes(batch.operations.size()) >
             layout_.region_bytes - state.write_offset;
}

Result Journal::WriteBatch(Batch* batch, State* state) {
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
  ++state->frames_written;
  return Result::Ok();
}

Result Journal::Switch(Batch* batch, State* state) {
  std::vector<std::string> chunks;
  if (!snapshot_) return Result::Error(EIO, "no source of snapshots");
  const Lsn lsn = snapshot_(&chunks);
  if (lsn < batch->last_lsn) {
    return Result::Error(EIO, "snapshot lacks what was appended");
  }
  RegionHeader old_header = state->header;
  const uint64_t old_offset = layout_.region_offset[state->region];
  Result result = WriteRegion(1 - state->region, std::move(chunks), lsn, state);
  if (!result.ok()) return result;
  batch->last_lsn = lsn;
  batch->durable = true;
  // Should the new header get lost one day, the old region must not pass for
  // the live one. No flush: the next one, at the latest before this block is
  // written again, covers it, and until then the higher sequence decides.
  old_header.flags = RegionHeader::kTombstone;
  old_header.successor_nonce = state->header.nonce;
  result = WriteBlock(old_offset, old_header.Encode());
  if (!result.ok()) return std::move(result).With("tombstone");
  return Result::Ok();
}

Result Journal::WriteRegion(uint32_t region, std::vector<std::string> snapshot,
                            Lsn lsn, State* state) {
  if (snapshot.empty()) snapshot.emplace_back();
  RegionHeader header;
  header.uuid = layout_.uuid;
  Result result = RandomNonce(&header.nonce);
  if (!result.ok()) return result;
  header.first_sequence = state->sequence;
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
  State next = *state;
  next.region = region;
  next.header = header;
  next.write_offset = kRegionHeaderBytes;
  next.chain = FirstChain(header.nonce);
  FrameHeader frame;
  frame.last_lsn = lsn;
  frame.durable_sequence = state->sequence - 1;
  for (size_t i = 0; i < snapshot.size(); ++i) {
    const bool last = i + 1 == snapshot.size();
    frame.flags =
        FrameHeader::kSnapshot | (last ? FrameHeader::kSnapshotEnd : 0);
    result = WriteFrame(frame, snapshot[i], Durability::kNone, &next);
    if (!result.ok()) return result;
  }
  // The header makes the snapshot count, so that comes after it.
  result = device_->Flush();
  if (!result.ok()) return result;
  result = WriteBlock(layout_.region_offset[region], header.Encode());
  if (!result.ok()) return result;
  result = device_->Flush();
  if (!result.ok()) return result;
  next.must_switch = false;
  *state = next;
  return Result::Ok();
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

uint64_t Journal::next_sequence() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return state_.sequence;
}

uint64_t Journal::region_nonce() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return state_.header.nonce;
}

uint64_t Journal::frames_written() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return state_.frames_written;
}

}  // namespace diofs
