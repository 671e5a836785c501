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

#include "dio/dio.h"
#include "dio/retrying.h"

namespace diofs {

SyncDevice::SyncDevice(std::string name, const Geometry& geometry, ScopedFd fd)
    : BlockDevice(std::move(name), geometry), fd_(std::move(fd)) {}

SyncDevice::~SyncDevice() {
  // A child that was forked meanwhile shares the descriptor and with it the
  // lock, which would last as long as the child. Nothing is in flight here.
  if (!stale()) (void)flock(fd(), LOCK_UN);
}

// Submit completes every bio, so what is waited for is on another thread that
// is just now moving it.
void SyncDevice::Wait(Dio* dio, uint32_t /*wait_nr*/) {
  while (!dio->done()) sched_yield();
}

void SyncDevice::DoSubmit(Bio* const* bios, size_t count) {
  for (size_t i = 0; i < count; ++i) Complete(bios[i], MoveNow(bios[i]));
}

int64_t SyncDevice::DoMove(Bio* bio) {
  const int count = bio->FillRemainder();
  const iovec* const segments = bio->remainder.data();
  const auto offset =
      static_cast<off_t>(bio->device_offset() + bio->done_bytes);
  ssize_t moved = 0;
  // Most have one segment, and the kernel need not fetch a list of one.
  if (bio->direction() == IoDirection::kRead) {
    moved = count == 1
                ? pread(fd(), segments->iov_base, segments->iov_len, offset)
                : preadv(fd(), segments, count, offset);
  } else {
    moved = count == 1
                ? pwrite(fd(), segments->iov_base, segments->iov_len, offset)
                : pwritev(fd(), segments, count, offset);
  }
  return moved < 0 ? -errno : moved;
}

Result SyncDevice::DoFlush() {
  const int result = Retrying([this] { return fdatasync(fd()); });
  return result == 0 ? Result::Ok() : Result::Error(errno);
}

Result SyncDevice::DoDiscard(uint64_t offset, uint64_t bytes) {
  const int result = Retrying([&] {
    if (geometry().is_block_device) {
      uint64_t range[2] = {offset, bytes};
      return ioctl(fd(), BLKDISCARD, range);
    }
    return fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     static_cast<off_t>(offset), static_cast<off_t>(bytes));
  });
  return result == 0 ? Result::Ok() : Result::Error(errno);
}

}  // namespace diofs
