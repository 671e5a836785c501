// What a forked child finds of the devices its parent has opened, on every
// backend: nothing it can use, nothing that keeps it waiting, and nothing it
// could harm the parent with.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dio/annotate.h"
#include "dio/read_batch.h"
#include "tests/child_process.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 16;
constexpr uint64_t kBytes = kBlocks * kBlock;
constexpr uint64_t kDeviceBytes = 64 * kBlock;

// All of them; but not a pool of threads under AddressSanitizer, whose
// allocator is not readied for a fork: a thread that just starts holds one of
// its locks, and the child, in which there is no such thread, waits for it for
// ever.
std::vector<EngineParam> EnginesToFork() {
  std::vector<EngineParam> engines = AllEngines();
#if defined(DIOFS_ANNOTATE_ASAN)
  engines.erase(std::remove_if(engines.begin(), engines.end(),
                               [](const EngineParam& engine) {
                                 return engine.kind == EngineKind::kThreads;
                               }),
                engines.end());
#endif
  return engines;
}

class Forks : public testing::TestWithParam<EngineParam> {
 protected:
  Forks()
      : device_(GetParam(), kDeviceBytes), mapper_(ScatteredBlocks(kBlocks)) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  // An asynchronous request for all of `memory`.
  IoRequest Request(IoDirection direction, AlignedBuffer* memory) {
    IoRequest io(direction, mapper_, 0, memory->data(), kBytes, kBytes);
    io->async = true;
    return io;
  }
  // Writes what tells this round from others and reads it back.
  bool RoundTrip(BlockDevice* device, uint64_t round) {
    AlignedBuffer memory = PatternBuffer(kBytes, round);
    const std::string written(memory.data(), kBytes);
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      IoRequest io = Request(direction, &memory);
      if (RunIo(device, &io).bytes() != kBytes) return false;
      if (direction == IoDirection::kWrite) {
        std::memset(memory.data(), 'u', kBytes);
      }
    }
    return written.compare(0, kBytes, memory.data(), kBytes) == 0;
  }
  // The child's part: every call says that the device is not its own.
  bool EveryCallIsRefused() {
    AlignedBuffer memory = FilledBuffer(kBytes, 'c');
    for (BlockDevice* device :
         {static_cast<BlockDevice*>(device_.get()), device_->inner()}) {
      if (!device->stale() ||
          device->Read(0, memory.data(), kBlock, 0).error() != ESTALE ||
          device->Write(0, memory.data(), kBlock, 0).error() != ESTALE ||
          device->Flush().error() != ESTALE ||
          device->Discard(0, kBlock).error() != ESTALE) {
        return false;
      }
      for (const IoDirection direction :
           {IoDirection::kRead, IoDirection::kWrite}) {
        IoRequest io = Request(direction, &memory);
        if (RunIo(device, &io).error() != ESTALE) return false;
      }
      device->Poll();
    }
    return static_cast<uint64_t>(std::count(
               memory.data(), memory.data() + kBytes, 'c')) == kBytes;
  }

  EngineDevice device_;
  const TestMapper mapper_;
};

INSTANTIATE_TEST_SUITE_P(All, Forks, testing::ValuesIn(EnginesToFork()),
                         EngineTestName);

// Of three requests one has been waited for, one is in flight, and one has not
// left its plug.
TEST_P(Forks, AChildCanDoNothingAndHarmNothing) {
  for (uint64_t round = 0; round < 6; ++round) {
    const IoDirection direction =
        round % 2 == 0 ? IoDirection::kRead : IoDirection::kWrite;
    std::vector<AlignedBuffer> memory;
    std::vector<std::unique_ptr<Dio>> dios;
    for (uint64_t i = 0; i < 3; ++i) {
      memory.push_back(PatternBuffer(kBytes, 10 * round + i));
      dios.push_back(std::make_unique<Dio>(device_.get()));
    }
    IoRequest plugged = Request(direction, &memory[2]);
    Plug its_plug(device_.get());
    for (uint64_t i = 0; i < 2; ++i) {
      IoRequest io = Request(direction, &memory[i]);
      Plug plug(device_.get());
      (void)dios[i]->Submit(io.get(), &plug);
      plug.Finish();
    }
    EXPECT_EQ(kBytes, dios[0]->Wait().bytes());
    (void)dios[2]->Submit(plugged.get(), &its_plug);

    ChildProcess child([&](const ChildProcess::Parent&) {
      bool ok = dios[0]->Wait().bytes() == kBytes &&
                dios[1]->Wait().error() == ESTALE;
      its_plug.Finish();
      ok = ok && dios[2]->Wait().error() == ESTALE;
      dios.clear();
      ok = ok && EveryCallIsRefused();
      device_.Close();
      return ok;
    });
    EXPECT_EQ(0, child.Wait());
    EXPECT_EQ(kBytes, dios[1]->Wait().bytes());
    its_plug.Finish();
    EXPECT_EQ(kBytes, dios[2]->Wait().bytes());
    EXPECT_FALSE(device_->stale());
    EXPECT_TRUE(RoundTrip(device_.get(), round));
  }
}

// With buffers of its own between the device and the caller.
TEST_P(Forks, ABatchOfReadsBelongsToTheParent) {
  ASSERT_TRUE(RoundTrip(device_.get(), 1));
  AlignedBuffer memory = FilledBuffer(kBytes, 'u');
  ReadBatch::File file;
  file.device = device_.get();
  file.mapper = &mapper_;
  file.file_size = kBytes;
  std::vector<ReadRange> ranges(kBlocks / 2);
  for (uint64_t i = 0; i < ranges.size(); ++i) {
    ranges[i].offset = 2 * i * kBlock + i % 2;
    ranges[i].length = kBlock;
    ranges[i].memory = memory.data() + i * kBlock;
  }
  for (const bool waits : {true, false}) {
    auto batch = std::make_unique<ReadBatch>();
    batch->Submit(file, ranges.data(), ranges.size(), true);
    ChildProcess child([&](const ChildProcess::Parent&) {
      if (waits) {
        batch->Wait();
        for (const ReadRange& range : ranges) {
          if (range.result.error() != ESTALE) return false;
        }
      }
      batch.reset();
      const Result result = ReadRangeNow(file, 1, kBlock, memory.data());
      device_.Close();
      return result.error() == ESTALE;
    });
    EXPECT_EQ(0, child.Wait());
    batch->Wait();
    const AlignedBuffer content = PatternBuffer(kBytes, 1);
    for (const ReadRange& range : ranges) {
      ASSERT_EQ(kBlock, range.result.bytes()) << range.result.ToString();
      EXPECT_EQ(
          0, std::memcmp(content.data() + range.offset, range.memory, kBlock));
    }
  }
}

// A daemon forks and opens its device afterwards, or another one beside that of
// its parent.
TEST_P(Forks, WhatAChildOpensItselfWorks) {
  const std::string image = device_.Image();
  ChildProcess child([&](const ChildProcess::Parent&) {
    EngineDevice own(GetParam(), kDeviceBytes);
    return own.get() != nullptr && !own->stale() && RoundTrip(own.get(), 1) &&
           own->Flush().ok() && own->bios_in_use() == 0 && EveryCallIsRefused();
  });
  EXPECT_EQ(0, child.Wait());
  EXPECT_TRUE(image == device_.Image());
  EXPECT_TRUE(RoundTrip(device_.get(), 2));
}

// The flush ends in the parent, where it has begun.
TEST_P(Forks, AFlushUnderWayKeepsNobodyFromLeaving) {
  std::atomic<bool> flushing{false};
  std::atomic<bool> go{false};
  device_->after_flush = [&] {
    flushing = true;
    while (!go) std::this_thread::yield();
  };
  ASSERT_TRUE(RoundTrip(device_.get(), 1));
  std::thread flusher([&] { EXPECT_TRUE(device_->Flush().ok()); });
  while (!flushing) std::this_thread::yield();
  ChildProcess child([&](const ChildProcess::Parent&) {
    if (device_->Flush().error() != ESTALE) return false;
    device_.Close();
    return true;
  });
  EXPECT_EQ(0, child.Wait());
  go = true;
  flusher.join();
  EXPECT_TRUE(device_->Flush().ok());
}

}  // namespace
}  // namespace diofs
