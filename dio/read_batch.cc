#include "dio/read_batch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "dio/align.h"
#include "dio/block_device.h"
#include "dio/plug.h"

namespace diofs {
namespace {

// A bounce buffer for neighbours grows to this; a single range may be longer.
constexpr uint64_t kMaxMergedBytes = 1 << 20;
// An unaligned read on the calling thread goes through the buffer in pieces.
constexpr uint64_t kBouncePieceBytes = 1 << 20;

// Bytes of [offset, offset + length) that lie inside the file.
size_t InsideFile(uint64_t offset, size_t length, uint64_t file_size) {
  if (offset >= file_size) return 0;
  return static_cast<size_t>(std::min<uint64_t>(length, file_size - offset));
}

bool IsDirect(const Geometry& geometry, uint64_t offset, size_t length,
              const char* memory) {
  return IsAligned(offset, geometry.logical_block_bytes) &&
         IsAligned(length, geometry.logical_block_bytes) &&
         IsAligned(memory, geometry.memory_align_bytes);
}

DioRequest MakeRequest(const ReadBatch::File& file, uint64_t offset,
                       const iovec* segments, int segment_count, bool async) {
  DioRequest request;
  request.io_class = file.io_class;
  request.ioprio = file.ioprio;
  request.offset = offset;
  request.segments = segments;
  request.segment_count = segment_count;
  request.file_size = file.file_size;
  request.mapper = file.mapper;
  request.block_bytes = file.block_bytes;
  request.async = async;
  request.waiter = async ? Waiter::kAnyThread : Waiter::kSubmitter;
  return request;
}

Result ReadDirect(const ReadBatch::File& file, uint64_t offset, char* memory,
                  size_t length) {
  const iovec segment = {memory, length};
  Dio dio(file.device);
  {
    Plug plug(file.device);
    (void)dio.Submit(MakeRequest(file, offset, &segment, 1, false), &plug);
  }
  return dio.Wait();
}

bool Readable(const std::vector<BadRange>& bad, const ReadRange& range,
              size_t bytes) {
  return std::none_of(bad.begin(), bad.end(), [&](const BadRange& hole) {
    return hole.file_offset < range.offset + bytes &&
           range.offset < hole.file_offset + hole.bytes;
  });
}

// A bounce buffer, counted while it is out.
class Bounce {
 public:
  Bounce(BlockDevice* device, size_t bytes)
      : device_(device), buffer_(BufferPool::Get(bytes)) {
    device_->stats().bounces.fetch_add(1, std::memory_order_relaxed);
  }
  Bounce(const Bounce&) = delete;
  Bounce& operator=(const Bounce&) = delete;
  ~Bounce() {
    device_->stats().bounces.fetch_sub(1, std::memory_order_relaxed);
  }
  explicit operator bool() const { return static_cast<bool>(buffer_); }
  char* data() { return buffer_.data(); }
  size_t size() const { return buffer_.size(); }

 private:
  BlockDevice* const device_;
  AlignedBuffer buffer_;
};

}  // namespace

struct ReadBatch::Extent {
  explicit Extent(BlockDevice* device) : dio(device) {}

  // The device blocks around the ranges: [offset, end) of the file.
  uint64_t offset = 0;
  uint64_t end = 0;
  size_t first = 0;  // in sorted_
  size_t last = 0;
  bool direct = false;
  Result error;  // where it could not even be submitted
  std::optional<Bounce> bounce;
  // After the buffer: waits for the device before the buffer goes.
  Dio dio;
};

ReadBatch::ReadBatch() = default;

// Each Dio waits for its bios, so nothing moves into freed memory. The ranges
// may be gone by now and are left alone.
ReadBatch::~ReadBatch() = default;

void ReadBatch::Submit(const File& file, ReadRange* ranges, size_t count,
                       bool async) {
  Wait();
  device_ = file.device;
  file_size_ = file.file_size;
  waited_ = false;
  Gather(ranges, count);
  Plug plug(device_);
  for (const auto& extent : extents_) {
    SubmitExtent(file, async, extent.get(), &plug);
  }
}

// Sorts the ranges and cuts them into extents.
void ReadBatch::Gather(ReadRange* ranges, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    ReadRange* const range = &ranges[i];
    range->result = Result::Bytes(0);
    if (InsideFile(range->offset, range->length, file_size_) > 0) {
      sorted_.push_back(range);
    }
  }
  std::stable_sort(sorted_.begin(), sorted_.end(),
                   [](const ReadRange* a, const ReadRange* b) {
                     return a->offset < b->offset;
                   });
  const Geometry& geometry = device_->geometry();
  for (size_t i = 0; i < sorted_.size(); ++i) {
    const ReadRange& range = *sorted_[i];
    const bool direct =
        IsDirect(geometry, range.offset, range.length, range.memory);
    const uint64_t offset =
        AlignDown(range.offset, geometry.logical_block_bytes);
    const uint64_t inside = InsideFile(range.offset, range.length, file_size_);
    const uint64_t end =
        AlignUp(range.offset + inside, geometry.logical_block_bytes);
    Extent* const before = extents_.empty() ? nullptr : extents_.back().get();
    if (before != nullptr && before->direct == direct &&
        (direct ? offset == before->end
                : offset <= before->end &&
                      std::max(end, before->end) - before->offset <=
                          kMaxMergedBytes)) {
      before->end = std::max(end, before->end);
      before->last = i;
      continue;
    }
    extents_.push_back(std::make_unique<Extent>(device_));
    Extent* const extent = extents_.back().get();
    extent->offset = offset;
    extent->end = end;
    extent->first = extent->last = i;
    extent->direct = direct;
  }
}

void ReadBatch::SubmitExtent(const File& file, bool async, Extent* extent,
                             Plug* plug) {
  if (extent->direct) {
    std::vector<iovec> segments;
    segments.reserve(extent->last - extent->first + 1);
    for (size_t i = extent->first; i <= extent->last; ++i) {
      const ReadRange& range = *sorted_[i];
      // Cut at the block that holds the end of the file.
      segments.push_back(
          {range.memory,
           std::min<size_t>(range.length, extent->end - range.offset)});
    }
    extent->dio.Submit(MakeRequest(file, extent->offset, segments.data(),
                                   static_cast<int>(segments.size()), async),
                       plug);
    return;
  }
  const size_t bytes = extent->end - extent->offset;
  extent->bounce.emplace(device_, bytes);
  if (!*extent->bounce) {
    extent->error = Result::Error(ENOMEM, device_->name());
    return;
  }
  const iovec segment = {extent->bounce->data(), bytes};
  extent->dio.Submit(MakeRequest(file, extent->offset, &segment, 1, async),
                     plug);
}

void ReadBatch::Wait() {
  if (waited_) return;
  waited_ = true;
  uint32_t in_flight = 0;
  for (const auto& extent : extents_) in_flight += extent->dio.bios_in_flight();
  for (const auto& extent : extents_) Complete(extent.get(), in_flight);
  extents_.clear();
  sorted_.clear();
}

void ReadBatch::Complete(Extent* extent, uint32_t wait_nr) {
  const Result result =
      extent->error.ok() ? extent->dio.Wait(wait_nr) : extent->error;
  // Of neighbours that were read together only those fail that hold a block
  // which cannot be read.
  const std::vector<BadRange>& bad = extent->dio.unreadable();
  const bool partly_read = !bad.empty();
  const uint64_t end =
      extent->offset +
      (partly_read ? extent->end - extent->offset : result.bytes());
  for (size_t i = extent->first; i <= extent->last; ++i) {
    ReadRange* const range = sorted_[i];
    const size_t bytes =
        InsideFile(range->offset, range->length, std::min(end, file_size_));
    if (!result.ok() && !(partly_read && Readable(bad, *range, bytes))) {
      range->result = result;
      continue;
    }
    if (!extent->direct) {
      std::memcpy(range->memory,
                  extent->bounce->data() + (range->offset - extent->offset),
                  bytes);
      device_->stats().bounced_bytes.fetch_add(bytes,
                                               std::memory_order_relaxed);
    }
    range->result = Result::Bytes(bytes);
    // Short though the file goes on: there was no memory for more.
    if (bytes < InsideFile(range->offset, range->length, file_size_)) {
      range->result = Result::Error(EFAULT).With(device_->name());
    }
  }
}

bool ReadBatch::done() const {
  return std::all_of(extents_.begin(), extents_.end(),
                     [](const auto& extent) { return extent->dio.done(); });
}

Result ReadRangeNow(const ReadBatch::File& file, uint64_t offset, size_t length,
                    char* memory) {
  const Geometry& geometry = file.device->geometry();
  const uint64_t inside = InsideFile(offset, length, file.file_size);
  if (inside == 0) return Result::Bytes(0);
  if (IsDirect(geometry, offset, length, memory)) {
    return ReadDirect(file, offset, memory,
                      AlignUp(inside, geometry.logical_block_bytes));
  }
  const uint32_t block_bytes = geometry.logical_block_bytes;
  const uint64_t end = offset + inside;
  const uint64_t blocks_bytes =
      AlignUp(end, block_bytes) - AlignDown(offset, block_bytes);
  Bounce bounce(file.device, std::min(blocks_bytes, kBouncePieceBytes));
  if (!bounce) return Result::Error(ENOMEM, file.device->name());
  for (uint64_t position = offset; position < end;) {
    const uint64_t start = AlignDown(position, block_bytes);
    const uint64_t bytes =
        std::min<uint64_t>(AlignUp(end, block_bytes) - start, bounce.size());
    Result result = ReadDirect(file, start, bounce.data(), bytes);
    if (!result.ok()) return result;
    const uint64_t moved = std::min(start + result.bytes(), end) - position;
    std::memcpy(memory, bounce.data() + (position - start), moved);
    memory += moved;
    position += moved;
  }
  file.device->stats().bounced_bytes.fetch_add(inside,
                                               std::memory_order_relaxed);
  return Result::Bytes(inside);
}

}  // namespace diofs
