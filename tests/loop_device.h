#ifndef DIOFS_TESTS_LOOP_DEVICE_H_
#define DIOFS_TESTS_LOOP_DEVICE_H_

#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>

namespace diofs {

// A loop device over an image file, with autoclear: it goes with its last
// opener, however the test ends. Needs root and /dev/loop-control; ok() tells
// whether it could be made.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& image, uint32_t block_bytes = 512,
                      bool partitions = false) {
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const int backing = open(image.c_str(), O_RDWR | O_CLOEXEC);
    // Somebody else may take the free one first.
    for (int tries = 0; control >= 0 && backing >= 0 && tries < 20; ++tries) {
      const int number = ioctl(control, LOOP_CTL_GET_FREE);
      if (number < 0) break;
      path_ = "/dev/loop" + std::to_string(number);
      fd_ = open(path_.c_str(), O_RDWR | O_CLOEXEC);
      loop_config config = {};
      config.fd = static_cast<uint32_t>(backing);
      config.block_size = block_bytes;
      config.info.lo_flags =
          LO_FLAGS_AUTOCLEAR | (partitions ? LO_FLAGS_PARTSCAN : 0);
      if (fd_ < 0 || ioctl(fd_, LOOP_CONFIGURE, &config) == 0) break;
      const bool taken = errno == EBUSY;
      close(fd_);
      fd_ = -1;
      if (!taken) break;
    }
    if (control >= 0) close(control);
    if (backing >= 0) close(backing);
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;
  ~LoopDevice() {
    if (fd_ >= 0) close(fd_);
  }

  // Makes the device's first partition, which needs no table; its node.
  std::string AddPartition(int64_t start_bytes, int64_t length_bytes) {
    blkpg_partition partition = {};
    partition.start = start_bytes;
    partition.length = length_bytes;
    partition.pno = 1;
    blkpg_ioctl_arg argument = {};
    argument.op = BLKPG_ADD_PARTITION;
    argument.datalen = sizeof(partition);
    argument.data = &partition;
    return ioctl(fd_, BLKPG, &argument) == 0 ? path_ + "p1" : std::string();
  }

  bool ok() const { return fd_ >= 0; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_LOOP_DEVICE_H_
