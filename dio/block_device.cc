#include "dio/block_device.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dio/align.h"
#include "dio/dio.h"
#include "dio/plug.h"

namespace diofs {
namespace {

bool Acceptable(const Bio& bio, const Geometry& geometry) {
  if (bio.bytes() == 0 || bio.bytes() > geometry.device_bytes ||
      bio.device_offset() > geometry.device_bytes - bio.bytes() ||
      !IsAligned(bio.device_offset(), geometry.offset_align_bytes)) {
    return false;
  }
  for (uint32_t i = 0; i < bio.segment_count(); ++i) {
    const iovec& segment = bio.segments()[i];
    if (!IsAligned(segment.iov_base, geometry.memory_align_bytes) ||
        !IsAligned(segment.iov_len, geometry.offset_align_bytes)) {
      return false;
    }
  }
  return true;
}

void Count(const Bio& bio, IoStats* stats) {
  IoCounters& counters =
      stats->by_class[std::min<size_t>(bio.io_class(), kIoClasses - 1)];
  if (bio.direction() == IoDirection::kRead) {
    counters.reads.fetch_add(1, std::memory_order_relaxed);
    counters.read_bytes.fetch_add(bio.bytes(), std::memory_order_relaxed);
  } else {
    counters.writes.fetch_add(1, std::memory_order_relaxed);
    counters.write_bytes.fetch_add(bio.bytes(), std::memory_order_relaxed);
  }
}

}  // namespace

BlockDevice::BlockDevice(std::string name, const Geometry& geometry)
    : name_(std::move(name)), geometry_(geometry) {}

void BlockDevice::Submit(Bio* const* bios, size_t count) {
  if (stale()) {
    for (size_t i = 0; i < count; ++i) bios[i]->End(-ESTALE);
    return;
  }
  // Runs of acceptable bios go on together; in practice that is all of them.
  size_t first = 0;
  for (size_t i = 0; i < count; ++i) {
    if (Acceptable(*bios[i], geometry_)) {
      Count(*bios[i], &stats_);
      continue;
    }
    if (i > first) DoSubmit(bios + first, i - first);
    bios[i]->End(-EINVAL);
    first = i + 1;
  }
  if (count > first) DoSubmit(bios + first, count - first);
}

Result BlockDevice::Read(uint64_t offset, void* memory, size_t bytes,
                         IoClass io_class) {
  return Transfer(IoDirection::kRead, offset, memory, bytes, io_class);
}

Result BlockDevice::Write(uint64_t offset, const void* memory, size_t bytes,
                          IoClass io_class) {
  // iovec is not const-correct; a write only reads the memory.
  return Transfer(IoDirection::kWrite, offset, const_cast<void*>(memory), bytes,
                  io_class);
}

Result BlockDevice::Transfer(IoDirection direction, uint64_t offset,
                             void* memory, size_t bytes, IoClass io_class) {
  const std::string what = direction == IoDirection::kRead ? "read" : "write";
  const auto fail = [&](Result result) {
    return std::move(result).With(name_ + ": " + what + " of " +
                                  std::to_string(bytes) + " bytes at " +
                                  std::to_string(offset));
  };
  if (stale()) return fail(Result::Error(ESTALE));
  uint64_t end = 0;
  if (!CheckedAdd(offset, bytes, &end) || end > geometry_.device_bytes) {
    return fail(Result::Error(EINVAL));
  }
  Dio dio(this);
  dio.bytes_ = bytes;
  dio.refs_.store(1, std::memory_order_relaxed);
  {
    Plug plug(this);
    char* next = static_cast<char*>(memory);
    for (uint64_t position = offset; position < end;) {
      Bio* const bio = BioPool::Get();
      const uint32_t limit = geometry_.MaxBioBytesAt(position);
      bio->Reset(&dio, direction, io_class, position, limit, 1);
      const auto length =
          static_cast<uint32_t>(std::min<uint64_t>(limit, end - position));
      bio->Append(next, length);
      next += length;
      position += length;
      dio.Ref();
      plug.Add(bio);
    }
  }
  dio.Unref();
  if (!dio.done()) Wait(&dio);
  const int error = dio.error_.load(std::memory_order_relaxed);
  if (error != 0) return fail(Result::Error(error));
  return Result::Bytes(bytes);
}

Result BlockDevice::Flush() {
  if (stale()) return Result::Error(ESTALE, name_ + ": flush after a fork");
  Result result = flush_epoch_.Flush([this] {
    stats_.flushes.fetch_add(1, std::memory_order_relaxed);
    return DoFlush();
  });
  if (result.ok()) return result;
  return std::move(result).With(name_ + ": flush");
}

Result BlockDevice::Discard(uint64_t offset, uint64_t bytes) {
  const auto fail = [&](Result result) {
    return std::move(result).With(name_ + ": discard of " +
                                  std::to_string(bytes) + " bytes at " +
                                  std::to_string(offset));
  };
  if (stale()) return fail(Result::Error(ESTALE));
  if (!geometry_.discard) return fail(Result::Error(EOPNOTSUPP));
  uint64_t end = 0;
  if (!CheckedAdd(offset, bytes, &end) || end > geometry_.device_bytes ||
      !IsAligned(offset, geometry_.logical_block_bytes) ||
      !IsAligned(bytes, geometry_.logical_block_bytes)) {
    return fail(Result::Error(EINVAL));
  }
  if (bytes == 0) return Result::Ok();
  stats_.discards.fetch_add(1, std::memory_order_relaxed);
  stats_.discard_bytes.fetch_add(bytes, std::memory_order_relaxed);
  Result result = DoDiscard(offset, bytes);
  if (result.ok()) return result;
  return fail(std::move(result));
}

}  // namespace diofs
