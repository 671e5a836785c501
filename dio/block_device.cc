#include "dio/block_device.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dio/align.h"
#include "dio/annotate.h"
#include "dio/dio.h"
#include "dio/identity_mapper.h"
#include "dio/plug.h"

namespace diofs {
namespace {

bool Acceptable(const Bio& bio, const Geometry& geometry) {
  return bio.bytes() > 0 && bio.bytes() <= geometry.device_bytes &&
         bio.device_offset() <= geometry.device_bytes - bio.bytes() &&
         geometry.Admits(bio.device_offset(), bio.segments(),
                         static_cast<int>(bio.segment_count()));
}

void Count(const Bio& bio, IoStats* stats) {
  IoCounters& counters =
      stats->by_class[std::min<size_t>(bio.io_class(), kIoClasses - 1)];
  if (bio.direction() == IoDirection::kRead) {
    counters.reads.Add(1);
    counters.read_bytes.Add(bio.bytes());
    return;
  }
  counters.writes.Add(1);
  counters.write_bytes.Add(bio.bytes());
}

bool IsTransient(int64_t result) {
  return result == -EINTR || result == -EAGAIN || result == -ECANCELED;
}

}  // namespace

BlockDevice::BlockDevice(std::string name, const Geometry& geometry,
                         size_t max_bios)
    : name_(std::move(name)),
      geometry_(geometry),
      bios_(max_bios),
      inflight_writes_(max_bios) {}

void BlockDevice::Submit(Bio* const* bios, size_t count) {
  // The bios are the parent's too, and so may be the pool's lock. Dio::Wait
  // knows.
  if (stale()) return;
  // Runs of acceptable bios go on together; in practice that is all of them.
  size_t first = 0;
  for (size_t i = 0; i < count; ++i) {
    Bio* const bio = bios[i];
    if (!Accept(bio)) {
      if (i > first) DoSubmit(bios + first, i - first);
      PassOn(bio, -EINVAL);
      first = i + 1;
      continue;
    }
    Count(*bio, &stats_);
    if (bio->direction() == IoDirection::kRead) continue;
    AnnotateWriteSubmitted(bio->segments(), bio->segment_count());
    if (inflight_writes_.TryAdd(bio)) continue;
    // What it waits for may be in this very batch.
    if (i > first) DoSubmit(bios + first, i - first);
    first = i;
    AwaitSameBlocks(bio);
  }
  if (count > first) DoSubmit(bios + first, count - first);
}

bool BlockDevice::Accept(Bio* bio) {
  return Acceptable(*bio, geometry_) && bio->Push(this);
}

void BlockDevice::AwaitSameBlocks(Bio* bio) {
  stats_.write_conflicts.fetch_add(1, std::memory_order_relaxed);
  // Nobody else may be reaping it, and who writes a block twice at once is not
  // in a hurry.
  while (!inflight_writes_.TryAdd(bio)) {
    Poll();
    sched_yield();
  }
}

Bio* BlockDevice::GetBio(Plug* plug) {
  Bio* bio = bios_.TryGet();
  while (bio == nullptr) {
    plug->Finish();
    // Those of this thread or of others, but for what others are about to wait
    // for themselves (Waiter::kSubmitter).
    Poll();
    bio = bios_.TryGet();
    if (bio == nullptr) sched_yield();
  }
  return bio;
}

void BlockDevice::Complete(Bio* bio, int64_t result) {
  result = MoveRest(bio, result);
  if (bio->direction() == IoDirection::kRead) {
    if (result > 0)
      AnnotateReadCompleted(bio->segments(), bio->segment_count());
  } else {
    // Before anybody can know: a flush that follows an observed completion must
    // cover it. Also after an error, for a part may have reached the device.
    if (!bio->written_through || result < 0) {
      flush_epoch_.MarkDirty();
    } else {
      stats_.fua_writes.fetch_add(1, std::memory_order_relaxed);
    }
    inflight_writes_.Remove(bio);
  }
  BlockDevice* const outer = bio->Pop();
  if (outer != nullptr) return outer->Complete(bio, result);
  bio->End(result);
}

// A bio that this device did not take.
void BlockDevice::PassOn(Bio* bio, int64_t result) {
  BlockDevice* const outer = bio->top();
  if (outer != nullptr) return outer->Complete(bio, result);
  bio->End(result);
}

int64_t BlockDevice::MoveNow(Bio* bio) {
  // Part of it becomes durable with a flush only, and with one that starts
  // after it has been moved: a device in front of this one completes the bio
  // without us.
  bio->written_through = false;
  const int64_t result = DoMove(bio);
  if (bio->direction() == IoDirection::kWrite) flush_epoch_.MarkDirty();
  return result;
}

int64_t BlockDevice::MoveRest(Bio* bio, int64_t result) {
  uint32_t retries = 0;
  while (true) {
    const uint32_t before = bio->done_bytes;
    if (result > 0) {
      const uint64_t done = before + static_cast<uint64_t>(result);
      if (done >= bio->limit_bytes) {
        bio->done_bytes = bio->limit_bytes;
        return bio->bytes();
      }
      // The rest must start at a block again: the part of one that moved is
      // moved once more.
      bio->done_bytes =
          static_cast<uint32_t>(AlignDown(done, geometry_.logical_block_bytes));
    } else if (result == 0) {
      // No error, and nothing moved: the device ends earlier than it said.
      return -EIO;
    } else if (!IsTransient(result)) {
      return result;
    }
    if (bio->done_bytes == before) {
      if (++retries > kMaxRetries) return result < 0 ? result : -EIO;
      sched_yield();
    }
    result = MoveNow(bio);
  }
}

void BlockDevice::ReadAround(Bio* bio, std::vector<BadRange>* bad) {
  const uint32_t block_bytes = geometry_.logical_block_bytes;
  const auto half = [&](uint32_t bytes) {
    return static_cast<uint32_t>(
        std::max<uint64_t>(AlignDown(bytes / 2, block_bytes), block_bytes));
  };
  const auto add = [&](uint32_t position, uint32_t bytes) {
    bad->push_back({bio->file_offset() + position,
                    bio->device_offset() + position, bytes});
  };
  // That has just been tried.
  if (bio->bytes() == block_bytes) return add(0, block_bytes);
  size_t bad_blocks = 0;
  uint32_t piece = half(bio->bytes());
  uint32_t position = 0;
  while (position < bio->bytes()) {
    bio->done_bytes = position;
    bio->limit_bytes = std::min(position + piece, bio->bytes());
    if (MoveRest(bio, MoveNow(bio)) > 0) {
      position = bio->limit_bytes;
      piece *= 2;
    } else if (piece > block_bytes) {
      piece = half(piece);
    } else if (++bad_blocks > kMaxBadBlocks) {
      return add(position, bio->bytes() - position);
    } else {
      add(position, block_bytes);
      position += block_bytes;
    }
  }
  AnnotateReadCompleted(bio->segments(), bio->segment_count());
}

Result BlockDevice::Read(uint64_t offset, void* memory, size_t bytes,
                         IoClass io_class) {
  return Transfer(IoDirection::kRead, offset, memory, bytes, io_class,
                  Durability::kNone);
}

Result BlockDevice::Write(uint64_t offset, const void* memory, size_t bytes,
                          IoClass io_class, Durability durability) {
  // iovec is not const-correct; a write only reads the memory.
  return Transfer(IoDirection::kWrite, offset, const_cast<void*>(memory), bytes,
                  io_class, durability);
}

Result BlockDevice::Transfer(IoDirection direction, uint64_t offset,
                             void* memory, size_t bytes, IoClass io_class,
                             Durability durability) {
  const std::string what = direction == IoDirection::kRead ? "read" : "write";
  const auto fail = [&](const Result& result) {
    return Result::Error(result.error(), result.context() + ": " + what +
                                             " of " + std::to_string(bytes) +
                                             " bytes at " +
                                             std::to_string(offset));
  };
  uint64_t end = 0;
  if (!CheckedAdd(offset, bytes, &end) || end > geometry_.device_bytes) {
    return fail(Result::Error(EINVAL, name_));
  }
  const IdentityMapper identity;
  const iovec segment = {memory, bytes};
  DioRequest request;
  request.direction = direction;
  request.io_class = io_class;
  request.offset = offset;
  request.segments = &segment;
  request.segment_count = 1;
  request.file_size = geometry_.device_bytes;
  request.mapper = &identity;
  request.block_bytes = geometry_.logical_block_bytes;
  request.durability = durability;
  Dio dio(this);
  {
    Plug plug(this);
    (void)dio.Submit(request, &plug);
  }
  Result result = dio.Wait();
  return result.ok() ? result : fail(result);
}

Result BlockDevice::Flush() {
  if (stale()) return Result::Error(ESTALE, name_ + ": flush after a fork");
  // Nothing volatile: what has completed is durable.
  if (!geometry_.write_cache || forgo_flushes_) return Result::Ok();
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
