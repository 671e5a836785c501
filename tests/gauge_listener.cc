// In every test program: what a test has taken from the buffer pool is back
// when it has ended, whether it passed or not.

#include <gtest/gtest.h>

#include <cstdint>

#include "dio/buffer_pool.h"

namespace diofs {
namespace {

class GaugeListener final : public testing::EmptyTestEventListener {
 private:
  void OnTestStart(const testing::TestInfo& /*test*/) override {
    before_ = BufferPool::bytes_in_use();
  }
  // After the fixture is gone; a failure is still that test's.
  void OnTestEnd(const testing::TestInfo& /*test*/) override {
    EXPECT_EQ(before_, BufferPool::bytes_in_use()) << "buffers not returned";
  }

  uint64_t before_ = 0;
};

// gtest takes it over.
const bool g_listening = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new GaugeListener);
  return true;
}();

}  // namespace
}  // namespace diofs
