#ifndef DIOFS_TESTS_INSTANT_DEVICE_H_
#define DIOFS_TESTS_INSTANT_DEVICE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "dio/bio.h"
#include "dio/block_device.h"
#include "dio/block_mapper.h"
#include "dio/geometry.h"
#include "dio/result.h"

namespace diofs {

// Completes every bio inside Submit and moves nothing: what is left is the cost
// of the engine itself. Thread-safe.
class InstantDevice final : public BlockDevice {
 public:
  static constexpr uint64_t kBytes = uint64_t{1} << 40;

  InstantDevice() : BlockDevice("instant", MakeGeometry()) {}

  // Nothing is in flight once Submit has returned.
  void Wait(Dio* /*dio*/, uint32_t /*wait_nr*/) override {}
  int64_t DoMove(Bio* bio) override { return bio->bytes(); }
  const char* backend_name() const override { return "instant"; }

 private:
  static Geometry MakeGeometry() {
    Geometry geometry;
    geometry.device_bytes = kBytes;
    return geometry;
  }
  void DoSubmit(Bio* const* bios, size_t count) override {
    for (size_t i = 0; i < count; ++i) Complete(bios[i], bios[i]->bytes());
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t /*offset*/, uint64_t /*bytes*/) override {
    return Result::Ok();
  }
};

// Written blocks in runs of a fixed length, none of which follows the one
// before on the device; counts how often it is asked. One thread at a time.
class RunMapper final : public BlockMapper {
 public:
  explicit RunMapper(uint64_t run_blocks) : run_blocks_(run_blocks) {}

  Result GetBlocks(uint64_t first, uint64_t count, bool /*create*/,
                   BlockMapping* mapping) const override {
    ++calls;
    const uint64_t run = first / run_blocks_;
    mapping->state = BlockState::kMapped;
    mapping->device_block = first + run;
    mapping->count = std::min(count, (run + 1) * run_blocks_ - first);
    return Result::Ok();
  }

  mutable uint64_t calls = 0;

 private:
  const uint64_t run_blocks_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_INSTANT_DEVICE_H_
