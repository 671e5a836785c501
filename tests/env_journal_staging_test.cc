#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "env/journal.h"
#include "env/staging.h"
#include "env/staging_reader.h"
#include "tests/journal_rig.h"
#include "tests/staging_rig.h"
#include "tests/temp_dir.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

class JournalStagingTest : public testing::Test {
 protected:
  void SetUp() override {
    staging_ = StartStaging(dir_.File("staging"));
    ASSERT_NE(staging_, nullptr);
    ASSERT_TRUE(rig_.MountAfterPowerCut().ok());
    rig_.journal().SetStaging(staging_.get());
  }
  void TearDown() override { rig_.journal().SetStaging(nullptr); }

  // Mounts `next` as after a death at this moment, with what was staged.
  void MountAfterDeath(JournalRig* next, StagedContent* content) {
    const Result read = ReadStaging(staging_->file(), content);
    EXPECT_TRUE(read.ok()) << read.ToString();
    Journal::RecoveryInput input;
    input.same_boot = true;
    input.bases = content->bases;
    const Result mounted = next->Mount(input);
    EXPECT_TRUE(mounted.ok()) << mounted.ToString();
  }
  // The value that it finds. A failure of the test where it must not trust what
  // was staged.
  uint64_t AfterDeath() {
    JournalRig next(rig_.device().Image());
    StagedContent content;
    MountAfterDeath(&next, &content);
    EXPECT_TRUE(next.report().base_found);
    uint64_t value = next.value();
    for (const StagedRecord& record : content.records) {
      EXPECT_EQ(record.type, StagedType::kOperations);
      EXPECT_LE(record.number, value + 1) << "a gap";
      value = std::max(value, record.number);
    }
    return value;
  }

  const TempDir dir_;
  std::unique_ptr<Staging> staging_;
  JournalRig rig_;
};

TEST_F(JournalStagingTest, WhatIsAppendedSurvivesWithoutAWrite) {
  const uint64_t writes = rig_.device().writes();
  for (int i = 0; i < 100; ++i) {
    const Lsn lsn = rig_.Add(50);
    EXPECT_TRUE(rig_.journal().Safe(lsn));
    EXPECT_FALSE(rig_.journal().Safe(lsn + 1));
  }
  EXPECT_EQ(rig_.device().writes(), writes);
  EXPECT_EQ(AfterDeath(), 100u);
}

TEST_F(JournalStagingTest, WhatIsOnTheDeviceMakesRoom) {
  uint64_t bytes = 0;
  while (bytes < 3 * kMinStagingBytes) {
    const Lsn lsn = rig_.Add(20000);
    ASSERT_TRUE(rig_.journal().Safe(lsn)) << lsn;
    bytes += 20000;
    if (lsn % 20 == 0) {
      ASSERT_TRUE(rig_.journal().Commit(lsn, CommitLevel::kWritten).ok());
    }
  }
  EXPECT_EQ(AfterDeath(), rig_.value());
}

// It is not safe, nor is anything behind it, until it is on the device.
TEST_F(JournalStagingTest, WhatFindsNoRoomIsNotSafe) {
  Lsn lsn = 0;
  do {
    lsn = rig_.Add(20000);
  } while (rig_.journal().Safe(lsn));
  const Lsn small = rig_.Add();
  EXPECT_FALSE(rig_.journal().Safe(small));
  EXPECT_EQ(AfterDeath(), lsn - 1);
  ASSERT_TRUE(rig_.journal().Commit(lsn, CommitLevel::kWritten).ok());
  EXPECT_TRUE(rig_.journal().Safe(small));
  EXPECT_TRUE(rig_.journal().Safe(rig_.Add()));
  EXPECT_EQ(AfterDeath(), small + 1);
}

TEST_F(JournalStagingTest, AfterAnErrorNothingIsSafe) {
  rig_.device().FailNth(SimOp::kWrite, 1, EIO);
  EXPECT_FALSE(rig_.AddAndCommit(CommitLevel::kWritten).ok());
  EXPECT_TRUE(rig_.journal().Safe(1));
  EXPECT_FALSE(rig_.journal().Safe(rig_.Add()));
}

// A copy of the device that was taken earlier is not what the records continue.
TEST_F(JournalStagingTest, AnOlderStateOfTheDeviceIsSeen) {
  const auto found_in = [this](const std::string& image) {
    JournalRig next(image);
    StagedContent content;
    MountAfterDeath(&next, &content);
    return next.report().base_found;
  };
  const std::string before = rig_.device().Image();
  EXPECT_TRUE(found_in(before));
  ASSERT_TRUE(rig_.AddAndCommit(CommitLevel::kWritten).ok());
  const std::string behind = rig_.device().Image();
  EXPECT_FALSE(found_in(before));
  EXPECT_TRUE(found_in(behind));
  ASSERT_TRUE(rig_.journal().SwitchRegion().ok());
  EXPECT_FALSE(found_in(behind));
  EXPECT_TRUE(found_in(rig_.device().Image()));
  ASSERT_TRUE(rig_.AddAndCommit(CommitLevel::kDurable).ok());
  EXPECT_TRUE(found_in(rig_.device().Image()));
}

// Before and behind each write of commits and switches, and while a snapshot is
// taken: what was safe is found.
TEST_F(JournalStagingTest, ADeathAtAnyWriteLosesNothingThatWasSafe) {
  std::mt19937_64 rng(TestSeed());
  uint64_t deaths = 0;
  uint64_t safe = 0;
  const auto die = [&] {
    ++deaths;
    ASSERT_GE(AfterDeath(), safe);
  };
  const auto add = [&] {
    const Lsn lsn = rig_.Add(rng() % 3 == 0 ? rng() % 60000 : 10);
    if (rig_.journal().Safe(lsn)) safe = lsn;
  };
  // What comes meanwhile is not carried.
  const auto add_and_die = [&] {
    if (rng() % 2 == 0) add();
    die();
  };
  rig_.device().on_write = add_and_die;
  rig_.device().on_flush = die;
  rig_.before_snapshot = die;
  rig_.after_snapshot = add_and_die;
  const uint64_t rounds = ScaledRounds(120);
  for (uint64_t round = 0; round < rounds && !HasFailure(); ++round) {
    for (uint64_t i = rng() % 6; i > 0; --i) add();
    die();
    Result result;
    switch (rng() % 5) {
      case 0:
        result = rig_.journal().SwitchRegion();
        break;
      case 1:
        result = rig_.journal().SwitchAhead();
        break;
      case 2:
        result = rig_.AddAndCommit(CommitLevel::kDurable);
        break;
      default:
        result = rig_.journal().Commit(rig_.value(), CommitLevel::kWritten);
    }
    ASSERT_TRUE(result.ok()) << result.ToString();
    die();
  }
  EXPECT_GT(deaths, rounds);
}

}  // namespace
}  // namespace diofs
