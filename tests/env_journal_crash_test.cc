// ctest: one-thread

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string>
#include <utility>

#include "env/journal.h"
#include "tests/journal_rig.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr CommitLevel kWritten = CommitLevel::kWritten;
constexpr CommitLevel kDurable = CommitLevel::kDurable;

// What the journal promised before the crash.
struct Promise {
  uint64_t written = 0;
  uint64_t durable = 0;
  bool all_done = false;
  int ahead = 0;  // switches beside commits
};

// The same mix of commits and switches every time, until the device fails.
Promise Work(JournalRig* rig, uint64_t seed) {
  std::mt19937_64 rng(seed);
  Promise promise;
  rig->snapshot_padding_bytes = 9000;
  const auto commit_two = [rig, &promise] {
    if (!rig->AddAndCommit(kWritten).ok()) return;
    promise.written = rig->value();
    rig->Add(5000);
    if (!rig->AddAndCommit(kDurable).ok()) return;
    promise.written = promise.durable = rig->value();
  };
  for (int i = 0; i < 30; ++i) {
    const size_t padding_bytes = rng() % 8 == 0 ? 90000 : rng() % 6000;
    if (rng() % 4 == 0) rig->Add(padding_bytes);
    const CommitLevel level = rng() % 3 == 0 ? kDurable : kWritten;
    if (!rig->AddAndCommit(level, padding_bytes).ok()) return promise;
    promise.written = rig->value();
    promise.durable = std::max(promise.durable, rig->journal().durable_lsn());
    if (i % 12 != 11 && rng() % 9 == 0) {
      if (!rig->journal().SwitchRegion().ok()) return promise;
      promise.durable = rig->value();
    } else if (i % 12 == 11) {
      // Commits go on beside it.
      while (!rig->journal().half_used()) {
        if (!rig->AddAndCommit(kWritten, 90000).ok()) return promise;
        promise.written = rig->value();
      }
      rig->before_snapshot = rig->after_snapshot = commit_two;
      const bool switched = rig->journal().SwitchAhead().ok();
      rig->before_snapshot = rig->after_snapshot = nullptr;
      if (!switched) return promise;
      promise.written = promise.durable = rig->value();
      ++promise.ahead;
    }
  }
  promise.all_done = true;
  return promise;
}

// Mounts what is left, and shows that one can go on from there.
void CheckSurvivor(std::string image, bool power_cut, uint64_t at_least,
                   uint64_t at_most) {
  JournalRig rig(std::move(image));
  const Result result =
      power_cut ? rig.MountAfterPowerCut() : rig.MountAfterKill();
  ASSERT_TRUE(result.ok()) << result.ToString();
  ASSERT_EQ(rig.report().corruption, "");
  ASSERT_GE(rig.value(), at_least);
  ASSERT_LE(rig.value(), at_most);
  const uint64_t value = rig.value();
  ASSERT_TRUE(rig.journal().SwitchRegion().ok());
  ASSERT_TRUE(rig.AddAndCommit(kDurable).ok());
  ASSERT_TRUE(rig.MountAfterPowerCut().ok());
  ASSERT_EQ(rig.value(), value + 1);
}

// Stops the device at its `step`th write or flush and looks at what a power cut
// or the death of the process leaves. True when the work was done before.
bool CrashAt(SimOp op, uint64_t step, uint64_t seed, std::mt19937_64* rng) {
  JournalRig rig;
  EXPECT_TRUE(rig.MountClean().ok());
  rig.device().FailNth(op, step, EIO, /*forever=*/true);
  const Promise promise = Work(&rig, seed);
  const uint64_t appended = rig.value();
  CheckSurvivor(rig.device().Image(), false, promise.written, appended);
  CheckSurvivor(rig.device().Image(), true, promise.durable, appended);
  CheckSurvivor(rig.device().DurableImage(), true, promise.durable, appended);
  for (int i = 0; i < 2; ++i) {
    CheckSurvivor(rig.device().CrashImage(rng), true, promise.durable,
                  appended);
  }
  if (promise.all_done) {
    EXPECT_EQ(promise.ahead, 2);
  }
  return promise.all_done;
}

// All that was durable is there, and of the rest a prefix in order: the rig
// refuses anything else.
TEST(JournalCrash, AtEveryWriteAndFlushADurablePrefixSurvives) {
  const uint64_t seed = TestSeed();
  std::mt19937_64 rng(seed);
  for (const SimOp op : {SimOp::kWrite, SimOp::kFlush}) {
    uint64_t step = 1;
    while (!CrashAt(op, step, seed, &rng)) {
      ASSERT_FALSE(HasFailure())
          << (op == SimOp::kWrite ? "write " : "flush ") << step;
      ASSERT_LT(++step, 500u);
    }
    EXPECT_GT(step, 5u);
  }
}

// A crash in the first commits after a crash finds three lives of two regions.
TEST(JournalCrash, CrashesInARowLoseNothingDurable) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 12; ++round) {
    std::string image;
    {
      JournalRig fresh;
      image = fresh.device().Image();
    }
    uint64_t durable = 0;
    uint64_t appended = 0;
    for (int life = 0; life < 8; ++life) {
      JournalRig rig(image);
      const Result result = rig.MountAfterPowerCut();
      ASSERT_TRUE(result.ok()) << result.ToString();
      ASSERT_EQ(rig.report().corruption, "");
      ASSERT_GE(rig.value(), durable);
      ASSERT_LE(rig.value(), appended);
      durable = rig.value();
      rig.device().FailNth(SimOp::kWrite, rng() % 30 + 1, EIO, true);
      if (rig.journal().SwitchRegion().ok()) {
        durable = std::max(durable, Work(&rig, rng()).durable);
      }
      appended = rig.value();
      image = rig.device().CrashImage(&rng);
    }
  }
}

// A new volume over an old one: no frame of the old may come back to life.
TEST(JournalCrash, FormattingAgainForgetsTheOldVolume) {
  JournalRig rig;
  ASSERT_TRUE(rig.MountClean().ok());
  ASSERT_TRUE(Work(&rig, 1).all_done);
  std::mt19937_64 rng(TestSeed());
  Journal journal(&rig.device(), JournalRig::MakeLayout());
  ASSERT_TRUE(journal.Format({""}).ok());
  for (int i = 0; i < 8; ++i) {
    JournalRig after(rig.device().CrashImage(&rng));
    ASSERT_TRUE(after.MountAfterPowerCut().ok());
    EXPECT_EQ(after.value(), 0u);
    EXPECT_EQ(after.report().delta_frames, 0u);
  }
}

}  // namespace
}  // namespace diofs
