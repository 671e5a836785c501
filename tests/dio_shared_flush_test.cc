// Requests that are to be durable, from several threads: they share flushes,
// each flush covers what had completed before it, and a failure is everybody's.

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine_device.h"
#include "tests/engine_io.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kWriters = 8;
constexpr uint64_t kDeviceBytes = 64 * kBlock;

// Holds up flushes, carried out already, until they are let go.
class FlushGate {
 public:
  void Enter() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++entered_;
    changed_.wait(lock, [this] { return entered_ <= allowed_; });
  }
  // Lets the first `count` flushes pass.
  void Allow(uint64_t count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    allowed_ = count;
    changed_.notify_all();
  }
  uint64_t entered() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return entered_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t entered_ = 0;
  uint64_t allowed_ = 0;
};

class SharedFlush : public testing::TestWithParam<EngineParam> {
 protected:
  SharedFlush()
      : device_(GetParam(), kDeviceBytes), mapper_(ScatteredBlocks(kWriters)) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  // Writes block `block` of the file, filled with `fill`, and waits until that
  // is durable.
  Result Write(uint64_t block, char fill, EndRecorder* recorder = nullptr) {
    AlignedBuffer memory = FilledBuffer(kBlock, fill);
    IoRequest io(IoDirection::kWrite, mapper_, block * kBlock, memory.data(),
                 kBlock, kWriters * kBlock);
    io->durability = Durability::kFlush;
    io->async = block % 2 == 0;
    io->observer = recorder;
    return RunIo(device_.get(), &io);
  }
  // What a power cut would leave of block `block`; a simulated device alone
  // knows.
  std::string Durable(uint64_t block) {
    return device_.sim()->DurableImage().substr(2 * block * kBlock, kBlock);
  }
  void HoldFlushes() {
    device_->after_flush = [this] { gate_.Enter(); };
  }
  void AwaitFlush(uint64_t number) {
    while (gate_.entered() < number) sched_yield();
  }
  // Returns when so many writes have been submitted, and have completed.
  void AwaitWrites(size_t count) {
    while (device_->trace().size() < count || device_->writes_in_flight() > 0) {
      sched_yield();
    }
  }
  uint64_t Flushes() { return device_->inner()->stats().flushes; }

  FlushGate gate_;
  EngineDevice device_;
  const TestMapper mapper_;
};

INSTANTIATE_TEST_SUITE_P(All, SharedFlush, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// All that complete while one flush is held up need one more, together.
TEST_P(SharedFlush, ConcurrentWritersShareOne) {
  HoldFlushes();
  std::vector<std::thread> writers;
  for (uint64_t i = 0; i < kWriters; ++i) {
    writers.emplace_back([this, i] {
      EXPECT_EQ(kBlock, Write(i, 'w').bytes());
      if (device_.sim() != nullptr) {
        EXPECT_EQ(std::string(kBlock, 'w'), Durable(i));
      }
    });
    if (i == 0) AwaitFlush(1);
  }
  AwaitWrites(kWriters);
  gate_.Allow(kWriters);
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(2u, Flushes());
}

// It may have missed the data.
TEST_P(SharedFlush, AFlushUnderWayDoesNotCoverAWriteThatCompletesNow) {
  HoldFlushes();
  std::thread first([this] { EXPECT_TRUE(Write(0, 'f').ok()); });
  AwaitFlush(1);
  std::atomic<bool> returned{false};
  std::thread second([&] {
    EXPECT_TRUE(Write(1, 's').ok());
    returned = true;
  });
  AwaitWrites(2);
  if (device_.sim() != nullptr) {
    EXPECT_EQ(std::string(kBlock, 'f'), Durable(0));
    EXPECT_NE(std::string(kBlock, 's'), Durable(1));
  }
  gate_.Allow(1);
  first.join();
  while (gate_.entered() < 2 && !returned) sched_yield();
  EXPECT_EQ(2u, gate_.entered());
  EXPECT_FALSE(returned);
  gate_.Allow(2);
  second.join();
  EXPECT_EQ(2u, Flushes());
}

// Whether they wait for it, or come later; and it is not tried again, for the
// kernel may have dropped what it could not write.
TEST_P(SharedFlush, AfterOneHasFailedEveryOneFails) {
  HoldFlushes();
  device_->FailFlush(1, ENOSPC);
  std::vector<EndRecorder> recorders(kWriters);
  std::vector<std::thread> writers;
  for (uint64_t i = 0; i < kWriters; ++i) {
    writers.emplace_back([this, i, &recorders] {
      EXPECT_EQ(ENOSPC, Write(i, 'w', &recorders[i]).error());
    });
    if (i == 0) AwaitFlush(1);
  }
  AwaitWrites(kWriters);
  // Only the first may fail; a second one would do.
  gate_.Allow(2 * kWriters);
  for (std::thread& writer : writers) writer.join();
  for (uint64_t i = 0; i < kWriters; ++i) {
    EXPECT_EQ(ENOSPC, Write(i, 'l', &recorders[i]).error());
    ASSERT_EQ(2u, recorders[i].ends.size());
    for (const EndRecorder::End& end : recorders[i].ends) {
      EXPECT_EQ(ENOSPC, end.error);
      EXPECT_EQ(0u, end.bytes);
    }
  }
  EXPECT_EQ(1u, gate_.entered());
  EXPECT_EQ(0u, Flushes());
  // Writing goes on for who asks for no more than that.
  AlignedBuffer memory = FilledBuffer(kBlock, 'n');
  EXPECT_TRUE(device_->Write(0, memory.data(), kBlock, 0).ok());
  EXPECT_EQ(ENOSPC, device_->Flush().error());
}

// Each finds its own write safe when it returns, however the flushes fall.
TEST_P(SharedFlush, WhoeverReturnsIsDurable) {
  const uint64_t rounds = ScaledRounds(device_.sim() != nullptr ? 200 : 50);
  std::atomic<uint64_t> requests{0};
  std::vector<std::thread> writers;
  for (uint64_t i = 0; i < 4; ++i) {
    writers.emplace_back([&, i] {
      for (uint64_t round = 0; round < rounds; ++round) {
        const char fill = static_cast<char>('a' + round % 26);
        ++requests;
        ASSERT_EQ(kBlock, Write(i, fill).bytes());
        if (device_.sim() == nullptr) continue;
        ASSERT_EQ(std::string(kBlock, fill), Durable(i)) << round;
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_LE(1u, Flushes());
  EXPECT_GE(requests, Flushes());
}

}  // namespace
}  // namespace diofs
