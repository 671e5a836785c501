#ifndef DIOFS_TESTS_ENGINE_DEVICE_H_
#define DIOFS_TESTS_ENGINE_DEVICE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/sim_device.h"
#include "tests/temp_dir.h"
#include "tests/tracing_device.h"

namespace diofs {

enum class EngineKind : uint8_t {
  kSim,         // bios complete inside Submit
  kSimDelayed,  // later, in any order, some short and some transient errors
  kSync,
  kThreads,
  kUring,
};

// What a test of the engine runs on: a backend and a logical block size.
struct EngineParam {
  EngineKind kind;
  uint32_t logical_block_bytes;
};

// "uring_512", for the names of tests.
std::string EngineName(const EngineParam& param);
inline std::string EngineTestName(
    const testing::TestParamInfo<EngineParam>& info) {
  return EngineName(info.param);
}
inline std::ostream& operator<<(std::ostream& out, const EngineParam& param) {
  return out << EngineName(param);
}

// Every backend with logical blocks of 512 and of 4096 bytes:
//   INSTANTIATE_TEST_SUITE_P(All, MyTest, testing::ValuesIn(AllEngines()),
//                            EngineTestName);
std::vector<EngineParam> AllEngines();
// Those of them that have a kernel behind them, which finds out by itself what
// a simulated device would have to be told.
std::vector<EngineParam> RealEngines();

// A device of one of these kinds with a tracer in front, full of poison
// (SimDevice::Poison), in memory or in an image file of its own. Owned by
// the test.
class EngineDevice {
 public:
  // Geometry but for the block size and the limits is
  // SimDevice::MakeGeometry's. `tweak` may change it.
  EngineDevice(const EngineParam& param, uint64_t device_bytes,
               void (*tweak)(Geometry*) = nullptr,
               size_t max_bios = BlockDevice::kMaxBios);
  EngineDevice(const EngineDevice&) = delete;
  EngineDevice& operator=(const EngineDevice&) = delete;

  // Null where this machine has no such backend (no io_uring); skip then.
  TracingDevice* get() { return device_.get(); }
  TracingDevice* operator->() { return device_.get(); }
  // The simulated device behind it; null for the others.
  SimDevice* sim() { return sim_; }
  // Destroys the device alone, as a forked child may; the image stays.
  void Close() { device_.reset(); }
  // All its bytes, as a reader would see them.
  std::string Image();

 private:
  std::unique_ptr<BlockDevice> MakeFileDevice(EngineKind kind,
                                              const Geometry& geometry);

  TempDir dir_;
  std::string path_;
  SimDevice* sim_ = nullptr;
  std::unique_ptr<TracingDevice> device_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_ENGINE_DEVICE_H_
