// What a mapper has set aside comes back to it, once, also where the request
// cannot use the mapping it came with.

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/bad_mappings.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
// Blocks the request asks for at last.
constexpr uint64_t kAsked = 4;

class Reservations : public testing::TestWithParam<EngineParam> {
 protected:
  Reservations()
      : device_(GetParam(), kBadMappingsDeviceBlocks * kBlock),
        memory_(PatternBuffer(16 * kBlock, 1)) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  // A mapper that gives a reservation with each answer: `good` new blocks, one
  // at a time, and then what `last` says.
  static std::unique_ptr<TestMapper> Mapper(
      uint64_t good,
      const std::function<void(uint64_t count, BlockMapping*)>& last) {
    auto mapper = std::make_unique<TestMapper>();
    mapper->answer = [=](uint64_t first, uint64_t count,
                         BlockMapping* mapping) {
      mapping->reservation = 100 + first;
      if (first < good) {
        mapping->state = BlockState::kNew;
        mapping->device_block = 20 + 2 * first;
        mapping->count = 1;
      } else {
        last(count, mapping);
      }
      return Result::Ok();
    };
    return mapper;
  }
  // Of `count` answers, in the order of the file.
  static std::vector<uint64_t> Given(uint64_t count) {
    std::vector<uint64_t> given;
    for (uint64_t i = 0; i < count; ++i) given.push_back(100 + i);
    return given;
  }
  int64_t Held() { return device_->stats().reservations; }

  EngineDevice device_;
  AlignedBuffer memory_;
};

INSTANTIATE_TEST_SUITE_P(All, Reservations, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// More good ones, too, than fit into the Dio itself.
TEST_P(Reservations, OfAMappingThatContradictsItself) {
  for (const BadMapping& bad : kBadMappings) {
    for (const uint64_t good : {0, 1, 3, 4, 6}) {
      for (const bool async : {false, true}) {
        SCOPED_TRACE(std::string(bad.what) + " after " + std::to_string(good));
        const auto mapper =
            Mapper(good, [&](uint64_t count, BlockMapping* mapping) {
              bad.Answer(count, mapping);
            });
        const uint64_t bytes = (good + kAsked) * kBlock;
        EndRecorder recorder;
        IoRequest io(IoDirection::kWrite, *mapper, 0, memory_.data(), bytes, 0);
        io->async = async;
        io->observer = &recorder;
        std::unique_ptr<Dio> dio = std::make_unique<Dio>(device_.get());
        {
          Plug plug(device_.get());
          // Nothing is in flight, for it went wrong half-way.
          EXPECT_EQ(Dio::Submission::kDone, dio->Submit(io.get(), &plug));
        }
        EXPECT_TRUE(recorder.ends.empty());
        EXPECT_EQ(static_cast<int64_t>(good + 1), Held());
        EXPECT_EQ(EIO, dio->Wait().error());
        EXPECT_EQ(EIO, dio->Wait().error());
        dio.reset();
        ASSERT_EQ(1u, recorder.ends.size());
        EXPECT_EQ(EIO, recorder.ends[0].error);
        EXPECT_EQ(0u, recorder.ends[0].bytes);
        EXPECT_EQ(Given(good + 1), recorder.ends[0].reservations);
        EXPECT_EQ(0, Held());
      }
    }
  }
}

// Nor is a read, which needs none, an excuse to keep it; nor is it one that
// nobody listens.
TEST_P(Reservations, OfABadMappingForAReadAndWithoutAnObserver) {
  for (const BadMapping& bad : kBadMappings) {
    const auto mapper = Mapper(0, [&](uint64_t count, BlockMapping* mapping) {
      bad.Answer(count, mapping);
    });
    EndRecorder recorder;
    IoRequest read(IoDirection::kRead, *mapper, 0, memory_.data(),
                   kAsked * kBlock, kAsked * kBlock);
    read->observer = &recorder;
    EXPECT_EQ(EIO, RunIo(device_.get(), &read).error()) << bad.what;
    ASSERT_EQ(1u, recorder.ends.size()) << bad.what;
    EXPECT_EQ(Given(1), recorder.ends[0].reservations) << bad.what;
    IoRequest write(IoDirection::kWrite, *mapper, 0, memory_.data(),
                    kAsked * kBlock, 0);
    EXPECT_EQ(EIO, RunIo(device_.get(), &write).error()) << bad.what;
    EXPECT_EQ(0, Held()) << bad.what;
  }
}

// The bios that were sent before it fail, too: one error, one end.
TEST_P(Reservations, OfABadMappingBehindBiosThatFail) {
  constexpr uint64_t kGood = 6;
  for (const BadMapping& bad : kBadMappings) {
    for (const int error : {ETIMEDOUT, EFAULT}) {
      const auto mapper =
          Mapper(kGood, [&](uint64_t count, BlockMapping* mapping) {
            bad.Answer(count, mapping);
          });
      EndRecorder recorder;
      IoRequest io(IoDirection::kWrite, *mapper, 0, memory_.data(),
                   (kGood + kAsked) * kBlock, 0);
      io->observer = &recorder;
      device_->ClearTrace();
      device_->FailNth(2, error);
      const Result result = RunIo(device_.get(), &io);
      EXPECT_FALSE(result.ok());
      ASSERT_EQ(1u, recorder.ends.size()) << bad.what;
      EXPECT_EQ(result.error(), recorder.ends[0].error) << bad.what;
      EXPECT_EQ(Given(kGood + 1), recorder.ends[0].reservations) << bad.what;
      EXPECT_EQ(0, Held()) << bad.what;
    }
  }
}

// A mapping that is good, but not for this request.
TEST_P(Reservations, OfAMappingTheModeForbids) {
  const struct {
    WriteMode mode;
    BlockState state;
    int error;
    bool fallback;
  } cases[] = {
      {WriteMode::kOverwriteOnly, BlockState::kNew, EAGAIN, false},
      {WriteMode::kOverwriteOnly, BlockState::kUnwritten, EAGAIN, false},
      {WriteMode::kOverwriteOnly, BlockState::kHole, EAGAIN, false},
      {WriteMode::kSkipHoles, BlockState::kHole, 0, true},
      {WriteMode::kAllocate, BlockState::kHole, 0, true},
  };
  for (const auto& one : cases) {
    const auto mapper = Mapper(0, [&](uint64_t count, BlockMapping* mapping) {
      *mapping = {one.state, 4, count, false, mapping->reservation};
    });
    EndRecorder recorder;
    IoRequest io(IoDirection::kWrite, *mapper, 0, memory_.data(),
                 kAsked * kBlock, kAsked * kBlock);
    io->write_mode = one.mode;
    io->observer = &recorder;
    std::unique_ptr<Dio> dio;
    const Result result = RunIo(device_.get(), &io, &dio);
    EXPECT_EQ(one.error, result.error());
    EXPECT_EQ(0u, result.bytes());
    EXPECT_EQ(one.fallback, dio->fallback());
    ASSERT_EQ(1u, recorder.ends.size());
    EXPECT_EQ(Given(1), recorder.ends[0].reservations);
    EXPECT_EQ(0u, recorder.ends[0].bytes);
    EXPECT_EQ(0, Held());
  }
}

}  // namespace
}  // namespace diofs
