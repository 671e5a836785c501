#include "dio/open_device.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "dio/geometry.h"
#include "dio/retrying.h"
#include "dio/scoped_fd.h"
#include "dio/sync_device.h"
#include "dio/threads_device.h"
#include "dio/uring_device.h"

namespace diofs {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kRetryInterval(50);
// How long a device that is claimed by somebody who holds no flock gets: of our
// own kind that is one between open and flock, or one being torn down.
constexpr std::chrono::milliseconds kClaimGrace(500);

// A file that it makes is for its owner alone.
int OpenRetrying(const std::string& path, int flags) {
  return Retrying([&] { return open(path.c_str(), flags, 0600); });
}

// Of a device whose time of last access nobody asks for: with each read the
// kernel would look whether it is due, in a cache line that all readers share.
// Only the owner of the node and root may have it so.
int OpenDirect(const std::string& path, int flags) {
  const int fd = OpenRetrying(path, flags | O_DIRECT | O_NOATIME);
  if (fd >= 0 || errno != EPERM) return fd;
  return OpenRetrying(path, flags | O_DIRECT);
}

int LockRetrying(int fd, int operation) {
  return Retrying([&] { return flock(fd, operation | LOCK_NB); });
}

int SyncRetrying(int fd) {
  return Retrying([&] { return fsync(fd); });
}

Result Resolve(const std::string& path, std::string* resolved) {
  const std::unique_ptr<char, decltype(&std::free)> name(
      realpath(path.c_str(), nullptr), &std::free);
  if (name == nullptr) return Result::FromErrno(path);
  *resolved = name.get();
  return Result::Ok();
}

Result CheckKind(const std::string& path, const struct stat& info) {
  if (S_ISBLK(info.st_mode) || S_ISREG(info.st_mode)) return Result::Ok();
  return Result::Error(EINVAL,
                       path + ": neither a block device nor a regular file");
}

// The process that holds a flock on the opened node `info`, 0 where
// /proc/locks does not tell (another namespace, a stacked file system):
//   1: FLOCK  ADVISORY  WRITE 4711 fd:00:131090 0 EOF
pid_t LockHolder(const struct stat& info) {
  char node[64];
  std::snprintf(node, sizeof(node), "%02x:%02x:%llu", major(info.st_dev),
                minor(info.st_dev),
                static_cast<unsigned long long>(info.st_ino));
  std::ifstream locks("/proc/locks");
  std::string line;
  while (std::getline(locks, line)) {
    std::istringstream fields(line);
    std::string number, kind, mode, access, where;
    pid_t pid = 0;
    // A waiter's line has "->" where the kind should be.
    if (fields >> number >> kind >> mode >> access >> pid >> where &&
        kind == "FLOCK" && where == node && pid > 0) {
      return pid;
    }
  }
  return 0;
}

Result HeldError(const std::string& path, const struct stat& info) {
  const pid_t pid = LockHolder(info);
  if (pid == getpid()) {
    return Result::Error(EBUSY, path + ": already open in this process");
  }
  if (pid == 0) {
    return Result::Error(EBUSY,
                         path + ": held by another process; stop it or wait");
  }
  std::string name;
  std::ifstream comm("/proc/" + std::to_string(pid) + "/comm");
  std::getline(comm, name);
  return Result::Error(
      EBUSY, path + ": held by process " + std::to_string(pid) +
                 (name.empty() ? "" : " (" + name + ")") + "; stop it or wait");
}

// How one attempt to open and lock ended.
struct Attempt {
  int fd = -1;
  Result error;
  // Worth trying again: until the deadline, or for kClaimGrace only.
  bool held = false;
  bool claimed = false;
};

// open(O_EXCL) said EBUSY. Where the claim is one of ours its flock is held
// too; otherwise the kernel or another program has the device. The lock is
// looked at through a descriptor that is gone before anything else happens.
Attempt WhoClaimed(const std::string& path, const struct stat& info) {
  Attempt attempt;
  const ScopedFd fd(OpenRetrying(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() >= 0 && LockRetrying(fd.get(), LOCK_SH) != 0 &&
      errno == EWOULDBLOCK) {
    attempt.held = true;
    attempt.error = HeldError(path, info);
    return attempt;
  }
  attempt.claimed = true;
  attempt.error = Result::Error(
      EBUSY, path + ": is in use (mounted, or claimed by another program)");
  return attempt;
}

Result OpenError(const std::string& path, bool read_only) {
  const int error = errno;
  switch (error) {
    case EINVAL:
      return Result::Error(EINVAL, path +
                                       ": does not support direct I/O; use a "
                                       "block device, or a file system that "
                                       "does (ext4, xfs)");
    case EACCES:
    case EPERM:
    case EROFS:
      return Result::Error(error,
                           path + ": may not be opened for " +
                               (read_only ? "reading" : "reading and writing"));
    default:
      return Result::Error(error, path + ": open");
  }
}

Attempt TryOpen(const std::string& path, bool read_only) {
  Attempt attempt;
  struct stat before = {};
  if (stat(path.c_str(), &before) != 0) {
    attempt.error = Result::FromErrno(path);
    return attempt;
  }
  attempt.error = CheckKind(path, before);
  if (!attempt.error.ok()) return attempt;

  const bool exclusive = S_ISBLK(before.st_mode) && !read_only;
  ScopedFd fd(OpenDirect(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC |
                                   O_NOFOLLOW | (exclusive ? O_EXCL : 0)));
  if (fd.get() < 0) {
    if (errno == EBUSY && exclusive) return WhoClaimed(path, before);
    attempt.error = OpenError(path, read_only);
    return attempt;
  }
  if (LockRetrying(fd.get(), read_only ? LOCK_SH : LOCK_EX) != 0) {
    attempt.held = errno == EWOULDBLOCK;
    attempt.error = attempt.held ? HeldError(path, before)
                                 : Result::FromErrno(path + ": flock");
    return attempt;
  }
  // What was opened and locked must be what the path leads to, now that nobody
  // else can use it.
  struct stat opened = {};
  struct stat after = {};
  if (fstat(fd.get(), &opened) != 0 || stat(path.c_str(), &after) != 0) {
    attempt.error = Result::FromErrno(path);
    return attempt;
  }
  if (opened.st_dev != after.st_dev || opened.st_ino != after.st_ino ||
      opened.st_rdev != before.st_rdev) {
    attempt.held = true;
    attempt.error = Result::Error(EBUSY, path + ": is being replaced");
    return attempt;
  }
  attempt.fd = fd.Release();
  return attempt;
}

// Opens and locks, waiting for another holder as long as the options allow.
Result OpenLocked(const std::string& path, const OpenDeviceOptions& options,
                  int* fd) {
  const auto start = Clock::now();
  const auto patience = std::chrono::milliseconds(options.lock_wait_ms);
  while (true) {
    Attempt attempt = TryOpen(path, options.read_only);
    if (attempt.fd >= 0) {
      *fd = attempt.fd;
      return Result::Ok();
    }
    const auto limit =
        attempt.claimed ? std::min(patience, kClaimGrace) : patience;
    if (!(attempt.held || attempt.claimed) || Clock::now() - start >= limit) {
      return std::move(attempt.error);
    }
    std::this_thread::sleep_for(kRetryInterval);
  }
}

void Log(const OpenDeviceOptions& options, const std::string& line) {
  if (options.log) options.log(line);
}

// What one system call moves is split by the kernel; the limit that matters is
// that of rings, which hand what they would have to split to a kernel thread.
Geometry WithoutRings(Geometry geometry) {
  geometry.max_bio_bytes = std::max(geometry.max_bio_bytes, 1U << 20);
  return geometry;
}

std::unique_ptr<BlockDevice> MakeDevice(const std::string& path,
                                        const OpenDeviceOptions& options,
                                        const Geometry& geometry, ScopedFd fd) {
  if (options.backend == Backend::kSync) {
    return std::make_unique<SyncDevice>(path, WithoutRings(geometry),
                                        std::move(fd));
  }
  if (options.backend == Backend::kAuto && !geometry.nowait) {
    Log(options, path +
                     ": cannot issue requests without blocking; using a pool "
                     "of threads instead of io_uring");
  } else if (options.backend != Backend::kThreads) {
    std::unique_ptr<BlockDevice> device;
    std::string note;
    const Result result =
        UringDevice::Create(path, geometry, &fd, &device, &note);
    if (result.ok()) {
      if (!note.empty()) Log(options, path + ": " + note);
      return device;
    }
    Log(options, path + ": io_uring is not available (" + result.ToString() +
                     "); using a pool of threads");
  }
  return std::make_unique<ThreadsDevice>(path, WithoutRings(geometry),
                                         std::move(fd));
}

// Makes the name of a new file durable.
Result SyncParent(const std::string& path) {
  const size_t slash = path.rfind('/');
  std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
  if (parent.empty()) parent = "/";
  const ScopedFd fd(OpenRetrying(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || SyncRetrying(fd.get()) != 0) {
    return Result::FromErrno(parent);
  }
  return Result::Ok();
}

Result FillImage(int fd, const std::string& path, uint64_t bytes,
                 bool allocate) {
  const auto length = static_cast<off_t>(bytes);
  if (Retrying([&] { return ftruncate(fd, length); }) != 0) {
    return Result::FromErrno(path + ": size");
  }
  const auto fill = [&] {
    errno = posix_fallocate(fd, 0, length);
    return errno == 0 ? 0 : -1;
  };
  if (allocate && Retrying(fill) != 0) {
    return Result::FromErrno(path + ": allocate");
  }
  if (SyncRetrying(fd) != 0) return Result::FromErrno(path + ": fsync");
  return SyncParent(path);
}

}  // namespace

Result IdentifyDevice(const std::string& path, DeviceIdentity* identity) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return Result::FromErrno(path);
  Result result = CheckKind(path, info);
  if (!result.ok()) return result;
  const bool block = S_ISBLK(info.st_mode);
  identity->device = block ? info.st_rdev : info.st_dev;
  identity->inode = block ? 0 : info.st_ino;
  return Result::Ok();
}

Result OpenBlockDevice(const std::string& path,
                       const OpenDeviceOptions& options,
                       std::unique_ptr<BlockDevice>* device) {
  std::string resolved;
  Result result = Resolve(path, &resolved);
  if (!result.ok()) return result;
  int locked = -1;
  result = OpenLocked(resolved, options, &locked);
  if (!result.ok()) return result;
  ScopedFd fd(locked);
  Geometry geometry;
  result = Geometry::Probe(fd.get(), &geometry);
  if (!result.ok()) return std::move(result).With(resolved);
  *device = MakeDevice(resolved, options, geometry, std::move(fd));
  return Result::Ok();
}

Result CreateImageFile(const std::string& path, uint64_t bytes, bool allocate) {
  if (bytes == 0 || bytes > static_cast<uint64_t>(INT64_MAX)) {
    return Result::Error(
        EINVAL, path + ": an image of " + std::to_string(bytes) + " bytes");
  }
  const ScopedFd fd(
      OpenRetrying(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() < 0) return Result::FromErrno(path);
  Result result = FillImage(fd.get(), path, bytes, allocate);
  if (!result.ok()) unlink(path.c_str());
  return result;
}

Result NameImageFile(const std::string& made, const std::string& path) {
  Result result;
  if (link(made.c_str(), path.c_str()) != 0) result = Result::FromErrno(path);
  if (unlink(made.c_str()) != 0 && result.ok()) {
    result = Result::FromErrno(made);
  }
  return result.ok() ? SyncParent(path) : std::move(result);
}

}  // namespace diofs
