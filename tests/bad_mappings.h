#ifndef DIOFS_TESTS_BAD_MAPPINGS_H_
#define DIOFS_TESTS_BAD_MAPPINGS_H_

#include <cstdint>

#include "dio/block_mapper.h"

namespace diofs {

// An answer that contradicts itself, to a question for four blocks of 4096
// bytes of a device of kBadMappingsDeviceBlocks.
struct BadMapping {
  void Answer(uint64_t asked, BlockMapping* mapping) const {
    mapping->state = state;
    mapping->device_block = device_block;
    mapping->count = asked + static_cast<uint64_t>(extra);
  }

  const char* what;
  BlockState state;
  uint64_t device_block;
  int64_t extra;  // count: what was asked for, plus this
};

inline constexpr uint64_t kBadMappingsDeviceBlocks = 64;
inline constexpr BadMapping kBadMappings[] = {
    {"none", BlockState::kMapped, 4, -4},
    {"none of a hole", BlockState::kHole, 0, -4},
    {"more than asked for", BlockState::kMapped, 4, 1},
    {"more unwritten ones", BlockState::kUnwritten, 4, 1},
    {"a longer hole", BlockState::kHole, 0, 1},
    {"far more", BlockState::kMapped, 4, INT64_MAX},
    {"less than none", BlockState::kMapped, 4, -5},
    {"ends behind the device", BlockState::kMapped,
     kBadMappingsDeviceBlocks - 3, 0},
    {"starts behind the device", BlockState::kUnwritten,
     kBadMappingsDeviceBlocks, -3},
    {"wraps around", BlockState::kNew, UINT64_MAX - 1, 0},
    {"wraps around in bytes", BlockState::kMapped, UINT64_MAX / 4096 + 2, 0},
    {"mapped and new at once", static_cast<BlockState>(17), 4, 0},
    {"no such state", static_cast<BlockState>(4), 4, 0},
};

}  // namespace diofs

#endif  // DIOFS_TESTS_BAD_MAPPINGS_H_
