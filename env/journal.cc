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
  while (true) {
    if (!error_.ok()) return error_;
    if ((durable ? durable_lsn_ : written_lsn_) >= lsn) return Result::Ok();
    if (durable) durable_wanted_lsn_ = std::max(durable_wanted_lsn_, lsn);
    if (leading_) {
      committed_cv_.Wait(&lock);
    } else {
      Lead(&lock, /*switch_region=*/false);
    }
  }
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
  batch.barrier = durable_wanted_lsn_ > durable_lsn_;
  State state = state_;
  lock->unlock();
  Result result = CarryOut(switch_region, &batch, &state);
  lock->lock();
  if (result.ok()) {
    written_lsn_ = batch.last_lsn;
    if (batch.barrier) durable_lsn_ = batch.last_lsn;
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
  return WriteBatch(*batch, state);
}

// Whether a frame has to be written: one without operations is a barrier for
// the frames before it.
bool Journal::HasWork(const Batch& batch, const State& state) const {
  return !batch.operations.empty() || (batch.barrier && state.unbarriered);
}

// A region is left when it is half used, for recovery reads all of it; one that
// starts with a large snapshot is at least given a quarter for frames.
bool Journal::MustSwitch(const Batch& batch, const State& state) const {
  if (!HasWork(batch, state)) return false;
  const uint64_t limit =
      std::max(layout_.region_bytes / 2,
               state.header.deltas_offset() + layout_.region_bytes / 4);
  return state.must_switch || state.write_offset > limit ||
         FrameBytes(batch.operations.size()) >
             layout_.region_bytes - state.write_offset;
}

Result Journal::WriteBatch(const Batch& batch, State* state) {
  if (batch.barrier) {
    Result result = device_->Flush();
    if (!result.ok()) return result;
    state->durable_sequence = state->sequence - 1;
  }
  if (HasWork(batch, *state)) {
    FrameHeader header;
    header.flags = batch.barrier ? FrameHeader::kBarrier : 0;
    header.first_lsn = batch.first_lsn;
    header.last_lsn = batch.last_lsn;
    Result result = WriteFrame(header, batch.operations, state);
    if (!result.ok()) return result;
    state->unbarriered = !batch.barrier;
  }
  if (!batch.barrier) return Result::Ok();
  Result result = device_->Flush();
  if (!result.ok()) return result;
  state->durable_sequence = state->sequence - 1;
  return Result::Ok();
}

Result Journal::WriteFrame(FrameHeader header, std::string_view payload,
                           State* state) {
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
  header.durable_sequence = state->durable_sequence;
  header.chain = state->chain;
  header.EncodeFrame(payload, buffer.data());
  Result result =
      device_->Write(layout_.region_offset[state->region] + state->write_offset,
                     buffer.data(), frame_bytes, kIoClassJournal);
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
  batch->barrier = true;
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
  for (size_t i = 0; i < snapshot.size(); ++i) {
    const bool last = i + 1 == snapshot.size();
    frame.flags =
        FrameHeader::kSnapshot | (last ? FrameHeader::kSnapshotEnd : 0);
    result = WriteFrame(frame, snapshot[i], &next);
    if (!result.ok()) return result;
  }
  // The first flush covers the snapshot and the data it names; the header that
  // follows makes it count.
  result = device_->Flush();
  if (!result.ok()) return result;
  result = WriteBlock(layout_.region_offset[region], header.Encode());
  if (!result.ok()) return result;
  result = device_->Flush();
  if (!result.ok()) return result;
  next.durable_sequence = next.sequence - 1;
  next.unbarriered = false;
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
  return durable_lsn_;
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
