#ifndef DIOFS_TESTS_TEST_MAPPER_H_
#define DIOFS_TESTS_TEST_MAPPER_H_

#include <cerrno>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "dio/block_mapper.h"

namespace diofs {

// A mapper over a table of blocks, which writes down what it was asked. Blocks
// behind the table are holes. Thread-safe once the table stands.
class TestMapper final : public BlockMapper {
 public:
  struct Block {
    BlockState state = BlockState::kHole;
    uint64_t device_block = 0;
    bool boundary = false;
  };
  struct Call {
    uint64_t first;
    uint64_t count;
    bool create;
  };

  // `count` blocks in one run of the device.
  static std::vector<Block> Run(BlockState state, uint64_t device_block,
                                uint64_t count) {
    std::vector<Block> blocks(count);
    for (uint64_t i = 0; i < count; ++i) {
      blocks[i] = {state, device_block + i, false};
    }
    return blocks;
  }

  TestMapper() = default;
  explicit TestMapper(std::vector<Block> table) : blocks(std::move(table)) {}

  Result GetBlocks(uint64_t first, uint64_t count, bool create,
                   BlockMapping* mapping) const override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      calls_.push_back({first, count, create});
    }
    if (answer) return answer(first, count, mapping);
    if (first >= blocks.size()) {
      mapping->count = count;
      return Result::Ok();
    }
    const Block& block = blocks[first];
    mapping->state = block.state;
    mapping->device_block = block.device_block;
    uint64_t run = 1;
    while (run < count && first + run < blocks.size() &&
           !blocks[first + run - 1].boundary &&
           Follows(block, blocks[first + run], run)) {
      ++run;
    }
    mapping->count = run;
    mapping->boundary = blocks[first + run - 1].boundary;
    return Result::Ok();
  }

  std::vector<Call> calls() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return calls_;
  }

  std::vector<Block> blocks;
  // Answers in place of the table.
  std::function<Result(uint64_t first, uint64_t count, BlockMapping*)> answer;

 private:
  static bool Follows(const Block& first, const Block& next,
                      uint64_t distance) {
    return next.state == first.state &&
           (next.state == BlockState::kHole ||
            next.device_block == first.device_block + distance);
  }

  mutable std::mutex mutex_;
  mutable std::vector<Call> calls_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_TEST_MAPPER_H_
