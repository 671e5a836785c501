#include "dio/sync_device.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "dio/align.h"
#include "dio/dio.h"

namespace diofs {
namespace {

// The part of `bio` that has not been moved yet, as an iovec of its own.
int FillRemainder(Bio* bio) {
  uint64_t skip = bio->done_bytes;
  int count = 0;
  for (uint32_t i = 0; i < bio->segment_count(); ++i) {
    iovec segment = bio->segments()[i];
    if (skip >= segment.iov_len) {
      skip -= segment.iov_len;
      continue;
    }
    segment.iov_base = static_cast<char*>(segment.iov_base) + skip;
    segment.iov_len -= skip;
    skip = 0;
    bio->remainder[count++] = segment;
  }
  return count;
}

// What moves, or a negative errno.
int64_t MoveRemainder(int fd, Bio* bio) {
  const int count = FillRemainder(bio);
  const auto offset =
      static_cast<off_t>(bio->device_offset() + bio->done_bytes);
  const ssize_t moved =
      bio->direction() == IoDirection::kRead
          ? preadv2(fd, bio->remainder.data(), count, offset, 0)
          : pwritev2(fd, bio->remainder.data(), count, offset, 0);
  return moved < 0 ? -errno : moved;
}

}  // namespace

SyncDevice::SyncDevice(std::string name, const Geometry& geometry, int fd)
    : BlockDevice(std::move(name), geometry), fd_(fd) {}

SyncDevice::~SyncDevice() {
  // A child that was forked meanwhile shares the descriptor and with it the
  // lock, which would last as long as the child. Nothing is in flight here.
  if (!stale()) (void)flock(fd_, LOCK_UN);
  close(fd_);
}

void SyncDevice::Wait(Dio* dio) {
  // Submit completes every bio, so there is nothing to wait for.
  while (!dio->done()) sched_yield();
}

void SyncDevice::DoSubmit(Bio* const* bios, size_t count) {
  for (size_t i = 0; i < count; ++i) CompleteHere(bios[i]);
}

void SyncDevice::CompleteHere(Bio* bio) {
  while (bio->done_bytes < bio->bytes()) {
    const int64_t moved = MoveRemainder(fd_, bio);
    // Nothing moved and no error: the device ends earlier than it said.
    if (moved == 0) return Finish(bio, -EIO);
    const uint32_t before = bio->done_bytes;
    if (moved > 0) {
      Advance(bio, static_cast<uint32_t>(moved));
    } else if (moved != -EINTR && moved != -EAGAIN) {
      return Finish(bio, moved);
    }
    if (bio->done_bytes == before) {
      if (++bio->retries > kMaxRetries) {
        return Finish(bio, moved < 0 ? moved : -EIO);
      }
      sched_yield();
    }
  }
  Finish(bio, bio->bytes());
}

void SyncDevice::Advance(Bio* bio, uint32_t moved) const {
  const uint32_t done = bio->done_bytes + moved;
  // The rest must start at a block again: the part of one that moved is moved
  // once more.
  bio->done_bytes = done >= bio->bytes()
                        ? bio->bytes()
                        : static_cast<uint32_t>(
                              AlignDown(done, geometry().logical_block_bytes));
}

void SyncDevice::Finish(Bio* bio, int64_t result) {
  // Also after an error: part of it may have reached the device.
  if (bio->direction() == IoDirection::kWrite) NoteWriteCompleted();
  bio->End(result);
}

Result SyncDevice::DoFlush() {
  int result = 0;
  do {
    result = fdatasync(fd_);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? Result::Ok() : Result::Error(errno);
}

Result SyncDevice::DoDiscard(uint64_t offset, uint64_t bytes) {
  int result = 0;
  if (geometry().is_block_device) {
    uint64_t range[2] = {offset, bytes};
    result = ioctl(fd_, BLKDISCARD, range);
  } else {
    result = fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(offset), static_cast<off_t>(bytes));
  }
  return result == 0 ? Result::Ok() : Result::Error(errno);
}

}  // namespace diofs
