#include "dio/dio_submit.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dio/align.h"
#include "dio/block_device.h"
#include "dio/plug.h"

namespace diofs {
namespace {

// What every padding is written from. Constant, so that nothing can soil it.
constexpr uint32_t kZeroBytes = 64 * 1024;
alignas(4096) const char kZeros[kZeroBytes] = {};

// The largest piece Bio::Append is offered at a time.
constexpr uint64_t kMaxAppendBytes = 1 << 30;

}  // namespace

DioSubmit::DioSubmit(Dio* dio, const DioRequest& request, Plug* plug)
    : dio_(dio),
      request_(request),
      geometry_(dio->device_->geometry()),
      plug_(plug) {}

void DioSubmit::Walk() {
  if (!CheckRequest()) return;
  for (int i = 0; i < request_.segment_count && position_ < end_; ++i) {
    const iovec& segment = request_.segments[i];
    if (!WalkSegment(static_cast<char*>(segment.iov_base), segment.iov_len)) {
      break;
    }
  }
  // After an error there is no partial block to care for: a walk stops at the
  // start of a mapping, hence of a block, and what a write has covered of new
  // blocks is not published by a caller that was told of the error.
  if (!Failed()) ZeroTail();
  const bool at_boundary =
      mapping_.boundary &&
      AlignUp(position_, request_.block_bytes) == mapping_end_;
  SendBio();
  if (at_boundary) plug_->Finish();
}

// False where nothing is to be done: with an error, or for 0 bytes.
bool DioSubmit::CheckRequest() {
  const bool read = request_.direction == IoDirection::kRead;
  uint64_t total = 0;
  uint64_t request_end = 0;
  for (int i = 0; i < request_.segment_count; ++i) {
    if (!CheckedAdd(total, request_.segments[i].iov_len, &total)) {
      return Fail(EINVAL);
    }
  }
  // File offsets are off_t; so no rounding up below can overflow either.
  if (!CheckedAdd(request_.offset, total, &request_end) ||
      request_end > INT64_MAX - 2 * uint64_t{request_.block_bytes}) {
    return Fail(EINVAL);
  }
  if (total == 0) return false;
  // Before the alignment is looked at: at the end of the file any read is fine.
  if (read && request_.offset >= request_.file_size) return false;
  if (request_.mapper == nullptr || !IsPowerOfTwo(request_.block_bytes) ||
      request_.block_bytes < geometry_.logical_block_bytes) {
    return Fail(EINVAL);
  }
  if (!IsAligned(request_.offset, geometry_.offset_align_bytes)) {
    return Fail(EINVAL);
  }
  for (int i = 0; i < request_.segment_count; ++i) {
    const iovec& segment = request_.segments[i];
    if (segment.iov_len == 0) continue;
    if (!IsAligned(segment.iov_base, geometry_.memory_align_bytes) ||
        !IsAligned(segment.iov_len, geometry_.offset_align_bytes)) {
      return Fail(EINVAL);
    }
  }
  position_ = request_.offset;
  end_ = request_end;
  dio_->bytes_ = total;
  if (read && request_end > request_.file_size) {
    // The blocks behind the one that holds the end belong to somebody else.
    end_ = std::min(request_end,
                    AlignUp(request_.file_size, geometry_.logical_block_bytes));
    dio_->bytes_ = request_.file_size - request_.offset;
  }
  return true;
}

bool DioSubmit::WalkSegment(char* memory, uint64_t length) {
  const bool write = request_.direction == IoDirection::kWrite;
  length = std::min(length, end_ - position_);
  while (length > 0) {
    if (position_ >= mapping_end_ && !MapMore()) return false;
    const uint64_t section = std::min(length, mapping_end_ - position_);
    if (mapping_.state == BlockState::kMapped || write) {
      if (!AddSection(DeviceOffset(position_), memory, section)) return false;
    } else {
      std::memset(memory, 0, section);
    }
    memory += section;
    length -= section;
    position_ += section;
    if (position_ == mapping_end_ && mapping_.boundary) {
      SendBio();
      plug_->Finish();
    }
  }
  return true;
}

// Asks the mapper for the blocks from position_ on and checks its answer.
bool DioSubmit::MapMore() {
  // A bio may have failed meanwhile; then nothing more is started.
  if (Failed()) return false;
  const bool write = request_.direction == IoDirection::kWrite;
  const uint64_t block_bytes = request_.block_bytes;
  const uint64_t first = position_ / block_bytes;
  const uint64_t count = DivideRoundUp(end_, block_bytes) - first;
  mapping_ = BlockMapping();
  const Result result =
      request_.mapper->GetBlocks(first, count, write, &mapping_);
  if (!result.ok()) return Fail(result.error());
  if (mapping_.count < 1 || mapping_.count > count) return Fail(EIO);
  switch (mapping_.state) {
    case BlockState::kHole:
      // Nowhere to put it: the caller allocates, or finishes in another way.
      if (write) return Fail(ENOTBLK);
      break;
    case BlockState::kMapped:
    case BlockState::kUnwritten:
    case BlockState::kNew: {
      const uint64_t device_blocks = geometry_.device_bytes / block_bytes;
      if (mapping_.device_block >= device_blocks ||
          mapping_.count > device_blocks - mapping_.device_block) {
        return Fail(EIO);
      }
      break;
    }
    default:
      return Fail(EIO);
  }
  mapping_start_ = first * block_bytes;
  mapping_end_ = mapping_start_ + mapping_.count * block_bytes;
  return !write || ZeroHead();
}

// Queues `length` bytes for the device, in the current bio where they follow
// it. In a file they follow by construction: a walk goes in file order.
bool DioSubmit::AddSection(uint64_t device_offset, char* memory,
                           uint64_t length) {
  while (length > 0) {
    if (bio_ != nullptr && bio_->device_end() != device_offset) SendBio();
    const bool fresh = bio_ == nullptr;
    if (fresh) NewBio(device_offset);
    const uint32_t taken = bio_->Append(
        memory, static_cast<uint32_t>(std::min(length, kMaxAppendBytes)));
    if (taken == 0) {
      SendBio();
      // A geometry without room for a single block.
      if (fresh) return Fail(EIO);
      continue;
    }
    device_offset += taken;
    memory += taken;
    length -= taken;
  }
  return true;
}

bool DioSubmit::AddZeros(uint64_t device_offset, uint64_t length) {
  while (length > 0) {
    const uint64_t piece = std::min<uint64_t>(length, kZeroBytes);
    if (!AddSection(device_offset, const_cast<char*>(kZeros), piece)) {
      return false;
    }
    device_offset += piece;
    length -= piece;
  }
  return true;
}

// FS block 4096, device block 512: a write of 1024 bytes at offset 512 of a new
// block covers sectors 1 and 2; sector 0 (here) and 3 to 7 (ZeroTail) must
// reach the device as zeros, or a later read shows what the block's previous
// owner left there.
bool DioSubmit::ZeroHead() {
  // Only the first mapping of a request starts in the middle of a block.
  if (mapping_.state == BlockState::kMapped) return true;
  return AddZeros(DeviceOffset(mapping_start_), position_ - mapping_start_);
}

void DioSubmit::ZeroTail() {
  const uint64_t tail = AlignUp(end_, request_.block_bytes) - end_;
  if (request_.direction == IoDirection::kRead || tail == 0) return;
  // A block written before holds good bytes behind the request, but only up to
  // the end of the file.
  if (mapping_.state == BlockState::kMapped && end_ < request_.file_size) {
    return;
  }
  AddZeros(DeviceOffset(end_), tail);
}

uint64_t DioSubmit::DeviceOffset(uint64_t position) const {
  return mapping_.device_block * request_.block_bytes +
         (position - mapping_start_);
}

void DioSubmit::NewBio(uint64_t device_offset) {
  bio_ = BioPool::Get();
  // Zeros around a partial block shall not cost a second request.
  const bool may_pad = request_.direction == IoDirection::kWrite &&
                       request_.block_bytes > geometry_.logical_block_bytes;
  bio_->Reset(dio_, request_.direction, request_.io_class, device_offset,
              geometry_.MaxBioBytesAt(device_offset),
              geometry_.max_bio_segments + (may_pad ? 2 : 0));
}

void DioSubmit::SendBio() {
  if (bio_ == nullptr) return;
  if (bio_->bytes() == 0) {
    BioPool::Put(bio_);
  } else {
    dio_->Ref();
    plug_->Add(bio_);
  }
  bio_ = nullptr;
}

bool DioSubmit::Fail(int error) {
  dio_->SetError(error);
  return false;
}

bool DioSubmit::Failed() const {
  return dio_->error_.load(std::memory_order_relaxed) != 0;
}

}  // namespace diofs
