// One request from its submission to its end: what is counted, given back and
// told, on every backend, also where something fails.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dio/dio.h"
#include "dio/read_batch.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/queue_device.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kDeviceBlocks = 50;

class Request : public testing::TestWithParam<EngineParam> {
 protected:
  Request()
      : sector_(GetParam().logical_block_bytes),
        device_(GetParam(), kDeviceBlocks * kBlock) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  const uint64_t sector_;
  EngineDevice device_;
};

INSTANTIATE_TEST_SUITE_P(All, Request, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// ---- The end comes once
// ------------------------------------------------------

// Inline and delayed, with and without an error of each bio: the observer hears
// of the end once, however often the result is asked for, and the callback
// comes once where the request was queued.
TEST_P(Request, TheLastReferenceEndsItOnce) {
  constexpr uint64_t kBios = 6;
  const TestMapper mapper(ScatteredBlocks(kBios));
  AlignedBuffer memory = FilledBuffer(kBios * kBlock, 'm');
  for (const bool async : {false, true}) {
    for (const IoDirection direction :
         {IoDirection::kRead, IoDirection::kWrite}) {
      for (uint64_t fail = 0; fail <= kBios; ++fail) {
        EndRecorder recorder;
        {
          IoRequest io(direction, mapper, 0, memory.data(), kBios * kBlock,
                       kBios * kBlock);
          io->async = async;
          io->observer = &recorder;
          device_->ClearTrace();
          if (fail > 0) device_->FailNth(fail, ETIMEDOUT);
          Dio dio(device_.get());
          Plug plug(device_.get());
          EXPECT_EQ(Dio::Submission::kQueued, dio.Submit(io.get(), &plug));
          EXPECT_FALSE(dio.done());
          EXPECT_TRUE(recorder.ends.empty());
          plug.Finish();
          for (int i = 0; i < 3; ++i) {
            EXPECT_EQ(fail > 0 ? ETIMEDOUT : 0, dio.Wait().error());
            EXPECT_TRUE(dio.done());
          }
          EXPECT_EQ(fail > 0 ? 0 : kBios * kBlock, dio.Wait().bytes());
        }
        ASSERT_EQ(1u, recorder.ends.size());
        EXPECT_EQ(fail > 0 ? ETIMEDOUT : 0, recorder.ends[0].error);
        ASSERT_EQ(1u, recorder.completions.size());
      }
    }
  }
}

// Nobody asks for the result: the destructor waits, and tells.
TEST_P(Request, TheDestructorTellsTheEndToo) {
  const TestMapper mapper(ScatteredBlocks(8));
  AlignedBuffer memory = FilledBuffer(8 * kBlock, 'd');
  EndRecorder recorder;
  {
    IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), 8 * kBlock,
                 8 * kBlock);
    io->async = true;
    io->observer = &recorder;
    Dio dio(device_.get());
    Plug plug(device_.get());
    (void)dio.Submit(io.get(), &plug);
    plug.Finish();
  }
  EXPECT_EQ(0u, device_->bios_in_use());
  ASSERT_EQ(1u, recorder.ends.size());
  EXPECT_EQ(8 * kBlock, recorder.ends[0].bytes);
  EXPECT_EQ(1u, recorder.completions.size());
  const std::string image = device_.Image();
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(std::string(kBlock, 'd'), image.substr(2 * i * kBlock, kBlock));
  }
}

// ---- Bios that end at once
// ---------------------------------------------------

// While the submission goes on the request is not done, whoever ends its bios
// and whenever: the walk's next question sees it.
TEST_P(Request, ItIsNotDoneWhileItIsBeingSubmitted) {
  constexpr uint64_t kBios = 24;
  AlignedBuffer memory = FilledBuffer(kBios * kBlock, 'm');
  for (const bool boundary : {false, true}) {
    Dio dio(device_.get());
    Plug plug(device_.get());
    TestMapper mapper;
    mapper.answer = [&](uint64_t first, uint64_t, BlockMapping* mapping) {
      EXPECT_FALSE(dio.done());
      *mapping = {BlockState::kMapped, 2 * first, 1, boundary, 0};
      return Result::Ok();
    };
    IoRequest io(IoDirection::kRead, mapper, 0, memory.data(), kBios * kBlock,
                 kBios * kBlock);
    io->async = true;
    (void)dio.Submit(io.get(), &plug);
    plug.Finish();
    EXPECT_EQ(kBios * kBlock, dio.Wait().bytes());
  }
}

// Ends every bio inside Submit, and looks at its request then. Of one thread.
class InlineDevice final : public BlockDevice {
 public:
  explicit InlineDevice(const Geometry& geometry)
      : BlockDevice("inline", geometry) {}
  ~InlineDevice() override { ExpectNothingHeld(this); }

  void Wait(Dio* dio, uint32_t /*wait_nr*/) override {
    EXPECT_TRUE(dio->done());
  }
  int64_t DoMove(Bio* bio) override { return bio->bytes(); }
  const char* backend_name() const override { return "inline"; }

  bool submitting = true;
  uint64_t bios = 0;

 private:
  void DoSubmit(Bio* const* bio_array, size_t count) override {
    for (size_t i = 0; i < count; ++i) {
      const Dio* const dio = bio_array[i]->dio();
      EXPECT_FALSE(dio->done());
      Complete(bio_array[i], bio_array[i]->bytes());
      ++bios;
      // The submission's own reference, or that of a bio behind this one.
      const bool last = !submitting && i + 1 == count;
      EXPECT_EQ(last, dio->done()) << bios;
    }
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t, uint64_t) override { return Result::Ok(); }
};

TEST(RequestReferences, ABioThatEndsInsideSubmitFreesNothingEarly) {
  InlineDevice device(SimDevice::MakeGeometry(1024 * kBlock));
  AlignedBuffer memory = FilledBuffer(200 * kBlock, 'm');
  for (const bool boundary : {false, true}) {
    TestMapper mapper(ScatteredBlocks(200));
    for (TestMapper::Block& block : mapper.blocks) block.boundary = boundary;
    for (const IoDirection direction :
         {IoDirection::kRead, IoDirection::kWrite}) {
      IoRequest io(direction, mapper, 0, memory.data(), 200 * kBlock,
                   200 * kBlock);
      device.submitting = true;
      Dio dio(&device);
      Plug plug(&device);
      (void)dio.Submit(io.get(), &plug);
      device.submitting = false;
      plug.Finish();
      EXPECT_TRUE(dio.done());
      EXPECT_EQ(200 * kBlock, dio.Wait().bytes());
    }
  }
  EXPECT_EQ(800u, device.bios);
}

// ---- Threads
// -----------------------------------------------------------------

// Two threads end bios, some with an error, while a third one still submits:
// what they share is either atomic or ordered by the count. For
// ThreadSanitizer; the results are exact all the same.
TEST(RequestReferences, BiosEndOnManyThreadsWhileTheWalkGoesOn) {
  constexpr uint64_t kBios = 12;
  QueueDevice device(SimDevice::MakeGeometry(kDeviceBlocks * kBlock));
  TestMapper mapper(ScatteredBlocks(kBios));
  // Each bio is sent off at once.
  for (TestMapper::Block& block : mapper.blocks) block.boundary = true;
  AlignedBuffer memory = FilledBuffer(kBios * kBlock, 'm');
  std::atomic<bool> stop{false};
  std::atomic<int> error{0};
  std::vector<std::thread> enders;
  enders.reserve(2);
  for (int t = 0; t < 2; ++t) {
    enders.emplace_back([&] {
      while (!stop) {
        const std::optional<Bio*> bio = device.TakeAny();
        if (!bio) {
          std::this_thread::yield();
        } else {
          const int64_t now = error;
          device.Complete(*bio, now == 0 ? (*bio)->bytes() : -now);
        }
      }
    });
  }
  const uint64_t rounds = ScaledRounds(300);
  for (uint64_t i = 0; i < rounds; ++i) {
    error = i % 3 == 2 ? ETIMEDOUT : 0;
    EndRecorder recorder;
    IoRequest io(i % 2 == 0 ? IoDirection::kRead : IoDirection::kWrite, mapper,
                 0, memory.data(), kBios * kBlock, kBios * kBlock);
    io->observer = &recorder;
    io->async = true;
    auto dio = std::make_unique<Dio>(&device);
    Plug plug(&device);
    (void)dio->Submit(io.get(), &plug);
    plug.Finish();
    EXPECT_EQ(error, dio->Wait().error());
    // The memory is the owner's again.
    memory.data()[i % (kBios * kBlock)] = 'o';
    dio.reset();
    EXPECT_EQ(1u, recorder.ends.size());
  }
  stop = true;
  for (std::thread& ender : enders) ender.join();
}

// Each thread has requests of its own in flight, and any thread may end them.
TEST_P(Request, AsynchronousRequestsOfManyThreads) {
  constexpr uint64_t kThreads = 3;
  constexpr uint64_t kBios = 4;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const TestMapper mapper(
          ScatteredBlocks(kBios, BlockState::kMapped, t * 2 * kBios));
      AlignedBuffer memory = BufferPool::Get(kBios * kBlock);
      for (uint64_t i = 0; i < ScaledRounds(40); ++i) {
        const char fill = static_cast<char>('a' + (i + t) % 26);
        std::memset(memory.data(), fill, kBios * kBlock);
        for (const IoDirection direction :
             {IoDirection::kWrite, IoDirection::kRead}) {
          EndRecorder recorder;
          IoRequest io(direction, mapper, 0, memory.data(), kBios * kBlock,
                       kBios * kBlock);
          io->async = true;
          io->observer = &recorder;
          Dio dio(device_.get());
          Plug plug(device_.get());
          (void)dio.Submit(io.get(), &plug);
          plug.Finish();
          if (i % 3 == 0) device_->Poll();
          EXPECT_EQ(kBios * kBlock, dio.Wait().bytes());
          EXPECT_EQ(1u, recorder.ends.size());
          EXPECT_EQ(recorder.completions.size(), recorder.ends.size());
          EXPECT_EQ(std::string(kBios * kBlock, fill),
                    std::string(memory.data(), kBios * kBlock));
          if (direction == IoDirection::kWrite) {
            std::memset(memory.data(), 0, kBios * kBlock);
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// ---- Synchronous and asynchronous
// --------------------------------------------

struct Ending {
  int error = 0;
  uint64_t bytes = 0;
  bool fallback = false;
  std::string memory;
  std::string image;

  bool operator==(const Ending& other) const {
    return error == other.error && bytes == other.bytes &&
           fallback == other.fallback && memory == other.memory &&
           image == other.image;
  }
};

// A random request, the same for the same seed, on a device that starts the
// same.
Ending RunRandom(EngineDevice* device, uint64_t seed, uint64_t sector,
                 bool async) {
  std::mt19937_64 rng(seed);
  constexpr uint64_t kBlocks = 24;
  (*device)->ClearTrace();
  AlignedBuffer content = FilledBuffer(kDeviceBlocks * kBlock, 'p');
  EXPECT_TRUE(
      (*device)->Write(0, content.data(), kDeviceBlocks * kBlock, 0).ok());
  TestMapper mapper;
  for (uint64_t i = 0; i < kBlocks; ++i) {
    const auto state = static_cast<BlockState>(
        rng() % 8 < 5 ? 1 : rng() % 4);  // mostly kMapped
    mapper.blocks.push_back({state, 2 * i + rng() % 2, rng() % 6 == 0});
  }
  const IoDirection direction =
      rng() % 2 == 0 ? IoDirection::kRead : IoDirection::kWrite;
  AlignedBuffer memory = PatternBuffer(kBlocks * kBlock, seed);
  const uint64_t offset = rng() % (kBlocks * kBlock / sector) * sector;
  const uint64_t length =
      std::min(kBlocks * kBlock - offset, (1 + rng() % 100) * sector);
  IoRequest io(direction, mapper, offset, memory.data(), length,
               rng() % (kBlocks * kBlock));
  const uint64_t cut = length / sector / 2 * sector;
  io.segments = {{memory.data(), cut}, {memory.data() + cut, length - cut}};
  io->async = async;
  switch (rng() % 4) {
    case 0:
      (*device)->FailNth(1 + rng() % 4, ETIMEDOUT);
      break;
    case 1:
      (*device)->ShortenNth(1 + rng() % 3, 1 + rng() % 3000);
      break;
    default:
      break;
  }
  std::unique_ptr<Dio> dio;
  const Result result = RunIo(device->get(), &io, &dio);
  Ending ending;
  ending.error = result.error();
  ending.bytes = result.bytes();
  ending.fallback = dio->fallback();
  ending.memory.assign(memory.data(), kBlocks * kBlock);
  // What the others of a failed batch did is the device's affair.
  if (result.ok()) ending.image = device->Image();
  if (!result.ok()) ending.memory.clear();
  return ending;
}

TEST_P(Request, SynchronousAndAsynchronousEndAlike) {
  const uint64_t seed = TestSeed();
  for (uint64_t round = 0; round < ScaledRounds(40); ++round) {
    const Ending sync = RunRandom(&device_, seed + round, sector_, false);
    const Ending async = RunRandom(&device_, seed + round, sector_, true);
    ASSERT_TRUE(sync == async)
        << "round " << round << ": " << sync.error << " " << sync.bytes
        << " and " << async.error << " " << async.bytes;
  }
}

// ---- Errors
// ------------------------------------------------------------------

TEST_P(Request, TheDevicesErrnoArrivesAsItWas) {
  constexpr uint64_t kBios = 5;
  const TestMapper mapper(ScatteredBlocks(kBios));
  AlignedBuffer memory = FilledBuffer(kBios * kBlock, 'm');
  for (const int error : {EIO, ENOSPC, ETIMEDOUT, EREMOTEIO, ENODATA}) {
    for (const IoDirection direction :
         {IoDirection::kRead, IoDirection::kWrite}) {
      for (uint64_t nth = 1; nth <= kBios; ++nth) {
        IoRequest io(direction, mapper, 0, memory.data(), kBios * kBlock,
                     kBios * kBlock);
        device_->FailNth(nth, error);
        std::unique_ptr<Dio> dio;
        const Result result = RunIo(device_.get(), &io, &dio);
        // A read that met a bad block is tried again in logical blocks, of
        // which this device can then read all.
        const bool bad_block = (error == EIO || error == ENODATA) &&
                               direction == IoDirection::kRead;
        const bool read_again = bad_block && sector_ < kBlock;
        EXPECT_EQ(read_again ? 0 : error, result.error());
        EXPECT_EQ(bad_block && !read_again, !dio->unreadable().empty());
      }
      // Of several the first one.
      if (direction == IoDirection::kRead) continue;
      IoRequest io(direction, mapper, 0, memory.data(), kBios * kBlock,
                   kBios * kBlock);
      device_->FailNth(2, error);
      device_->FailNth(4, EXDEV);
      EXPECT_EQ(error, RunIo(device_.get(), &io).error());
    }
  }
}

// ---- What is given back
// ------------------------------------------------------

// Every bio fails once, in each way; then nothing is held any more.
TEST_P(Request, NothingIsHeldAfterAnyFailure) {
  constexpr uint64_t kBios = 8;
  const TestMapper mapper(ScatteredBlocks(kBios));
  AlignedBuffer memory = FilledBuffer(kBios * kBlock, 'm');
  const uint64_t buffers = BufferPool::bytes_in_use();
  const auto expect_nothing_held = [&] {
    for (BlockDevice* device :
         {static_cast<BlockDevice*>(device_.get()), device_->inner()}) {
      EXPECT_EQ(0u, device->bios_in_use());
      EXPECT_EQ(0u, device->writes_in_flight());
      EXPECT_EQ(0, device->stats().bounces);
      EXPECT_EQ(0, device->stats().reservations);
    }
    EXPECT_EQ(buffers, BufferPool::bytes_in_use());
  };
  for (const int error : {EIO, EFAULT, ENOSPC, ETIMEDOUT}) {
    for (uint64_t k = 1; k <= kBios; ++k) {
      for (const IoDirection direction :
           {IoDirection::kRead, IoDirection::kWrite}) {
        // Ends in the middle of the last block: a short read.
        IoRequest io(direction, mapper, 0, memory.data(), kBios * kBlock,
                     kBios * kBlock - 100);
        device_->FailNth(k, error);
        (void)RunIo(device_.get(), &io);
        expect_nothing_held();
      }
      // Through bounce buffers.
      ReadBatch::File file;
      file.device = device_.get();
      file.mapper = &mapper;
      file.file_size = kBios * kBlock - 100;
      device_->FailNth(k, error);
      std::vector<ReadRange> ranges(3);
      for (size_t i = 0; i < ranges.size(); ++i) {
        ranges[i].offset = 1 + i * 2 * kBlock;
        ranges[i].length = 2 * kBlock;
        ranges[i].memory = memory.data() + 1 + i * 2 * kBlock;
      }
      {
        ReadBatch batch;
        batch.Submit(file, ranges.data(), ranges.size(), k % 2 == 0);
        batch.Wait();
      }
      device_->ClearTrace();
      expect_nothing_held();
    }
  }
}

// ---- Devices in front of devices
// ---------------------------------------------

// Passes everything on to a device that is somebody else's.
class FrontDevice final : public BlockDevice {
 public:
  explicit FrontDevice(BlockDevice* inner)
      : BlockDevice("front", inner->geometry()), inner_(inner) {}
  ~FrontDevice() override { ExpectNothingHeld(this); }

  void Wait(Dio* dio, uint32_t wait_nr) override { inner_->Wait(dio, wait_nr); }
  void Poll() override { inner_->Poll(); }
  int64_t DoMove(Bio* bio) override { return inner_->MoveNow(bio); }
  const char* backend_name() const override { return "front"; }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    inner_->Submit(bios, count);
  }
  Result DoFlush() override { return inner_->Flush(); }
  Result DoDiscard(uint64_t offset, uint64_t bytes) override {
    return inner_->Discard(offset, bytes);
  }

  BlockDevice* const inner_;
};

uint64_t Bios(BlockDevice* device) {
  const IoCounters& counters = device->stats().by_class[0];
  return counters.reads + counters.writes;
}

// Also a lone synchronous one, the fast path of every backend.
TEST_P(Request, EveryBioPassesTheDeviceInFront) {
  AlignedBuffer memory = FilledBuffer(16 * kBlock, 'm');
  uint64_t bios = 0;
  for (const uint64_t count : {1, 2, 3, 16}) {
    const TestMapper mapper(ScatteredBlocks(count));
    for (const bool async : {false, true}) {
      for (const IoDirection direction :
           {IoDirection::kRead, IoDirection::kWrite}) {
        IoRequest io(direction, mapper, 0, memory.data(), count * kBlock,
                     count * kBlock);
        io->async = async;
        EXPECT_EQ(count * kBlock, RunIo(device_.get(), &io).bytes());
        bios += count;
        const std::vector<TracedBio> trace = device_->trace();
        ASSERT_EQ(bios, trace.size());
        EXPECT_EQ(direction, trace.back().direction);
        EXPECT_EQ(2 * (count - 1) * kBlock, trace.back().device_offset);
      }
    }
  }
  EXPECT_TRUE(device_->Read(0, memory.data(), kBlock, 0).ok());
  EXPECT_EQ(bios + 1, device_->trace().size());
  EXPECT_EQ(bios + 1, Bios(device_.get()));
  EXPECT_EQ(bios + 1, Bios(device_->inner()));
}

TEST_P(Request, AThirdDeviceInFrontIsTooMany) {
  const TestMapper mapper(ScatteredBlocks(5));
  AlignedBuffer memory = FilledBuffer(5 * kBlock, 'm');
  const std::string before = device_.Image();
  FrontDevice front(device_.get());
  for (const bool async : {false, true}) {
    IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), 5 * kBlock,
                 5 * kBlock);
    io->async = async;
    EXPECT_EQ(EINVAL, RunIo(&front, &io).error());
    EXPECT_EQ(0u, front.bios_in_use());
    EXPECT_EQ(0u, front.writes_in_flight());
  }
  EXPECT_EQ(0u, Bios(device_->inner()));
  EXPECT_TRUE(before == device_.Image());
}

}  // namespace
}  // namespace diofs
