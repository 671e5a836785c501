#ifndef DIOFS_TOOLS_DIO_BENCH_TARGET_H_
#define DIOFS_TOOLS_DIO_BENCH_TARGET_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "dio/block_device.h"
#include "dio/open_device.h"
#include "dio/result.h"
#include "tools/dio_bench_interrupt.h"

namespace diofs {

// What is measured, and what may be done to it. A plain value.
struct TargetOptions {
  std::string path;
  Backend backend = Backend::kAuto;
  bool write = false;
  // What the target holds may be lost.
  bool overwrite = false;
  // A path where there is nothing becomes an image of this size, 0: does not.
  uint64_t create_bytes = 0;
  // Told, in one line, what is not as good as it could be.
  std::function<void(const std::string&)> log;
};

// The device or image a benchmark works on, open and locked. Owned by main();
// an image it has made is removed by the destructor.
class BenchTarget {
 public:
  BenchTarget() = default;
  BenchTarget(const BenchTarget&) = delete;
  BenchTarget& operator=(const BenchTarget&) = delete;
  ~BenchTarget();

  // EINVAL, with what to do, for a target that may hold something of value and
  // shall be written.
  Result Open(const TargetOptions& options);
  // Writes incompressible data over [0, bytes), a multiple of 4096. `progress`
  // is told how much is done. EINTR after an interrupt.
  Result Prefill(uint64_t bytes, uint64_t seed, Interrupt* interrupt,
                 const std::function<void(uint64_t done)>& progress);

  BlockDevice* device() { return device_.get(); }
  const std::string& path() const { return path_; }

 private:
  Result CheckWritable(const TargetOptions& options);

  std::string path_;
  bool made_ = false;
  std::unique_ptr<BlockDevice> device_;
};

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_TARGET_H_
