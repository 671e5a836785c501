#ifndef DIOFS_DIO_OPEN_DEVICE_H_
#define DIOFS_DIO_OPEN_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "dio/block_device.h"
#include "dio/result.h"

namespace diofs {

enum class Backend : uint8_t { kAuto, kUring, kThreads, kSync };

struct OpenDeviceOptions {
  bool read_only = false;
  // How long to wait for another holder's lock before EBUSY. A killed owner
  // holds it until its last queued write has landed.
  uint32_t lock_wait_ms = 30000;
  Backend backend = Backend::kAuto;
  // Told, in one line, when something is not as good as it could be (io_uring
  // not to be had). May be empty.
  std::function<void(const std::string&)> log;
};

// Which device or image a path leads to: equal for two paths of one device.
struct DeviceIdentity {
  uint64_t device = 0;  // st_rdev of a block device, else st_dev
  uint64_t inode = 0;   // 0 for a block device
  bool operator==(const DeviceIdentity& other) const {
    return device == other.device && inode == other.inode;
  }
};

// ENOENT and the like with the path in the context; EINVAL for what is neither
// a block device nor a regular file.
Result IdentifyDevice(const std::string& path, DeviceIdentity* identity);

// Opens the block device or image at `path` (symbolic links are resolved) with
// O_DIRECT, locked for this process: flock on the very descriptor that carries
// the I/O, exclusive for writing and shared for reading, and O_EXCL on a block
// device. EBUSY names the holder's pid where /proc tells it. The backend is
// probed; one that does not work here is replaced by the next (uring, threads,
// sync) and the reason logged.
Result OpenBlockDevice(const std::string& path,
                       const OpenDeviceOptions& options,
                       std::unique_ptr<BlockDevice>* device);

// Makes an image file of `bytes`, mode 0600; EEXIST where there is one. With
// `allocate` the host reserves the space at once (ENOSPC now, not later).
Result CreateImageFile(const std::string& path, uint64_t bytes, bool allocate);

// Gives the finished image `made` its name `path`, which is durable on return,
// and takes the first name away. EEXIST where somebody else has taken `path`;
// `made` is then gone, too. An error after that leaves the image, which is
// whole, under its name.
Result NameImageFile(const std::string& made, const std::string& path);

}  // namespace diofs

#endif  // DIOFS_DIO_OPEN_DEVICE_H_
