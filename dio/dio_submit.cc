#include "dio/dio_submit.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "dio/align.h"
#include "dio/block_device.h"
#include "dio/plug.h"

namespace diofs {
namespace {

// What every padding is written from. Constant, so that nothing can soil it.
constexpr uint32_t kZeroBytes = 64 * 1024;
alignas(4096) const char kZeros[kZeroBytes] = {};

// The largest piece Bio::TryAppend is offered at a time.
constexpr uint64_t kMaxAppendBytes = 1 << 30;

}  // namespace

DioSubmit::DioSubmit(Dio* dio, const DioRequest& request, Plug* plug)
    : dio_(dio),
      request_(request),
      geometry_(dio->device_->geometry()),
      plug_(plug),
      write_(request.direction == IoDirection::kWrite),
      cursor_(request.segments, request.segment_count) {}

void DioSubmit::Walk() {
  try {
    WalkRequest();
  } catch (const std::bad_alloc&) {
    (void)Fail(ENOMEM);
    SendBio();
  }
}

void DioSubmit::WalkRequest() {
  if (!CheckRequest()) return;
  while (position_ < end_ && MapMore() && WalkMapping()) {
  }
  // Cut short there is no partial block to care for: a walk stops at the start
  // of a mapping, hence of a block, and new blocks are published by an observer
  // that hears how far the request came.
  if (position_ == end_) ZeroTail();
  const bool at_boundary =
      mapping_.boundary &&
      AlignUp(position_, request_.block_bytes) == mapping_end_;
  SendBio();
  if (at_boundary) plug_->Finish();
}

// False where nothing is to be done: with an error, or for 0 bytes.
bool DioSubmit::CheckRequest() {
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
  if (!write_ && request_.offset >= dio_->file_size_) return false;
  if (request_.mapper == nullptr || !IsPowerOfTwo(request_.block_bytes) ||
      request_.block_bytes < geometry_.logical_block_bytes ||
      !geometry_.Admits(request_.offset, request_.segments,
                        request_.segment_count)) {
    return Fail(EINVAL);
  }
  position_ = request_.offset;
  end_ = request_end;
  if (!write_ && request_end > dio_->file_size_) {
    // The blocks behind the one that holds the end belong to somebody else.
    end_ = std::min(request_end,
                    AlignUp(dio_->file_size_, geometry_.logical_block_bytes));
  }
  if (write_ && request_.write_mode == WriteMode::kOverwriteOnly &&
      end_ > dio_->file_size_) {
    return Fail(EAGAIN);
  }
  dio_->needs_flush_ =
      write_ && request_.durability != Durability::kNone &&
      (request_.durability == Durability::kFlush || !dio_->device_->CanFua());
  return true;
}

// Moves what the current mapping covers of the request.
bool DioSubmit::WalkMapping() {
  const uint64_t stop = std::min(end_, mapping_end_);
  const bool on_device = mapping_.state == BlockState::kMapped || write_;
  while (position_ < stop) {
    const iovec piece = cursor_.Next(stop - position_);
    char* const memory = static_cast<char*>(piece.iov_base);
    if (on_device) {
      if (!AddSection(position_, memory, piece.iov_len)) return false;
    } else {
      std::memset(memory, 0, piece.iov_len);
    }
    position_ += piece.iov_len;
    dio_->bytes_ += piece.iov_len;
  }
  if (position_ == mapping_end_ && mapping_.boundary) {
    SendBio();
    plug_->Finish();
  }
  return true;
}

// Asks the mapper for the blocks from position_ on.
bool DioSubmit::MapMore() {
  // A bio may have failed meanwhile; then nothing more is started, and the
  // mapper is left alone.
  if (BioFailed()) return false;
  if (!AskMapper()) return false;
  if (!write_) return true;
  return CheckWritable() && ZeroHead();
}

bool DioSubmit::AskMapper() {
  const uint64_t block_bytes = request_.block_bytes;
  const uint64_t first = position_ / block_bytes;
  uint64_t count = DivideRoundUp(end_, block_bytes) - first;
  bool create = write_;
  switch (request_.write_mode) {
    case WriteMode::kAllocate:
      break;
    case WriteMode::kOverwriteOnly:
      create = false;
      break;
    case WriteMode::kSkipHoles:
      if (write_ && InsideFile(first)) {
        create = false;
        const uint64_t inside =
            (dio_->file_size_ - 1) / block_bytes + 1 - first;
        count = std::min(count, inside);
      }
      break;
  }
  mapping_ = BlockMapping();
  dio_->MakeRoomForReservation();
  const Result result =
      request_.mapper->GetBlocks(first, count, create, &mapping_);
  if (!result.ok()) return Fail(result.error());
  if (mapping_.reservation != 0) dio_->AddReservation(mapping_.reservation);
  mapping_start_ = first * block_bytes;
  mapping_end_ = mapping_start_;
  if (!CheckMapping(count)) return Fail(EIO);
  mapping_end_ += mapping_.count * block_bytes;
  return true;
}

bool DioSubmit::CheckMapping(uint64_t count) {
  if (mapping_.count < 1 || mapping_.count > count) return false;
  if (mapping_.state == BlockState::kHole) return true;
  if (mapping_.state > BlockState::kNew) return false;
  const uint64_t device_blocks = geometry_.device_bytes / request_.block_bytes;
  return mapping_.device_block < device_blocks &&
         mapping_.count <= device_blocks - mapping_.device_block;
}

// What a write may do with the current mapping.
bool DioSubmit::CheckWritable() {
  if (mapping_.state == BlockState::kMapped) return true;
  if (request_.write_mode == WriteMode::kOverwriteOnly) return Fail(EAGAIN);
  if (mapping_.state == BlockState::kHole) {
    // Nowhere to put it: the caller allocates, or finishes in another way.
    dio_->fallback_ = true;
    return false;
  }
  // Metadata will have to follow, so writing through would not be enough.
  if (request_.durability != Durability::kNone) dio_->needs_flush_ = true;
  return true;
}

// Queues `length` bytes for the device, in the current bio where they follow
// it.
bool DioSubmit::AddSection(uint64_t position, char* memory, uint64_t length) {
  while (length > 0) {
    const bool fresh = bio_ == nullptr;
    if (fresh) NewBio(position);
    const uint32_t taken = bio_->TryAppend(
        position, DeviceOffset(position), memory,
        static_cast<uint32_t>(std::min(length, kMaxAppendBytes)));
    if (taken == 0) {
      SendBio();
      // A geometry without room for a single block.
      if (fresh) return Fail(EIO);
      continue;
    }
    position += taken;
    memory += taken;
    length -= taken;
  }
  return true;
}

bool DioSubmit::AddZeros(uint64_t position, uint64_t length) {
  dio_->device_->stats().padding_bytes.fetch_add(length,
                                                 std::memory_order_relaxed);
  while (length > 0) {
    const uint64_t piece = std::min<uint64_t>(length, kZeroBytes);
    if (!AddSection(position, const_cast<char*>(kZeros), piece)) return false;
    position += piece;
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
  const uint64_t head = position_ - mapping_start_;
  if (mapping_.state == BlockState::kMapped || head == 0) return true;
  return AddZeros(mapping_start_, head);
}

void DioSubmit::ZeroTail() {
  const uint64_t tail = AlignUp(end_, request_.block_bytes) - end_;
  if (!write_ || tail == 0) return;
  // A block written before holds good bytes behind the request, but only up to
  // the end of the file.
  if (mapping_.state == BlockState::kMapped && end_ < dio_->file_size_) {
    return;
  }
  (void)AddZeros(end_, tail);
}

bool DioSubmit::InsideFile(uint64_t block) const {
  return dio_->file_size_ > 0 &&
         block <= (dio_->file_size_ - 1) / request_.block_bytes;
}

uint64_t DioSubmit::DeviceOffset(uint64_t position) const {
  return mapping_.device_block * request_.block_bytes +
         (position - mapping_start_);
}

void DioSubmit::NewBio(uint64_t position) {
  BioHead head;
  head.dio = dio_;
  head.direction = request_.direction;
  head.io_class = request_.io_class;
  head.ioprio = request_.ioprio;
  head.fua =
      write_ && request_.durability == Durability::kFua && !dio_->needs_flush_;
  head.file_offset = position;
  head.device_offset = DeviceOffset(position);
  head.max_bytes = geometry_.MaxBioBytesAt(head.device_offset);
  // Zeros around a partial block shall not cost a second request.
  const bool may_pad =
      write_ && request_.block_bytes > geometry_.logical_block_bytes;
  head.max_segments = geometry_.max_bio_segments + (may_pad ? 2 : 0);
  bio_ = dio_->device_->GetBio(plug_);
  bio_->Reset(head);
}

void DioSubmit::SendBio() {
  if (bio_ == nullptr) return;
  if (bio_->bytes() == 0) {
    dio_->device_->PutBio(bio_);
  } else {
    dio_->Ref();
    plug_->Add(bio_);
  }
  bio_ = nullptr;
}

bool DioSubmit::Fail(int error) {
  dio_->submit_error_ = error;
  return false;
}

bool DioSubmit::BioFailed() const {
  return dio_->io_error_.load(std::memory_order_relaxed) != 0 ||
         dio_->source_error_.load(std::memory_order_relaxed) != 0;
}

}  // namespace diofs
