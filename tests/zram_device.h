#ifndef DIOFS_TESTS_ZRAM_DEVICE_H_
#define DIOFS_TESTS_ZRAM_DEVICE_H_

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace diofs {

// A zram device of its own: a block device that cannot issue requests without
// blocking. Needs root and the kernel's zram; ok() tells whether it could be
// made. Owned by a test, gone with it.
class ZramDevice {
 public:
  explicit ZramDevice(uint64_t bytes) {
    std::ifstream(std::string(kControl) + "hot_add") >> number_;
    if (number_ < 0) return;
    std::ofstream size("/sys/block/zram" + std::to_string(number_) +
                       "/disksize");
    size << bytes << std::flush;
    ok_ = size.good() && std::filesystem::is_block_file(path());
  }
  ZramDevice(const ZramDevice&) = delete;
  ZramDevice& operator=(const ZramDevice&) = delete;
  ~ZramDevice() {
    if (number_ < 0) return;
    std::ofstream(std::string(kControl) + "hot_remove") << number_;
  }

  bool ok() const { return ok_; }
  std::string path() const { return "/dev/zram" + std::to_string(number_); }

 private:
  static constexpr const char* kControl = "/sys/class/zram-control/";

  int number_ = -1;
  bool ok_ = false;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_ZRAM_DEVICE_H_
