// Long requests: how much of one is in flight at a time, with how few bios it
// gets along, and that nothing disturbs it.

#include <gtest/gtest.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;

// A file of any length over the blocks of a small device, no two neighbours in
// the file being neighbours on the device. Of any thread.
class FragmentedFile final : public BlockMapper {
 public:
  explicit FragmentedFile(uint64_t device_blocks)
      : device_blocks_(device_blocks) {}

  uint64_t DeviceBlock(uint64_t block) const {
    return block * 7919 % device_blocks_;
  }
  Result GetBlocks(uint64_t first, uint64_t /*count*/, bool /*create*/,
                   BlockMapping* mapping) const override {
    mapping->state = BlockState::kMapped;
    mapping->device_block = DeviceBlock(first);
    mapping->count = 1;
    return Result::Ok();
  }

 private:
  const uint64_t device_blocks_;
};

class Bounds : public testing::TestWithParam<EngineParam> {};

INSTANTIATE_TEST_SUITE_P(All, Bounds, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// With one bio for all: it leaves alone, comes back, and leaves again.
TEST_P(Bounds, APoolOfOneBioIsEnough) {
  constexpr uint64_t kDeviceBlocks = 256;
  EngineDevice device(GetParam(), kDeviceBlocks * kBlock, nullptr,
                      /*max_bios=*/1);
  if (device.get() == nullptr) GTEST_SKIP() << "no such backend here";
  // 100 MiB where nothing but memory is read; the machine's disk gets less.
  const bool simulated = device.sim() != nullptr;
  const uint64_t blocks = ScaledRounds(simulated ? 25600 : 1024);
  const FragmentedFile file(kDeviceBlocks);
  AlignedBuffer memory = FilledBuffer(blocks * kBlock, 'm');
  for (const bool async : {false, true}) {
    std::memset(memory.data(), 'm', blocks * kBlock);
    IoRequest io(IoDirection::kRead, file, 0, memory.data(), blocks * kBlock,
                 blocks * kBlock);
    io->async = async;
    device->ClearTrace();
    ASSERT_EQ(blocks * kBlock, RunIo(device.get(), &io).bytes());
    // As many submissions as bios: never two of them at once.
    EXPECT_EQ(blocks, device->trace().size());
    EXPECT_EQ(blocks, device->batches());
    const std::string image = device.Image();
    for (uint64_t i = 0; i < blocks; ++i) {
      ASSERT_EQ(0, image.compare(file.DeviceBlock(i) * kBlock, kBlock,
                                 memory.data() + i * kBlock, kBlock));
    }
  }
}

// Several requests of one thread share the one bio through one plug.
TEST_P(Bounds, RequestsInOnePlugShareThePool) {
  EngineDevice device(GetParam(), 64 * kBlock, nullptr, /*max_bios=*/1);
  if (device.get() == nullptr) GTEST_SKIP() << "no such backend here";
  const FragmentedFile file(64);
  AlignedBuffer memory = FilledBuffer(32 * kBlock, 'm');
  IoRequest first(IoDirection::kRead, file, 0, memory.data(), 16 * kBlock,
                  32 * kBlock);
  IoRequest second(IoDirection::kWrite, file, 16 * kBlock,
                   memory.data() + 16 * kBlock, 16 * kBlock, 32 * kBlock);
  Dio one(device.get());
  Dio other(device.get());
  Plug plug(device.get());
  (void)one.Submit(first.get(), &plug);
  (void)other.Submit(second.get(), &plug);
  plug.Finish();
  EXPECT_EQ(16 * kBlock, other.Wait().bytes());
  EXPECT_EQ(16 * kBlock, one.Wait().bytes());
}

// Moves nothing; ends what it holds when it is polled or waited for, all of it
// or one bio at a time. Writes down how much it held. Of one thread.
class PollDevice final : public BlockDevice {
 public:
  explicit PollDevice(size_t per_poll)
      : BlockDevice("poll", SimDevice::MakeGeometry(uint64_t{1} << 30)),
        per_poll_(per_poll) {}
  ~PollDevice() override { ExpectNothingHeld(this); }

  void Wait(Dio* dio, uint32_t /*wait_nr*/) override {
    while (!dio->done()) Poll();
  }
  void Poll() override {
    for (size_t i = 0; i < per_poll_ && !held_.empty(); ++i) {
      Bio* const bio = held_.front();
      held_.pop_front();
      const int64_t whole = bio->bytes();
      Complete(bio, ++ended == fail_at ? -ETIMEDOUT : whole);
    }
  }
  int64_t DoMove(Bio* bio) override { return bio->bytes(); }
  const char* backend_name() const override { return "poll"; }

  uint64_t issued = 0;
  uint64_t ended = 0;
  uint64_t fail_at = 0;  // the bio that fails, from 1
  size_t most_held = 0;

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    held_.insert(held_.end(), bios, bios + count);
    issued += count;
    most_held = std::max(most_held, held_.size());
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t, uint64_t) override { return Result::Ok(); }

  const size_t per_poll_;
  std::deque<Bio*> held_;
};

// 1 GiB in extents of 4 KiB, all into the same page: nothing is looked at.
Result ReadGibibyte(PollDevice* device) {
  const uint64_t blocks = ScaledRounds((1 << 30) / kBlock);
  const FragmentedFile file((1 << 30) / kBlock);
  AlignedBuffer page = FilledBuffer(kBlock, 'm');
  IoRequest io(IoDirection::kRead, file, 0, page.data(), kBlock,
               blocks * kBlock);
  io.segments.assign(blocks, iovec{page.data(), kBlock});
  Result result = RunIo(device, &io);
  EXPECT_EQ(result.ok() ? blocks * kBlock : 0, result.bytes());
  return result;
}

// Each full plug (64 bios) is followed by a poll. A device that has finished by
// then never holds more than one plug; one that finishes only a bio a poll
// holds what the pool has, and no more.
TEST(RequestBounds, ALongRequestReapsWhileItSubmits) {
  PollDevice prompt(SIZE_MAX);
  EXPECT_TRUE(ReadGibibyte(&prompt).ok());
  EXPECT_EQ(Plug::kMaxBios, prompt.most_held);

  PollDevice slow(1);
  EXPECT_TRUE(ReadGibibyte(&slow).ok());
  EXPECT_GE(BlockDevice::kMaxBios, slow.most_held);
  EXPECT_EQ(0u, slow.bios_in_use());
}

// Known of at the first poll after it ended, so at most those in flight and one
// more plug have been issued, and the bio that was being filled.
TEST(RequestBounds, AfterAnErrorNothingNewIsIssued) {
  PollDevice prompt(SIZE_MAX);
  prompt.fail_at = 3;
  EXPECT_EQ(ETIMEDOUT, ReadGibibyte(&prompt).error());
  EXPECT_EQ(Plug::kMaxBios + 1, prompt.issued);

  PollDevice slow(1);
  slow.fail_at = 3;
  EXPECT_EQ(ETIMEDOUT, ReadGibibyte(&slow).error());
  // The third poll: after the third plug.
  EXPECT_EQ(3 * Plug::kMaxBios + 1, slow.issued);
  EXPECT_EQ(0u, slow.bios_in_use());
}

TEST_P(Bounds, AnErrorAtTheThirdBioStopsALongRequest) {
  constexpr uint64_t kBlocks = 1024;
  EngineDevice device(GetParam(), 256 * kBlock);
  if (device.get() == nullptr) GTEST_SKIP() << "no such backend here";
  const FragmentedFile file(256);
  AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'm');
  for (const bool async : {false, true}) {
    IoRequest io(IoDirection::kRead, file, 0, memory.data(), kBlocks * kBlock,
                 kBlocks * kBlock);
    io->async = async;
    device->ClearTrace();
    device->FailNth(3, ETIMEDOUT);
    EXPECT_EQ(ETIMEDOUT, RunIo(device.get(), &io).error());
    EXPECT_GE(2 * Plug::kMaxBios, device->trace().size());
  }
}

// ---- Signals
// -----------------------------------------------------------------

std::atomic<uint64_t> g_signals{0};

// SIGALRM a thousand times a second, not restarting what it interrupts.
class Alarms {
 public:
  Alarms() {
    struct sigaction action = {};
    action.sa_handler = [](int) { ++g_signals; };
    EXPECT_EQ(0, sigaction(SIGALRM, &action, &before_));
    const itimerval every = {{0, 1000}, {0, 1000}};
    EXPECT_EQ(0, setitimer(ITIMER_REAL, &every, nullptr));
  }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;
  ~Alarms() {
    const itimerval never = {};
    setitimer(ITIMER_REAL, &never, nullptr);
    sigaction(SIGALRM, &before_, nullptr);
  }

 private:
  struct sigaction before_ = {};
};

// No wait ends early, no byte is missing: each read brings what the write
// before it put there. 100 000 ops, over the backends.
TEST_P(Bounds, SignalsInterruptNothing) {
  constexpr uint64_t kBios = 32;
  EngineDevice device(GetParam(), 64 * kBlock);
  if (device.get() == nullptr) GTEST_SKIP() << "no such backend here";
  const TestMapper mapper(ScatteredBlocks(kBios));
  AlignedBuffer memory = BufferPool::Get(kBios * kBlock);
  g_signals = 0;
  const Alarms alarms;
  const uint64_t rounds = ScaledRounds(160);
  for (uint64_t i = 0; i < rounds || g_signals == 0; ++i) {
    const char fill = static_cast<char>('a' + i % 26);
    std::memset(memory.data(), fill, kBios * kBlock);
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      IoRequest io(direction, mapper, 0, memory.data(), kBios * kBlock,
                   kBios * kBlock);
      io->async = i % 2 == 0;
      Dio dio(device.get());
      Plug plug(device.get());
      (void)dio.Submit(io.get(), &plug);
      plug.Finish();
      const Result result = dio.Wait();
      ASSERT_EQ(kBios * kBlock, result.bytes()) << result.ToString();
      // Nothing of it is on its way any more.
      ASSERT_TRUE(dio.done());
      ASSERT_EQ(0u, device->bios_in_use());
      ASSERT_EQ(std::string(kBios * kBlock, fill),
                std::string(memory.data(), kBios * kBlock));
      if (direction == IoDirection::kWrite) {
        std::memset(memory.data(), 0, kBios * kBlock);
      }
    }
  }
}

}  // namespace
}  // namespace diofs
