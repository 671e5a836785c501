// The end of a request, as its observer hears of it: reservations, the file's
// size, callbacks.

#include <gtest/gtest.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dio/align.h"
#include "dio/read_batch.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kDeviceBytes = 256 * kBlock;

class EndIo : public testing::TestWithParam<EngineParam> {
 protected:
  EndIo() : device_(GetParam(), kDeviceBytes) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  EngineDevice device_;
};

INSTANTIATE_TEST_SUITE_P(All, EndIo, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// A file system in small: a mapper that sets blocks aside for a write, and an
// observer that commits them, and the size, or gives them back.
class SmallFile final : public BlockMapper, public DioObserver {
 public:
  explicit SmallFile(uint64_t device_blocks) : free_(device_blocks) {}

  // Each block that a write finds missing is an extent of its own, with a
  // reservation of its own; every second block of the device stays unused.
  Result GetBlocks(uint64_t first, uint64_t count, bool create,
                   BlockMapping* mapping) const override {
    mapping->count = 1;
    const auto committed = blocks_.find(first);
    if (committed != blocks_.end()) {
      mapping->state = BlockState::kMapped;
      mapping->device_block = committed->second;
      return Result::Ok();
    }
    if (!create) {
      mapping->count = 1;
      return Result::Ok();
    }
    if (count == 0 || next_ >= free_) return Result::Error(ENOSPC);
    mapping->state = BlockState::kNew;
    mapping->device_block = next_;
    mapping->reservation = 1000 + next_;
    reserved_[mapping->reservation] = {first, next_};
    next_ += 2;
    return Result::Ok();
  }

  Result EndIo(const DioEnd& end) override {
    ++ends;
    handed.assign(end.reservations, end.reservations + end.reservation_count);
    for (const uint64_t reservation : handed) {
      const auto found = reserved_.find(reservation);
      if (found == reserved_.end()) {
        ADD_FAILURE() << "no reservation " << reservation;
        continue;
      }
      if (end.error == 0) blocks_[found->second.first] = found->second.second;
      reserved_.erase(found);
    }
    if (end.error != 0) return Result::Error(end.error);
    size = std::max(size, end.offset + end.bytes);
    return Result::Bytes(end.bytes);
  }

  size_t reserved() const { return reserved_.size(); }
  size_t committed() const { return blocks_.size(); }

  int ends = 0;
  uint64_t size = 0;
  std::vector<uint64_t> handed;

 private:
  const uint64_t free_;
  mutable uint64_t next_ = 0;
  // (file block, device block), by reservation.
  mutable std::map<uint64_t, std::pair<uint64_t, uint64_t>> reserved_;
  std::map<uint64_t, uint64_t> blocks_;
};

TEST_P(EndIo, EveryReservationIsCommittedInTheOrderOfTheFile) {
  // More than fit into the Dio itself, too.
  for (const uint64_t count : {1, 3, 4, 5, 9}) {
    SmallFile file(32);
    AlignedBuffer memory = PatternBuffer(count * kBlock, count);
    IoRequest io(IoDirection::kWrite, file, 0, memory.data(), count * kBlock,
                 0);
    io->observer = &file;
    const Result result = RunIo(device_.get(), &io);
    ASSERT_EQ(count * kBlock, result.bytes()) << result.ToString();
    std::vector<uint64_t> expected;
    for (uint64_t i = 0; i < count; ++i) expected.push_back(1000 + 2 * i);
    EXPECT_EQ(expected, file.handed);
    EXPECT_EQ(1, file.ends);
    EXPECT_EQ(0u, file.reserved());
    EXPECT_EQ(count, file.committed());
    EXPECT_EQ(0, device_->stats().reservations);
  }
}

TEST_P(EndIo, OfThreeNewExtentsNoneIsCommittedWhenOneFails) {
  constexpr uint64_t kCount = 3;
  for (uint64_t nth = 1; nth <= kCount; ++nth) {
    SmallFile file(32);
    AlignedBuffer memory = PatternBuffer(kCount * kBlock, nth);
    IoRequest io(IoDirection::kWrite, file, 0, memory.data(), kCount * kBlock,
                 0);
    io->observer = &file;
    device_->FailNth(nth, ENODATA);
    EXPECT_EQ(ENODATA, RunIo(device_.get(), &io).error());
    EXPECT_EQ(1, file.ends);
    EXPECT_EQ(kCount, file.handed.size());
    EXPECT_EQ(0u, file.reserved());
    EXPECT_EQ(0u, file.committed());
  }
}

TEST_P(EndIo, AFailedAppendLeavesSizeAndFreeSpace) {
  SmallFile file(200);
  AlignedBuffer memory = PatternBuffer(8 * kBlock, 1);
  IoRequest first(IoDirection::kWrite, file, 0, memory.data(), kBlock, 0);
  first->observer = &file;
  ASSERT_TRUE(RunIo(device_.get(), &first).ok());
  const uint64_t size = file.size;
  for (uint64_t nth = 1; nth <= 6; ++nth) {
    IoRequest append(IoDirection::kWrite, file, kBlock, memory.data(),
                     6 * kBlock, file.size);
    append->observer = &file;
    append->async = nth % 2 == 0;
    device_->FailNth(nth, EIO);
    EXPECT_EQ(EIO, RunIo(device_.get(), &append).error());
    EXPECT_EQ(0u, file.reserved()) << nth;
    EXPECT_EQ(1u, file.committed()) << nth;
    EXPECT_EQ(size, file.size) << nth;
    EXPECT_EQ(0, device_->stats().reservations);
  }
  // So does one that found no space half-way.
  SmallFile full(6);
  IoRequest append(IoDirection::kWrite, full, 0, memory.data(), 8 * kBlock, 0);
  append->observer = &full;
  EXPECT_EQ(ENOSPC, RunIo(device_.get(), &append).error());
  EXPECT_EQ(3u, full.handed.size());
  EXPECT_EQ(0u, full.reserved() + full.committed());
  EXPECT_EQ(0u, full.size);
}

// Size and extents become visible in EndIo: there the data has to be on the
// device already, on every block of it.
TEST_P(EndIo, TheDataHasArrivedWhenTheObserverHears) {
  class Checker final : public DioObserver {
   public:
    explicit Checker(EngineDevice* device) : device_(device) {}
    Result EndIo(const DioEnd& end) override {
      image = device_->Image();
      return Result::Bytes(end.bytes);
    }
    std::string image;

   private:
    EngineDevice* const device_;
  };
  constexpr uint64_t kCount = 9;
  const TestMapper mapper(ScatteredBlocks(kCount, BlockState::kNew));
  for (const bool async : {false, true}) {
    AlignedBuffer memory = PatternBuffer(kCount * kBlock, async ? 1 : 2);
    Checker checker(&device_);
    IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), kCount * kBlock,
                 0);
    io->observer = &checker;
    io->async = async;
    ASSERT_TRUE(RunIo(device_.get(), &io).ok());
    for (uint64_t i = 0; i < kCount; ++i) {
      EXPECT_EQ(std::string(memory.data() + i * kBlock, kBlock),
                checker.image.substr(2 * i * kBlock, kBlock))
          << i;
    }
  }
}

// A file whose size a writer publishes as its observer: what a reader finds
// below that size is what was written.
class GrowingFile final : public BlockMapper, public DioObserver {
 public:
  Result GetBlocks(uint64_t first, uint64_t count, bool create,
                   BlockMapping* mapping) const override {
    mapping->state = create ? BlockState::kNew : BlockState::kMapped;
    // Against the order of the file.
    mapping->device_block = 200 - first;
    mapping->count = count > 0 ? 1 : 0;
    return Result::Ok();
  }
  Result EndIo(const DioEnd& end) override {
    size.store(end.offset + end.bytes, std::memory_order_release);
    return Result::Bytes(end.bytes);
  }

  std::atomic<uint64_t> size{0};
};

TEST_P(EndIo, APollerOfTheSizeSeesEveryByteBelowIt) {
  constexpr uint64_t kTotal = 192 * kBlock;
  const uint64_t sector = GetParam().logical_block_bytes;
  AlignedBuffer content = PatternBuffer(kTotal, 3);
  GrowingFile file;
  std::atomic<bool> stop{false};
  std::thread poller([&] {
    AlignedBuffer memory = BufferPool::Get(kTotal);
    while (!stop) {
      const uint64_t size = file.size.load(std::memory_order_acquire);
      // The last blocks are the ones at risk.
      const uint64_t from =
          AlignDown(size > 8 * kBlock ? size - 8 * kBlock : 0, kBlock);
      ReadBatch::File view;
      view.device = device_.get();
      view.mapper = &file;
      view.file_size = size;
      const Result result =
          ReadRangeNow(view, from, size - from, memory.data());
      ASSERT_EQ(size - from, result.bytes()) << result.ToString();
      ASSERT_EQ(0,
                std::memcmp(content.data() + from, memory.data(), size - from))
          << size;
    }
  });
  uint64_t sectors = 1;
  for (uint64_t at = 0; at < kTotal;) {
    const uint64_t bytes = std::min(sectors * sector, kTotal - at);
    sectors = sectors % 23 + 2;
    // From a whole block on: what was there goes out again.
    const uint64_t from = AlignDown(at, kBlock);
    IoRequest io(IoDirection::kWrite, file, from, content.data() + from,
                 at + bytes - from, at);
    io->observer = &file;
    io->async = sectors % 2 == 0;
    const Result result = RunIo(device_.get(), &io);
    if (!result.ok()) {
      ADD_FAILURE() << result.ToString();
      break;
    }
    at += bytes;
  }
  stop = true;
  poller.join();
  EXPECT_EQ(kTotal, file.size);
}

// ---- Who is told, and how often ---------------------------------------------

struct Ending {
  const char* what;
  IoDirection direction;
  uint64_t offset;
  uint64_t bytes;
  uint64_t file_size;
  int mapper_error_at;  // block; -1: never
  WriteMode mode;
  int expected_error;
};

// Of each way in which a request can end.
const Ending kEndings[] = {
    {"read", IoDirection::kRead, 0, 6 * kBlock, 6 * kBlock, -1,
     WriteMode::kAllocate, 0},
    {"write", IoDirection::kWrite, 0, 6 * kBlock, 6 * kBlock, -1,
     WriteMode::kAllocate, 0},
    {"nothing to read", IoDirection::kRead, 0, 0, 6 * kBlock, -1,
     WriteMode::kAllocate, 0},
    {"nothing to write", IoDirection::kWrite, 0, 0, 6 * kBlock, -1,
     WriteMode::kAllocate, 0},
    {"behind the end", IoDirection::kRead, 9 * kBlock, kBlock, 6 * kBlock, -1,
     WriteMode::kAllocate, 0},
    {"misaligned", IoDirection::kWrite, 100, kBlock, 6 * kBlock, -1,
     WriteMode::kAllocate, EINVAL},
    {"a mapper that fails at once", IoDirection::kWrite, 0, 6 * kBlock, 0, 0,
     WriteMode::kAllocate, ENOSPC},
    {"a mapper that fails later", IoDirection::kWrite, 0, 6 * kBlock, 0, 3,
     WriteMode::kAllocate, ENOSPC},
    {"behind the end by overwriting", IoDirection::kWrite, 0, 6 * kBlock,
     kBlock, -1, WriteMode::kOverwriteOnly, EAGAIN},
    {"a hole at once", IoDirection::kWrite, 6 * kBlock, kBlock, 8 * kBlock, -1,
     WriteMode::kSkipHoles, 0},
    {"a hole later", IoDirection::kWrite, 4 * kBlock, 4 * kBlock, 8 * kBlock,
     -1, WriteMode::kSkipHoles, 0},
};

class Endings : public EndIo {
 protected:
  // Submits `ending`, with the `fail`-th bio (0: none) ending in EREMOTEIO.
  void Check(const Ending& ending, uint64_t fail, bool async) {
    SCOPED_TRACE(std::string(ending.what) + ", bio " + std::to_string(fail) +
                 (async ? " async" : ""));
    TestMapper mapper(ScatteredBlocks(6));
    if (ending.mapper_error_at >= 0) {
      mapper.answer = [&](uint64_t first, uint64_t, BlockMapping* mapping) {
        if (first == static_cast<uint64_t>(ending.mapper_error_at)) {
          return Result::Error(ENOSPC);
        }
        *mapping = {BlockState::kMapped, 2 * first, 1, false, 0};
        return Result::Ok();
      };
    }
    AlignedBuffer memory = PatternBuffer(6 * kBlock, 4);
    EndRecorder recorder;
    IoRequest io(ending.direction, mapper, ending.offset, memory.data(),
                 ending.bytes, ending.file_size);
    io->observer = &recorder;
    io->async = async;
    io->write_mode = ending.mode;
    device_->ClearTrace();
    if (fail > 0) device_->FailNth(fail, EREMOTEIO);
    Dio dio(device_.get());
    Dio::Submission submission = Dio::Submission::kDone;
    {
      Plug plug(device_.get());
      submission = dio.Submit(io.get(), &plug);
    }
    // Nobody is told before somebody waits, and then once.
    EXPECT_TRUE(recorder.ends.empty());
    EXPECT_TRUE(recorder.completions.empty());
    const Result result = dio.Wait();
    (void)dio.Wait();
    ASSERT_EQ(1u, recorder.ends.size());
    const bool queued = submission == Dio::Submission::kQueued;
    ASSERT_EQ(queued ? 1u : 0u, recorder.completions.size());
    EXPECT_EQ(result.error(), recorder.ends[0].error);
    EXPECT_EQ(result.bytes(), recorder.ends[0].bytes);
    if (queued) {
      EXPECT_EQ(result.error(), recorder.completions[0].error());
    }
    const bool failed = fail > 0 && fail <= device_->trace().size();
    EXPECT_EQ(ending.expected_error != 0 ? ending.expected_error
              : failed                   ? EREMOTEIO
                                         : 0,
              result.error());
    // A request that is whole, and moves something, is queued.
    const bool whole = ending.expected_error == 0 && !dio.fallback();
    EXPECT_EQ(whole && !device_->trace().empty(), queued);
    device_->ClearTrace();
  }
};

INSTANTIATE_TEST_SUITE_P(All, Endings, testing::ValuesIn(AllEngines()),
                         EngineTestName);

TEST_P(Endings, TheCallbackComesExactlyWhereQueuedWasSaid) {
  for (const Ending& ending : kEndings) {
    for (uint64_t fail = 0; fail <= 7; ++fail) {
      Check(ending, fail, false);
      Check(ending, fail, true);
    }
  }
}

TEST_P(Endings, D7TheEndIsToldAlsoWhenNoByteWasMoved) {
  for (const Ending& ending : kEndings) {
    TestMapper mapper(ScatteredBlocks(6));
    AlignedBuffer memory = PatternBuffer(6 * kBlock, 4);
    EndRecorder recorder;
    IoRequest io(ending.direction, mapper, ending.offset, memory.data(),
                 ending.bytes, ending.file_size);
    io->observer = &recorder;
    io->write_mode = ending.mode;
    (void)RunIo(device_.get(), &io);
    EXPECT_EQ(1u, recorder.ends.size()) << ending.what;
  }
  // What it returns is the result.
  class Overruler final : public DioObserver {
   public:
    Result EndIo(const DioEnd& end) override {
      if (end.bytes == 0) return Result::Error(EUCLEAN, "overruled");
      return Result::Bytes(7);
    }
  };
  Overruler overruler;
  const TestMapper mapper(ScatteredBlocks(2));
  AlignedBuffer memory = PatternBuffer(kBlock, 5);
  for (const uint64_t size : {uint64_t{0}, kBlock}) {
    IoRequest io(IoDirection::kRead, mapper, 0, memory.data(), kBlock, size);
    io->observer = &overruler;
    const Result result = RunIo(device_.get(), &io);
    EXPECT_EQ(size == 0 ? EUCLEAN : 0, result.error());
    EXPECT_EQ(size == 0 ? 0u : 7u, result.bytes());
  }
}

// Also where the owner lets go without having asked.
TEST_P(Endings, TheDestructorTellsWhereNobodyWaited) {
  const TestMapper mapper(ScatteredBlocks(6));
  AlignedBuffer memory = PatternBuffer(6 * kBlock, 6);
  EndRecorder recorder;
  IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), 6 * kBlock, 0);
  io->observer = &recorder;
  io->async = true;
  {
    Dio dio(device_.get());
    Plug plug(device_.get());
    EXPECT_EQ(Dio::Submission::kQueued, dio.Submit(io.get(), &plug));
    plug.Finish();
  }
  EXPECT_EQ(1u, recorder.ends.size());
  EXPECT_EQ(1u, recorder.completions.size());
}

// ---- Which thread -----------------------------------------------------------

// Others reap the bios; the observer, and the flush that may follow, are for
// the thread that waits.
TEST_P(EndIo, NoMetadataWorkOnTheThreadThatReaps) {
  const TestMapper mapper(ScatteredBlocks(8));
  AlignedBuffer memory = PatternBuffer(8 * kBlock, 7);
  for (int round = 0; round < 20; ++round) {
    EndRecorder recorder;
    IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), 8 * kBlock,
                 8 * kBlock);
    io->observer = &recorder;
    io->async = true;
    io->durability = Durability::kFlush;
    const uint64_t flushes = device_->stats().flushes;
    Dio dio(device_.get());
    {
      Plug plug(device_.get());
      (void)dio.Submit(io.get(), &plug);
    }
    std::thread reaper([&] {
      while (!dio.done()) {
        device_->Poll();
        sched_yield();
      }
    });
    reaper.join();
    EXPECT_TRUE(recorder.ends.empty());
    EXPECT_TRUE(recorder.completions.empty());
    EXPECT_EQ(flushes, device_->stats().flushes);
    ASSERT_TRUE(dio.Wait().ok());
    ASSERT_EQ(1u, recorder.ends.size());
    EXPECT_EQ(std::this_thread::get_id(), recorder.ends[0].thread);
    EXPECT_EQ(std::this_thread::get_id(), recorder.complete_thread);
    EXPECT_EQ(flushes + 1, device_->stats().flushes);
  }
}

// ---- References -------------------------------------------------------------

// Each block is sent off at once, while the walk goes on.
class SingleBlocks final : public BlockMapper {
 public:
  Result GetBlocks(uint64_t first, uint64_t count, bool /*create*/,
                   BlockMapping* mapping) const override {
    *mapping = {BlockState::kMapped, 2 * first, count > 0 ? 1u : 0u, true, 0};
    return Result::Ok();
  }
};

// Ties this thread to the index-th processor there is: left alone, threads that
// live for less than a second may all share one, and then nothing races.
void StayOnProcessor(size_t index) {
  cpu_set_t allowed;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof(allowed), &allowed));
  index %= static_cast<size_t>(CPU_COUNT(&allowed));
  size_t processor = 0;
  while (!CPU_ISSET(processor, &allowed) || index-- > 0) ++processor;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
}

// Hands bios to two threads by turns, without a lock, so that they are ended as
// nearly at once as can be: while the submission of their request goes on, or
// all together behind a gate.
class RaceDevice final : public BlockDevice {
 public:
  static constexpr size_t kThreads = 2;
  static constexpr size_t kMaxHeld = 512;  // for each thread

  RaceDevice() : BlockDevice("race", SimDevice::MakeGeometry(kDeviceBytes)) {}

  // The work of thread `thread`, until Stop.
  void EndBios(size_t thread) {
    StayOnProcessor(thread);
    for (size_t next = 0; !stop_;) {
      Bio* const bio = open_ ? held_[thread][next].exchange(nullptr) : nullptr;
      if (bio == nullptr) {
        sched_yield();
        continue;
      }
      Complete(bio, bio->bytes());
      next = (next + 1) % kMaxHeld;
      ++ended_;
    }
  }
  void Open(bool open) { open_ = open; }
  void Stop() { stop_ = true; }
  uint64_t ended() const { return ended_; }

  void Wait(Dio* dio, uint32_t /*wait_nr*/) override {
    EXPECT_TRUE(dio->done());
  }
  int64_t DoMove(Bio* bio) override { return bio->bytes(); }
  const char* backend_name() const override { return "race"; }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    for (size_t i = 0; i < count; ++i, ++submitted_) {
      held_[submitted_ % kThreads][submitted_ / kThreads % kMaxHeld] = bios[i];
    }
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t, uint64_t) override { return Result::Ok(); }

  std::array<std::array<std::atomic<Bio*>, kMaxHeld>, kThreads> held_{};
  uint64_t submitted_ = 0;
  std::atomic<uint64_t> ended_{0};
  std::atomic<bool> open_{true};
  std::atomic<bool> stop_{false};
};

// All references are gone when each has let go, and the request is done.
// `tools/test --long races` makes 10^7 of these races.
TEST(DioReferences, OfManyThreadsExactlyOneEndsTheRequest) {
  const uint64_t races = ScaledRounds(300000);
  // In a round, for after it the threads wait for each other.
  constexpr uint64_t kAtOnce = 256;
  constexpr uint64_t kBios = 4;
  static_assert(kAtOnce * kBios <= RaceDevice::kThreads * RaceDevice::kMaxHeld);
  RaceDevice device;
  const SingleBlocks mapper;
  AlignedBuffer memory = PatternBuffer(kAtOnce * kBios * kBlock, 8);
  std::vector<std::thread> enders;
  for (size_t t = 0; t < RaceDevice::kThreads; ++t) {
    enders.emplace_back([&, t] { device.EndBios(t); });
  }
  uint64_t submitted = 0;
  uint64_t lost = 0;
  while (submitted < races && lost == 0) {
    std::vector<EndRecorder> recorders(kAtOnce);
    std::vector<std::unique_ptr<Dio>> dios;
    device.Open(submitted / kAtOnce % 4 == 0);
    for (EndRecorder& recorder : recorders) {
      IoRequest io(IoDirection::kRead, mapper, 0,
                   memory.data() + dios.size() * kBios * kBlock, kBios * kBlock,
                   kBios * kBlock);
      io->observer = &recorder;
      dios.push_back(std::make_unique<Dio>(&device));
      Plug plug(&device);
      (void)dios.back()->Submit(io.get(), &plug);
      ++submitted;
    }
    device.Open(true);
    while (device.ended() < kBios * submitted) sched_yield();
    for (uint64_t i = 0; i < kAtOnce; ++i) {
      if (!dios[i]->done()) {
        ++lost;
        // Whoever waited for it would wait for ever.
        (void)dios[i].release();
        continue;
      }
      EXPECT_EQ(kBios * kBlock, dios[i]->Wait().bytes());
      EXPECT_EQ(1u, recorders[i].ends.size());
    }
  }
  device.Stop();
  for (std::thread& ender : enders) ender.join();
  EXPECT_EQ(0u, lost);
}

}  // namespace
}  // namespace diofs
