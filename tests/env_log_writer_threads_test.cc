// A log's writer, of which several threads ask something at once.

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "env/file_reader.h"
#include "env/log_frame.h"
#include "env/log_walker.h"
#include "env/volume.h"
#include "tests/log_writer_fixture.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

TEST_F(LogWriterTest, SyncsBesideAppendsShareWrites) {
  Mount(FormattedSim(uint64_t{128} << 20));
  Create();
  writer_->SetPreallocation(32 << 20);
  constexpr int kAppends = 2000;
  std::vector<std::thread> threads;
  threads.reserve(3);
  std::string content;
  threads.emplace_back([&] {
    for (int i = 0; i < kAppends; ++i) {
      const std::string more = Pattern(i, 300);
      content += more;
      EXPECT_TRUE(Append(more).ok());
    }
  });
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      uint64_t durable = 0;
      while (durable < uint64_t{kAppends} * 300) {
        const uint64_t size = writer_->size();
        EXPECT_TRUE(writer_->Sync().ok());
        durable = size;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Read(), content);
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

// Closed in one mount, it was appended to in the next one, and the power cut
// took the record of that along, but not the frames.
TEST_F(LogWriterTest, FramesBehindTheEndOfAClosedLogStayForgotten) {
  Create();
  ASSERT_OK(Append("kept"));
  ASSERT_OK(writer_->Close());
  ASSERT_OK(volume_->Sync());
  Reopen();
  ASSERT_OK(Append(" lost"));
  ASSERT_OK(writer_->WriteOut());
  std::string image =
      AfterReboot(WithoutUnflushedJournal(*sim_, volume_->superblock()));
  for (int mount = 0; mount < 3; ++mount) {
    Mount(SimFrom(image));
    EXPECT_EQ(Read(), "kept");
    Reopen();
    if (mount == 1) {
      ASSERT_OK(volume_->Unmount());
    } else {
      // Makes the record, and leaves no frame behind it.
      sim_->FailNth(SimOp::kWrite, 1, EIO, /*forever=*/true);
      EXPECT_FALSE(Append("x").ok() && writer_->Flush().ok());
    }
    image = AfterReboot(sim_->DurableImage());
  }
}

TEST_F(LogWriterTest, AGrowingTruncateThatDoesNotFitChangesNothing) {
  Create();
  ASSERT_OK(Append("front"));
  EXPECT_EQ(writer_->Truncate(kVolumeBytes).error(), ENOSPC);
  EXPECT_EQ(writer_->Truncate(kMaxLogBytes + 1).error(), EFBIG);
  EXPECT_EQ(writer_->size(), 5u);
  ASSERT_OK(writer_->Truncate(8));
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(ReadAfterPowerCut(), std::string("front\0\0\0", 8));
}

// Each life of the file is filled with a letter of its own: what is read is of
// one life, and no reader takes a cut for damage.
TEST_F(LogWriterTest, ReadersBesideTruncateSeeOneLife) {
  for (uint64_t round = 0; round < ScaledRounds(20); ++round) {
    Create();
    ASSERT_OK(Append(std::string(20000, 'a')));
    std::atomic<bool> stop{false};
    std::vector<std::thread> readers;
    readers.reserve(2);
    for (int t = 0; t < 2; ++t) {
      readers.emplace_back([&] {
        const FileReader reader(file_);
        std::string memory(40000, '-');
        while (!stop) {
          const Result result = reader.Read(0, memory.size(), memory.data());
          ASSERT_TRUE(result.ok()) << result.ToString();
          const std::string content = memory.substr(0, result.bytes());
          EXPECT_EQ(content.find_first_not_of(content[0]), std::string::npos);
        }
      });
    }
    // What is cut off stays allocated while the file is open.
    for (char life = 'b'; life < 'z'; ++life) {
      EXPECT_TRUE(writer_->Truncate(0).ok());
      EXPECT_TRUE(Append(std::string(20000, life)).ok());
    }
    stop = true;
    for (std::thread& reader : readers) reader.join();
  }
}

// Without any word of its final size; the clock's commit, made here by hand,
// comes between the two.
TEST_F(LogWriterTest, BlocksAreJournaledBeforeTheyAreNeeded) {
  Create();
  const auto of_journal = [this] {
    return volume_->device()->stats().by_class[kIoClassJournal].writes.load();
  };
  ASSERT_OK(Append("first"));
  ASSERT_OK(writer_->Sync());
  uint64_t blocks = file_->inode()->map()->blocks();
  uint64_t grown = 0;
  std::string content = "first";
  while (grown < 4) {
    const std::string more = Pattern(content.size(), 3000);
    content += more;
    uint64_t journal = of_journal();
    ASSERT_OK(Append(more));
    ASSERT_OK(writer_->Sync());
    const uint64_t now = file_->inode()->map()->blocks();
    EXPECT_EQ(of_journal(), journal) << content.size();
    if (now == blocks) continue;
    ++grown;
    // A quarter of them was left.
    EXPECT_GT(blocks * kBlockBytes, content.size() + (32 << 10));
    blocks = now;
    ASSERT_OK(volume_->SyncNames());
    EXPECT_EQ(of_journal(), journal + 1);
  }
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

// They are there when they are needed, whether or not the clock was in time.
TEST_F(LogWriterTest, ASyncNamesBlocksThatWereAllocatedAhead) {
  MountWithFua();
  Create();
  std::string content;
  while (content.size() < 2'000'000) {
    const std::string more = Pattern(content.size(), 20000);
    content += more;
    ASSERT_OK(Append(more));
    ASSERT_OK(writer_->Sync());
  }
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

// Whoever comes while the write of another one is under way.
TEST_F(LogWriterTest, NobodyIsToldOfAWriteBeforeItIsOver) {
  Create();
  ASSERT_OK(Append("first"));
  ASSERT_OK(writer_->Sync());
  for (const bool sync : {false, true}) {
    ASSERT_OK(Append("more"));
    std::thread other;
    std::atomic<bool> returned{false};
    sim_->on_write = [&] {
      if (other.joinable()) return;
      other = std::thread([&] {
        EXPECT_TRUE((sync ? writer_->Sync() : writer_->Flush()).ok());
        returned = true;
      });
      // It would be back by then, if it did not wait.
      for (int i = 0; i < 100 && !returned; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      EXPECT_FALSE(returned);
    };
    EXPECT_TRUE(writer_->WriteOut().ok());
    other.join();
    sim_->on_write = nullptr;
  }
  EXPECT_EQ(ReadAfterPowerCut(), "firstmoremore");
}

// The flush of a Sync covers nothing of what a Truncate puts in its place
// meanwhile: frames must not name it durable.
TEST_F(LogWriterTest, ATruncateDuringTheFlushOfASyncIsNotMistakenForIt) {
  Create();
  ASSERT_OK(Append(std::string(50000, 'o')));
  std::thread other;
  sim_->on_flush = [&] {
    if (other.joinable()) return;
    other = std::thread([&] { EXPECT_TRUE(writer_->Truncate(100).ok()); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  };
  ASSERT_OK(writer_->Sync());
  other.join();
  sim_->on_flush = nullptr;
  ASSERT_OK(Append("new"));
  ASSERT_OK(writer_->WriteOut());
  ASSERT_OK(Append("newer"));
  ASSERT_OK(writer_->WriteOut());
  EXPECT_EQ(Read(), std::string(100, 'o') + "newnewer");
  // Only what the Truncate itself made durable is certain.
  EXPECT_EQ(ReadAfterPowerCut(), std::string(100, 'o'));
  LogWalker::Stream stream;
  stream.device = sim_;
  stream.map = file_->inode()->map();
  const LogPosition mark = file_->inode()->log->FindMark(0, &stream.segments);
  LogWalker walker(std::move(stream), mark);
  LogWalker::Frame frame;
  for (bool found = true; found;) {
    ASSERT_OK(walker.Next(&frame, &found));
    EXPECT_LE(frame.header.durable_upto, 100u);
  }
}

// Where free space is scattered, blocks that come ahead of need may change
// where a frame goes that was planned before.
TEST_F(LogWriterTest, SyncsOnAFragmentedVolumeNameEveryBlock) {
  std::mt19937_64 rng(TestSeed());
  for (uint64_t round = 0; round < ScaledRounds(4); ++round) {
    MountWithFua();
    std::vector<std::string> paths;
    while (true) {
      const std::string path = "/" + std::to_string(paths.size()) + ".sst";
      const uint64_t bytes = (rng() % 30 + 1) * kBlockBytes;
      if (!WriteFile(volume_.get(), path, std::string(bytes, 'f'), false)
               .ok()) {
        break;
      }
      paths.push_back(path);
    }
    for (const std::string& path : paths) {
      if (rng() % 2 == 0) {
        ASSERT_OK(volume_->Unlink(path));
      }
    }
    ASSERT_OK(volume_->SyncNames());
    Create();
    std::string content;
    for (int i = 0; i < 12; ++i) {
      const std::string more = Pattern(rng(), rng() % 100000 + 1);
      ASSERT_OK(Append(more));
      content += more;
      ASSERT_OK(writer_->Sync());
      ASSERT_EQ(ReadAfterPowerCut() == content, true) << content.size();
    }
  }
}

// The plan of an Append cuts its bytes in two; then blocks come ahead of need
// that hold them in one piece, and that is where the Sync writes them.
TEST_F(LogWriterTest, ASyncNamesBlocksThatCameAfterItsPlan) {
  constexpr uint64_t kRunBytes = uint64_t{12} * kBlockBytes;
  MountWithFua();
  ASSERT_OK(WriteFile(volume_.get(), "/large",
                      std::string(uint64_t{100} * kBlockBytes, 'l'), false));
  size_t files = 0;
  const auto fill = [&](uint64_t bytes) {
    while (WriteFile(volume_.get(), "/" + std::to_string(files),
                     std::string(bytes, 'f'), false)
               .ok()) {
      ++files;
    }
    return files;
  };
  // The last ones are made of what was left over.
  const size_t runs = fill(kRunBytes) / 2;
  fill(kBlockBytes);
  for (size_t i = 0; i < runs; i += 2) {
    ASSERT_OK(volume_->Unlink("/" + std::to_string(i)));
  }
  ASSERT_OK(volume_->SyncNames());
  Create();
  std::string content;
  for (int i = 0; i < 4; ++i) {
    const std::string run = Pattern(i, kRunBytes - kLogFrameHeaderBytes);
    ASSERT_OK(Append(run));
    ASSERT_OK(writer_->Sync());
    content += run;
  }
  const auto extents = [this] { return file_->inode()->map()->extents(); };
  ASSERT_EQ(extents().size(), 6u);
  ASSERT_EQ(extents()[4].count, 12u);
  ASSERT_EQ(extents()[5].count, 4u);
  ASSERT_OK(volume_->Unlink("/large"));
  ASSERT_OK(volume_->SyncNames());
  const std::string more = Pattern(4, kRunBytes + 2000);
  ASSERT_OK(Append(more));
  ASSERT_EQ(extents().size(), 7u);
  ASSERT_GE(extents()[6].count, 13u);
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(ReadAfterPowerCut() == content + more, true);
}

// Nobody of them has to know of the others: each call does what it says with
// what is there when it is served.
TEST_F(LogWriterTest, AppendsSyncsClosesAndTruncatesMayMeet) {
  std::mt19937_64 rng(TestSeed());
  Create();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop) EXPECT_TRUE(writer_->Sync().ok());
    });
  }
  threads.emplace_back([&] {
    while (!stop) EXPECT_TRUE(writer_->Close().ok());
  });
  threads.emplace_back([&, seed = rng()] {
    std::mt19937_64 sizes(seed);
    while (!stop) {
      const uint64_t size = writer_->size();
      EXPECT_TRUE(writer_->Truncate(size == 0 ? 0 : sizes() % size).ok());
    }
  });
  for (uint64_t i = 0; i < ScaledRounds(1000); ++i) {
    EXPECT_TRUE(Append(std::string(rng() % 3000 + 1, 'x')).ok());
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(Append("the end"));
  ASSERT_OK(writer_->Sync());
  const std::string content = Read();
  EXPECT_EQ(content.size(), writer_->size());
  EXPECT_EQ(content.find_first_not_of('x'), content.size() - 7);
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

}  // namespace
}  // namespace diofs
