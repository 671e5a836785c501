// Commits and switches of the journal's region beside each other.

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "env/journal.h"
#include "tests/assert_ok.h"
#include "tests/journal_rig.h"

namespace diofs {
namespace {

constexpr CommitLevel kWritten = CommitLevel::kWritten;
constexpr CommitLevel kDurable = CommitLevel::kDurable;

class JournalThreadsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(rig_.MountClean()); }

  static void UseHalf(JournalRig* rig) {
    while (!rig->journal().half_used()) {
      ASSERT_OK(rig->AddAndCommit(kWritten, 20000));
    }
  }
  Journal& journal() { return rig_.journal(); }

  JournalRig rig_;
};

// On one thread: a commit that had to wait for the snapshot would do so for
// ever.
TEST_F(JournalThreadsTest, CommitsGoOnWhileASnapshotIsWrittenAhead) {
  rig_.snapshot_padding_bytes = 150000;
  ASSERT_OK(journal().SwitchAhead());
  const uint64_t nonce = journal().region_nonce();
  while (!journal().half_used()) {
    ASSERT_OK(rig_.AddAndCommit(kWritten, 20000));
    ASSERT_EQ(journal().region_nonce(), nonce) << "it was half empty";
  }
  rig_.Add();
  rig_.before_snapshot = [this] { ASSERT_OK(rig_.AddAndCommit(kWritten)); };
  rig_.after_snapshot = [this] {
    ASSERT_OK(rig_.AddAndCommit(kDurable));
    ASSERT_OK(rig_.AddAndCommit(kWritten));
    rig_.Add();
  };
  ASSERT_OK(journal().SwitchAhead());
  EXPECT_NE(journal().region_nonce(), nonce);
  EXPECT_FALSE(journal().half_used());
  EXPECT_EQ(journal().durable_lsn(), rig_.value());
  const uint64_t value = rig_.value();
  JournalRig after(rig_.device().DurableImage());
  ASSERT_OK(after.MountAfterPowerCut());
  EXPECT_EQ(after.report().region, 1u);
  EXPECT_EQ(after.report().delta_frames, 1u);
  EXPECT_EQ(after.value(), value);
  rig_.before_snapshot = rig_.after_snapshot = nullptr;
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.value(), value + 1);
}

// More comes while the snapshot is written than the region has room for behind
// it: another snapshot is taken, while nobody commits.
TEST_F(JournalThreadsTest, WhatDoesNotFitBehindASnapshotIsInTheNext) {
  UseHalf(&rig_);
  rig_.snapshot_padding_bytes = kMinRegionBytes / 10 * 7;
  int snapshots = 0;
  rig_.after_snapshot = [&] {
    if (snapshots++ == 0) rig_.Add(kMinRegionBytes / 10 * 4);
  };
  ASSERT_OK(journal().SwitchAhead());
  EXPECT_EQ(snapshots, 2);
  EXPECT_EQ(journal().durable_lsn(), rig_.value());
  const uint64_t value = rig_.value();
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.report().delta_frames, 0u);
  EXPECT_EQ(rig_.value(), value);
}

// The region is full before the one that is to take over is there: commits wait
// for that, and not for a snapshot of their own.
TEST_F(JournalThreadsTest, AFullRegionWaitsForTheSnapshotUnderWay) {
  UseHalf(&rig_);
  std::thread committer;
  std::atomic<bool> done{false};
  int snapshots = 0;
  rig_.after_snapshot = [&] {
    ++snapshots;
    const Lsn lsn = rig_.Add(kMinRegionBytes / 2);
    committer = std::thread([&, lsn] {
      EXPECT_TRUE(journal().Commit(lsn, kWritten).ok());
      done = true;
    });
    // It would be through by then, if it did not wait.
    for (int i = 0; i < 200 && !done; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_FALSE(done);
  };
  ASSERT_OK(journal().SwitchAhead());
  committer.join();
  EXPECT_EQ(snapshots, 1);
  const uint64_t value = rig_.value();
  ASSERT_OK(rig_.MountAfterKill());
  EXPECT_EQ(rig_.value(), value);
}

// A commit that is under way when the snapshot is there still writes to the old
// region, and must not be the last to say where the journal is.
TEST_F(JournalThreadsTest, ASwitchWaitsForTheCommitUnderWay) {
  UseHalf(&rig_);
  std::thread committer;
  std::thread releaser;
  std::atomic<bool> writing{false};
  std::atomic<bool> released{false};
  std::atomic<std::thread::id> committing;
  rig_.device().on_write = [&] {
    if (std::this_thread::get_id() != committing) return;
    writing = true;
    while (!released) std::this_thread::yield();
  };
  rig_.after_snapshot = [&] {
    const Lsn lsn = rig_.Add();
    committer = std::thread([&, lsn] {
      committing = std::this_thread::get_id();
      EXPECT_TRUE(journal().Commit(lsn, kWritten).ok());
    });
    while (!writing) std::this_thread::yield();
    // Time enough for a switch that does not wait.
    releaser = std::thread([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      released = true;
    });
  };
  ASSERT_OK(journal().SwitchAhead());
  committer.join();
  releaser.join();
  rig_.device().on_write = nullptr;
  rig_.after_snapshot = nullptr;
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  const uint64_t value = rig_.value();
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.value(), value);
}

// Wherever it fails, before or after commits stand still.
TEST_F(JournalThreadsTest, AnErrorAheadIsKept) {
  for (const SimOp op : {SimOp::kWrite, SimOp::kFlush}) {
    uint64_t nth = 1;
    while (true) {
      JournalRig rig;
      ASSERT_OK(rig.MountClean());
      UseHalf(&rig);
      rig.snapshot_padding_bytes = 150000;
      rig.after_snapshot = [&rig] { rig.Add(); };
      const uint64_t value = rig.value();
      rig.device().FailNth(op, nth, EIO);
      if (rig.journal().SwitchAhead().ok()) break;
      EXPECT_EQ(rig.journal().SwitchAhead().error(), EIO) << nth;
      EXPECT_EQ(rig.AddAndCommit(kWritten).error(), EIO) << nth;
      JournalRig after(rig.device().Image());
      ASSERT_OK(after.MountAfterKill());
      EXPECT_GE(after.value(), value);
      ++nth;
    }
    // Three pieces of a snapshot, a frame behind it, header and tombstone.
    EXPECT_EQ(nth, op == SimOp::kWrite ? 7u : 3u);
  }
}

TEST_F(JournalThreadsTest, ConcurrentCommitsShareFramesAndAllSurvive) {
  constexpr int kThreads = 4;
  constexpr int kCommitsEach = 250;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  std::atomic<int> failures{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kCommitsEach; ++i) {
        const CommitLevel level = (i + t) % 3 == 0 ? kDurable : kWritten;
        if (!rig_.AddAndCommit(level, 500).ok()) ++failures;
        if (i % 100 == 99 && !journal().SwitchRegion().ok()) ++failures;
        if (!journal().SwitchAhead().ok()) ++failures;
        static_cast<void>(journal().frames_written());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  // Each switch writes one frame of snapshot in addition.
  EXPECT_LE(journal().frames_written(), rig_.commits() + 20);
  EXPECT_EQ(rig_.value(), kThreads * kCommitsEach);

  JournalRig killed(rig_.device().Image());
  ASSERT_OK(killed.MountAfterKill());
  EXPECT_EQ(killed.report().corruption, "");
  EXPECT_EQ(killed.value(), kThreads * kCommitsEach);
  JournalRig cut(rig_.device().DurableImage());
  ASSERT_OK(cut.MountAfterPowerCut());
  EXPECT_GE(cut.value(), journal().durable_lsn());
}

// The second one comes while the first one's snapshot is taken.
TEST_F(JournalThreadsTest, ASwitchWaitsForTheOneBeforeIt) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  std::thread second;
  std::atomic<bool> done{false};
  rig_.after_snapshot = [&] {
    if (second.joinable()) return;
    second = std::thread([&] {
      EXPECT_TRUE(journal().SwitchRegion().ok());
      done = true;
    });
    // It would be through by then, if it did not wait.
    for (int i = 0; i < 200 && !done; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_FALSE(done);
  };
  ASSERT_OK(journal().SwitchRegion());
  second.join();
  rig_.after_snapshot = nullptr;
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.value(), 2u);
}

// Eight transactions wait while a switch is under way, which carries them all.
TEST_F(JournalThreadsTest, WaitersOfBothLevelsShareOneFrame) {
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  rig_.after_snapshot = [&] {
    for (int i = 0; i < 8; ++i) {
      const Lsn lsn = rig_.Add();
      threads.emplace_back([this, &failures, lsn] {
        if (!journal().Commit(lsn, kDurable).ok()) ++failures;
        if (!journal().Commit(lsn, kWritten).ok()) ++failures;
      });
    }
  };
  ASSERT_OK(journal().SwitchRegion());
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(journal().frames_written(), 2u);  // one is the snapshot
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.value(), 8u);
  EXPECT_EQ(rig_.report().delta_frames, 1u);
}

TEST_F(JournalThreadsTest, AnErrorReachesEveryWaiter) {
  std::vector<std::thread> threads;
  std::atomic<int> errors{0};
  rig_.after_snapshot = [&] {
    for (int i = 0; i < 4; ++i) {
      const Lsn lsn = rig_.Add();
      threads.emplace_back([this, &errors, lsn] {
        if (journal().Commit(lsn, kDurable).error() == EIO) ++errors;
      });
    }
    rig_.device().FailNth(SimOp::kWrite, 1, EIO);
  };
  EXPECT_EQ(journal().SwitchRegion().error(), EIO);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(errors, 4);
}

}  // namespace
}  // namespace diofs
