#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "env/commit_timer.h"
#include "env/volume.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

// However slow the machine is.
template <typename Condition>
bool Eventually(const Condition& condition) {
  for (int i = 0; i < 60'000 && !condition(); ++i) {
    std::this_thread::sleep_for(milliseconds(1));
  }
  return condition();
}

TEST(CommitTimerTest, ArmedOnceItCommitsOnce) {
  std::atomic<int> commits{0};
  CommitTimer timer(milliseconds(1), [&] { ++commits; });
  EXPECT_EQ(commits, 0);
  timer.Arm();
  EXPECT_TRUE(Eventually([&] { return commits == 1; }));
  timer.Arm();
  EXPECT_TRUE(Eventually([&] { return commits == 2; }));
  timer.Stop();
  timer.Arm();
  EXPECT_EQ(commits, 2);
}

TEST(CommitTimerTest, WhatComesMeanwhileSharesTheDeadline) {
  std::atomic<int> commits{0};
  CommitTimer timer(hours(1), [&] { ++commits; });
  for (int i = 0; i < 1000; ++i) timer.Arm();
  // Does not wait for it, and makes none.
  timer.Stop();
  EXPECT_EQ(commits, 0);
}

TEST(CommitTimerTest, WhatComesDuringACommitNeedsAnother) {
  std::atomic<int> commits{0};
  std::unique_ptr<CommitTimer> timer;
  timer = std::make_unique<CommitTimer>(milliseconds(1), [&] {
    if (commits++ == 0) timer->Arm();
  });
  timer->Arm();
  EXPECT_TRUE(Eventually([&] { return commits == 2; }));
}

TEST(CommitTimerTest, NobodyHasToAskForDurability) {
  for (const FlushMode mode : {FlushMode::kDevice, FlushMode::kMemory}) {
    std::unique_ptr<SimDevice> device = FormattedSim(16 << 20);
    SimDevice* const sim = device.get();
    MountOptions options;
    options.flush_mode = mode;
    options.commit_interval_ms = 1;
    std::shared_ptr<Volume> volume;
    ASSERT_TRUE(Volume::Mount(std::move(device), options, &volume).ok());
    ASSERT_TRUE(volume->Mkdir("/d").ok());
    Journal* const journal = volume->journal();
    const Lsn lsn = journal->tail_lsn();
    EXPECT_TRUE(Eventually([&] { return journal->durable_lsn() >= lsn; }));
    std::shared_ptr<Volume> after;
    ASSERT_TRUE(MountSim(SimFrom(AfterReboot(sim->DurableImage())),
                         MountOptions(), &after)
                    .ok());
    FileStat stat;
    EXPECT_TRUE(after->Stat("/d", &stat).ok());
  }
}

// Freed blocks are somebody's again without a sync.
TEST(CommitTimerTest, FreedBlocksBecomeReusable) {
  std::unique_ptr<SimDevice> device = FormattedSim(16 << 20);
  MountOptions options;
  options.commit_interval_ms = 1;
  std::shared_ptr<Volume> volume;
  ASSERT_TRUE(Volume::Mount(std::move(device), options, &volume).ok());
  ASSERT_TRUE(
      WriteFile(volume.get(), "/a", std::string(1 << 20, 'a'), true).ok());
  ASSERT_TRUE(volume->Unlink("/a").ok());
  const Lsn lsn = volume->journal()->tail_lsn();
  EXPECT_TRUE(
      Eventually([&] { return volume->journal()->durable_lsn() >= lsn; }));
}

// No commit does that before three quarters are used.
TEST(CommitTimerTest, AHalfUsedRegionOfTheJournalIsLeft) {
  MountOptions options;
  options.commit_interval_ms = 1;
  std::shared_ptr<Volume> volume;
  ASSERT_TRUE(Volume::Mount(FormattedSim(16 << 20), options, &volume).ok());
  Journal* const journal = volume->journal();
  const uint64_t nonce = journal->region_nonce();
  for (int i = 0; !journal->half_used() && journal->region_nonce() == nonce;
       ++i) {
    ASSERT_TRUE(volume->Mkdir("/d").ok());
    ASSERT_TRUE(volume->Rmdir("/d").ok());
    ASSERT_LT(i, 1000);
  }
  EXPECT_TRUE(Eventually([&] { return journal->region_nonce() != nonce; }));
  EXPECT_FALSE(journal->half_used());
}

TEST(CommitTimerTest, AnErrorIsForWhoeverComesNext) {
  std::unique_ptr<SimDevice> device = FormattedSim(16 << 20);
  SimDevice* const sim = device.get();
  MountOptions options;
  options.flush_mode = FlushMode::kMemory;
  options.commit_interval_ms = 1;
  std::shared_ptr<Volume> volume;
  ASSERT_TRUE(Volume::Mount(std::move(device), options, &volume).ok());
  sim->FailNth(SimOp::kWrite, 1, EIO, /*forever=*/true);
  ASSERT_TRUE(volume->Mkdir("/d").ok());
  EXPECT_TRUE(Eventually([&] { return !volume->CheckAlive().ok(); }));
  EXPECT_EQ(volume->Mkdir("/e").error(), EROFS);
}

}  // namespace
}  // namespace diofs
