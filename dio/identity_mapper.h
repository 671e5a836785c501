#ifndef DIOFS_DIO_IDENTITY_MAPPER_H_
#define DIOFS_DIO_IDENTITY_MAPPER_H_

#include "dio/block_mapper.h"

namespace diofs {

// The device itself as one file, all of it written. A constant; any thread.
class IdentityMapper final : public BlockMapper {
 public:
  Result GetBlocks(uint64_t first, uint64_t count, bool /*create*/,
                   BlockMapping* mapping) const override {
    mapping->state = BlockState::kMapped;
    mapping->device_block = first;
    mapping->count = count;
    return Result::Ok();
  }
};

}  // namespace diofs

#endif  // DIOFS_DIO_IDENTITY_MAPPER_H_
