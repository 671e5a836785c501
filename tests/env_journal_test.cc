// ctest: one-thread

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string>
#include <vector>

#include "env/coding.h"
#include "env/file_kind.h"
#include "env/journal.h"
#include "env/metadata_op.h"
#include "env/region_header.h"
#include "tests/assert_ok.h"
#include "tests/journal_rig.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

// In 64 bits, for offsets.
constexpr uint64_t kBlock = kBlockBytes;
constexpr CommitLevel kWritten = CommitLevel::kWritten;
constexpr CommitLevel kDurable = CommitLevel::kDurable;

// Requests that reached the device since the last call.
class Counter {
 public:
  explicit Counter(SimDevice* device) : device_(device) { Next(); }
  std::string Next() {
    const uint64_t writes = device_->writes();
    const uint64_t flushes = device_->flushes();
    std::string text = std::to_string(writes - writes_) + " writes, " +
                       std::to_string(flushes - flushes_) + " flushes";
    writes_ = writes;
    flushes_ = flushes;
    return text;
  }

 private:
  SimDevice* const device_;
  uint64_t writes_ = 0;
  uint64_t flushes_ = 0;
};

class JournalTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(rig_.MountClean()); }

  JournalRig rig_;
};

TEST_F(JournalTest, AFormattedJournalIsEmptyAndDurable) {
  EXPECT_EQ(rig_.value(), 0u);
  EXPECT_FALSE(rig_.device().HasUnflushedWrites());
  EXPECT_EQ(rig_.report().region, 0u);
  EXPECT_EQ(rig_.report().snapshot_frames, 1u);
  EXPECT_EQ(rig_.report().delta_frames, 0u);
  EXPECT_EQ(rig_.report().operations, 1u);
  EXPECT_EQ(rig_.report().region_used_bytes, 2 * kBlock);
  EXPECT_EQ(rig_.report().corruption, "");
  EXPECT_EQ(rig_.journal().next_sequence(), 2u);
  EXPECT_EQ(rig_.journal().tail_lsn(), 0u);
}

TEST_F(JournalTest, ACommitCostsOneWriteAndTheFlushesItNeeds) {
  Counter counter(&rig_.device());
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  EXPECT_EQ(counter.Next(), "1 writes, 1 flushes");
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  EXPECT_EQ(counter.Next(), "1 writes, 0 flushes");
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  EXPECT_EQ(counter.Next(), "1 writes, 1 flushes");
  for (const SimEvent& event : rig_.device().Events()) {
    if (event.op == SimOp::kWrite && event.offset < 2 * kMinRegionBytes) {
      EXPECT_EQ(event.io_class, kIoClassJournal);
    }
  }
}

TEST_F(JournalTest, WhatIsDoneAlreadyCostsNothing) {
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  Counter counter(&rig_.device());
  for (const CommitLevel level : {kWritten, kDurable}) {
    for (const Lsn lsn : {0, 1, 2}) {
      ASSERT_OK(rig_.journal().Commit(lsn, level));
    }
  }
  EXPECT_EQ(counter.Next(), "0 writes, 0 flushes");
  EXPECT_EQ(rig_.journal().durable_lsn(), 2u);
}

TEST_F(JournalTest, AWrittenFrameBecomesDurableByAFlush) {
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  Counter counter(&rig_.device());
  ASSERT_OK(rig_.journal().Commit(1, kDurable));
  EXPECT_EQ(counter.Next(), "0 writes, 1 flushes");
  JournalRig after(rig_.device().DurableImage());
  ASSERT_OK(after.MountAfterPowerCut());
  EXPECT_EQ(after.value(), 1u);
  EXPECT_EQ(after.report().delta_frames, 1u);
}

// A log's flush carries the frames written before it along.
TEST_F(JournalTest, AFlushOfOthersIsTakenIntoAccount) {
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  const Journal::Mark mark = rig_.journal().written();
  ASSERT_OK(rig_.device().Flush());
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  rig_.journal().NoteFlushed(mark);
  EXPECT_EQ(rig_.journal().durable_lsn(), 1u);
  Counter counter(&rig_.device());
  ASSERT_OK(rig_.journal().Commit(1, kDurable));
  EXPECT_EQ(counter.Next(), "0 writes, 0 flushes");
  ASSERT_OK(rig_.journal().Commit(2, kDurable));
  EXPECT_EQ(counter.Next(), "0 writes, 1 flushes");
  // Old news changes nothing.
  rig_.journal().NoteFlushed(mark);
  EXPECT_EQ(rig_.journal().durable_lsn(), 2u);
}

// Only where no frame before it waits for a flush, which a write through is
// not.
TEST_F(JournalTest, ADurableFrameIsWrittenThroughWhereThatIsEnough) {
  Geometry geometry = SimDevice::MakeGeometry(JournalRig::kDeviceBytes);
  geometry.fua = true;
  JournalRig rig(rig_.device().Image(), geometry);
  ASSERT_OK(rig.MountAfterPowerCut());
  rig.journal().SetWriteThrough(true);
  ASSERT_OK(rig.journal().SwitchRegion());
  Counter counter(&rig.device());
  ASSERT_OK(rig.AddAndCommit(kDurable));
  EXPECT_EQ(counter.Next(), "1 writes, 0 flushes");
  EXPECT_TRUE(rig.device().Events().back().fua);
  EXPECT_EQ(rig.journal().durable_lsn(), 1u);
  ASSERT_OK(rig.AddAndCommit(kWritten));
  EXPECT_FALSE(rig.device().Events().back().fua);
  counter.Next();
  ASSERT_OK(rig.AddAndCommit(kDurable));
  EXPECT_EQ(counter.Next(), "1 writes, 1 flushes");
  ASSERT_OK(rig.AddAndCommit(kDurable));
  EXPECT_EQ(counter.Next(), "1 writes, 0 flushes");
  JournalRig after(rig.device().DurableImage());
  ASSERT_OK(after.MountAfterPowerCut());
  EXPECT_EQ(after.value(), 4u);
}

TEST_F(JournalTest, OneFrameCarriesAllThatHasGathered) {
  for (int i = 0; i < 10; ++i) rig_.Add();
  Counter counter(&rig_.device());
  ASSERT_OK(rig_.journal().Commit(3, kWritten));
  ASSERT_OK(rig_.journal().Commit(10, kWritten));
  EXPECT_EQ(counter.Next(), "1 writes, 0 flushes");
  EXPECT_EQ(rig_.journal().frames_written(), 1u);
}

TEST_F(JournalTest, ANumberNeverGivenCannotBeCommitted) {
  EXPECT_EQ(rig_.journal().Commit(1, kWritten).error(), EINVAL);
  ASSERT_OK(rig_.AddAndCommit(kDurable));
}

TEST_F(JournalTest, NumbersAndSequencesGoOnOverMounts) {
  for (uint64_t i = 1; i <= 20; ++i) {
    EXPECT_EQ(rig_.Add(), i);
    ASSERT_OK(rig_.journal().Commit(i, i % 3 == 0 ? kWritten : kDurable));
    if (i % 7 == 0) ASSERT_OK(rig_.journal().SwitchRegion());
    ASSERT_OK(rig_.journal().Commit(i, kDurable));
    const uint64_t sequence = rig_.journal().next_sequence();
    ASSERT_OK(rig_.MountClean());
    EXPECT_EQ(rig_.report().corruption, "");
    EXPECT_EQ(rig_.value(), i);
    EXPECT_EQ(rig_.journal().tail_lsn(), i);
    EXPECT_EQ(rig_.journal().durable_lsn(), i);
    EXPECT_EQ(rig_.journal().next_sequence(), sequence);
  }
}

// ---- What survives ----------------------------------------------------------

TEST_F(JournalTest, EveryWholeFrameCounts) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  JournalRig cut(rig_.device().Image());
  ASSERT_OK(cut.MountAfterPowerCut());
  EXPECT_EQ(cut.value(), 3u);
  EXPECT_EQ(cut.report().delta_frames, 3u);
  EXPECT_EQ(cut.report().corruption, "");
  // What is there without power is there for good.
  EXPECT_EQ(cut.journal().durable_lsn(), 3u);

  JournalRig killed(rig_.device().Image());
  ASSERT_OK(killed.MountAfterKill());
  EXPECT_EQ(killed.value(), 3u);
  EXPECT_EQ(killed.journal().tail_lsn(), 3u);
  // The device may hold them in its cache alone.
  EXPECT_EQ(killed.journal().durable_lsn(), 0u);
}

// Frames behind the end may be left over from before the crash, so the first
// commit goes to the other region, whatever the volume does.
TEST_F(JournalTest, AfterACrashNothingIsAddedToTheOldRegion) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  JournalRig cut(rig_.device().Image());
  ASSERT_OK(cut.MountAfterPowerCut());
  const uint64_t nonce = cut.journal().region_nonce();
  ASSERT_OK(cut.AddAndCommit(kWritten));
  EXPECT_NE(cut.journal().region_nonce(), nonce);
  ASSERT_OK(cut.MountAfterPowerCut());
  EXPECT_EQ(cut.value(), 3u);
}

TEST_F(JournalTest, ATornTailIsNoCorruption) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  ASSERT_OK(rig_.AddAndCommit(kDurable, 9000));
  // Of the last frame a middle block is missing.
  const uint64_t last = rig_.region_offset() + 3 * kBlock;
  rig_.Poke(last + kBlockBytes, std::string(kBlockBytes, '\0'));
  for (const bool same_boot : {false, true}) {
    JournalRig cut(rig_.device().Image());
    ASSERT_OK(same_boot ? cut.MountAfterKill() : cut.MountAfterPowerCut());
    EXPECT_EQ(cut.value(), 1u);
    EXPECT_EQ(cut.report().corruption, "");
  }
}

TEST_F(JournalTest, AHoleThatALaterFrameNamesDurableIsCorruption) {
  for (int i = 0; i < 3; ++i) ASSERT_OK(rig_.AddAndCommit(kDurable));
  rig_.Poke(rig_.region_offset() + 3 * kBlock + 70, "!");
  for (const bool same_boot : {false, true}) {
    JournalRig cut(rig_.device().Image());
    ASSERT_OK(same_boot ? cut.MountAfterKill() : cut.MountAfterPowerCut());
    EXPECT_EQ(cut.value(), 1u);
    EXPECT_EQ(cut.report().corruption,
              "frame 3 at byte 12288 of region 0 is missing (a frame with a "
              "wrong checksum), but frame 4 at byte 16384 names it durable");
    // And nothing may be written.
    Counter counter(&cut.device());
    EXPECT_EQ(cut.AddAndCommit(kWritten).error(), EUCLEAN);
    EXPECT_EQ(cut.journal().SwitchRegion().error(), EUCLEAN);
    EXPECT_EQ(counter.Next(), "0 writes, 0 flushes");
  }
}

// Of two frames written without a flush a power cut may keep the second alone.
TEST_F(JournalTest, AHoleAmongFramesNeverFlushedIsATornTail) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  rig_.Poke(rig_.region_offset() + 3 * kBlock, "????");
  JournalRig cut(rig_.device().Image());
  ASSERT_OK(cut.MountAfterPowerCut());
  EXPECT_EQ(cut.value(), 1u);
  EXPECT_EQ(cut.report().corruption, "");
  // But the death of a process takes nothing from a device.
  ASSERT_OK(cut.MountAfterKill());
  EXPECT_EQ(cut.value(), 1u);
  EXPECT_EQ(cut.report().corruption,
            "frame 3 at byte 12288 of region 0 is missing (no frame header), "
            "but frame 4 at byte 16384 was written after it, and no power was "
            "lost since");
}

TEST_F(JournalTest, ACleanUnmountSaysWhereTheJournalEnds) {
  for (int i = 0; i < 3; ++i) ASSERT_OK(rig_.AddAndCommit(kDurable));
  Journal::RecoveryInput input;
  input.clean_sequence = rig_.journal().next_sequence();
  input.clean_region_nonce = rig_.journal().region_nonce();
  const std::string image = rig_.device().Image();

  JournalRig sound(image);
  ASSERT_OK(sound.Mount(input));
  EXPECT_EQ(sound.report().corruption, "");

  // The last frame is damaged, and none behind it proves that it was there.
  JournalRig damaged(image);
  damaged.Poke(rig_.region_offset() + 4 * kBlock, "????");
  ASSERT_OK(damaged.Mount(input));
  EXPECT_EQ(damaged.value(), 2u);
  EXPECT_EQ(damaged.report().corruption,
            "a clean unmount left the next frame to be 5, but it is 4 at byte "
            "16384 of region 0: no frame header");
  EXPECT_EQ(damaged.AddAndCommit(kWritten).error(), EUCLEAN);

  JournalRig longer(image);
  input.clean_sequence -= 1;
  ASSERT_OK(longer.Mount(input));
  EXPECT_NE(longer.report().corruption, "");

  JournalRig another(image);
  input.clean_sequence += 1;
  input.clean_region_nonce ^= 1;
  ASSERT_OK(another.Mount(input));
  EXPECT_NE(another.report().corruption, "");
}

// Whichever bit of the middle frame flips: what came before is kept, and the
// damage is known, for the last frame names it durable.
TEST_F(JournalTest, EveryBitFlipOfAFrameIsDetected) {
  for (int i = 0; i < 3; ++i) ASSERT_OK(rig_.AddAndCommit(kDurable));
  const uint64_t middle = rig_.region_offset() + 3 * kBlock;
  const size_t used = kFrameHeaderBytes + kOpHeaderBytes + 16;
  const std::string frame = rig_.Peek(middle, used + 8);
  JournalRig spoilt(rig_.device().Image());
  for (size_t bit = 0; bit < frame.size() * 8; ++bit) {
    std::string flipped = frame;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    spoilt.Poke(middle, flipped);
    ASSERT_OK(spoilt.MountAfterPowerCut());
    const bool padding = bit / 8 >= used;
    ASSERT_EQ(spoilt.value(), padding ? 3u : 1u) << "bit " << bit;
    ASSERT_EQ(spoilt.report().corruption.empty(), padding) << "bit " << bit;
  }
}

TEST_F(JournalTest, AnErrorOfTheReplayNamesTheFrame) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  Journal journal(&rig_.device(), JournalRig::MakeLayout());
  Journal::RecoveryReport report;
  int frames = 0;
  const Result result = journal.Recover(
      {},
      [&](std::string_view) {
        return ++frames == 2 ? Result::Error(EUCLEAN, "no such parent")
                             : Result::Ok();
      },
      &report);
  EXPECT_EQ(result.error(), EUCLEAN);
  EXPECT_EQ(result.context(), "journal: frame 2: no such parent");
}

TEST_F(JournalTest, RecoveryWritesNothing) {
  for (int i = 0; i < 3; ++i) ASSERT_OK(rig_.AddAndCommit(kWritten));
  JournalRig cut(rig_.device().Image());
  ASSERT_OK(cut.MountAfterPowerCut());
  ASSERT_OK(cut.MountAfterKill());
  EXPECT_EQ(cut.device().writes(), 0u);
  EXPECT_EQ(cut.device().flushes(), 0u);
}

TEST_F(JournalTest, ReadErrorsFailTheRecovery) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  for (uint64_t nth = 1; nth <= 4; ++nth) {
    // No bad block, which would be read once more.
    rig_.device().FailNth(SimOp::kRead, nth, ETIMEDOUT);
    EXPECT_EQ(rig_.MountAfterPowerCut().error(), ETIMEDOUT) << nth;
  }
}

// ---- Regions ----------------------------------------------------------------

TEST_F(JournalTest, SwitchingMovesToTheOtherRegionAndBack) {
  for (uint64_t i = 1; i <= 5; ++i) {
    ASSERT_OK(rig_.AddAndCommit(kWritten));
    const uint64_t nonce = rig_.journal().region_nonce();
    ASSERT_OK(rig_.journal().SwitchRegion());
    EXPECT_NE(rig_.journal().region_nonce(), nonce);
    EXPECT_EQ(rig_.journal().durable_lsn(), i);
    JournalRig after(rig_.device().DurableImage());
    ASSERT_OK(after.MountAfterPowerCut());
    EXPECT_EQ(after.report().region, i % 2);
    EXPECT_EQ(after.report().delta_frames, 0u);
    EXPECT_EQ(after.value(), i);
  }
}

TEST_F(JournalTest, TheOldRegionBecomesATombstone) {
  ASSERT_OK(rig_.journal().SwitchRegion());
  const Journal::Layout layout = JournalRig::MakeLayout();
  RegionHeader old_header;
  ASSERT_OK(RegionHeader::Decode(
      rig_.Peek(layout.region_offset[0], kRegionHeaderBytes), layout.uuid,
      layout.region_bytes, &old_header));
  EXPECT_TRUE(old_header.tombstone());
  EXPECT_EQ(old_header.successor_nonce, rig_.journal().region_nonce());
}

TEST_F(JournalTest, ASwitchCoversWhatIsPending) {
  for (int i = 0; i < 4; ++i) rig_.Add();
  ASSERT_OK(rig_.journal().SwitchRegion());
  Counter counter(&rig_.device());
  ASSERT_OK(rig_.journal().Commit(4, kDurable));
  EXPECT_EQ(counter.Next(), "0 writes, 0 flushes");
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  JournalRig after(rig_.device().DurableImage());
  ASSERT_OK(after.MountAfterPowerCut());
  EXPECT_EQ(after.value(), 5u);
  EXPECT_EQ(after.report().delta_frames, 1u);
}

// One transaction comes when the leader has taken what was pending, one when
// the snapshot exists: the first is in the snapshot, the second in a frame.
TEST_F(JournalTest, WhatComesDuringASwitchIsCarriedOnce) {
  rig_.before_snapshot = rig_.after_snapshot = [this] { rig_.Add(); };
  ASSERT_OK(rig_.journal().SwitchRegion());
  EXPECT_EQ(rig_.journal().durable_lsn(), 2u);
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.value(), 2u);
  EXPECT_EQ(rig_.report().delta_frames, 1u);
}

TEST_F(JournalTest, SnapshotsOfSeveralFramesComeBack) {
  rig_.snapshot_padding_bytes = 350000;
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  ASSERT_OK(rig_.journal().SwitchRegion());
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  JournalRig after(rig_.device().DurableImage());
  ASSERT_OK(after.MountAfterPowerCut());
  EXPECT_EQ(after.value(), 2u);
  EXPECT_EQ(after.report().snapshot_frames, 5u);
}

TEST_F(JournalTest, ARegionIsLeftWhenThreeQuartersAreUsed) {
  const uint64_t nonce = rig_.journal().region_nonce();
  uint64_t commits = 0;
  while (rig_.journal().region_nonce() == nonce) {
    ASSERT_OK(rig_.AddAndCommit(kWritten, 20000));
    ASSERT_LT(++commits, 50u);
  }
  // Header, snapshot and `commits` - 1 frames of 5 blocks are more than that.
  EXPECT_EQ(commits, (kMinRegionBytes / 4 * 3 - 2 * kBlock) / (5 * kBlock) + 2);
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.value(), commits);
}

TEST_F(JournalTest, AFrameThatDoesNotFitIsReplacedByASnapshot) {
  const uint64_t nonce = rig_.journal().region_nonce();
  Counter counter(&rig_.device());
  ASSERT_OK(rig_.AddAndCommit(kWritten, kMinRegionBytes));
  EXPECT_NE(rig_.journal().region_nonce(), nonce);
  // Snapshot, header and tombstone, in two steps.
  EXPECT_EQ(counter.Next(), "3 writes, 2 flushes");
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.value(), 1u);
}

TEST_F(JournalTest, AfterALargeSnapshotTheRegionStillServesAWhile) {
  rig_.snapshot_padding_bytes = kMinRegionBytes / 10 * 7;
  ASSERT_OK(rig_.journal().SwitchRegion());
  const uint64_t nonce = rig_.journal().region_nonce();
  for (int i = 0; i < 60; ++i) ASSERT_OK(rig_.AddAndCommit(kWritten));
  EXPECT_EQ(rig_.journal().region_nonce(), nonce);
}

TEST_F(JournalTest, ASnapshotThatDoesNotFitIsNoSpace) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  rig_.snapshot_padding_bytes = kMinRegionBytes / 4 * 3;
  const Result result = rig_.journal().SwitchRegion();
  EXPECT_EQ(result.error(), ENOSPC);
  EXPECT_EQ(result.context(), "journal: snapshot of 811008 bytes does not fit");
  // What was taken from the queue is in no frame: nothing more may follow.
  EXPECT_EQ(rig_.AddAndCommit(kWritten).error(), ENOSPC);
  JournalRig after(rig_.device().DurableImage());
  ASSERT_OK(after.MountAfterPowerCut());
  EXPECT_EQ(after.value(), 1u);
}

// The headers of a volume whose live region is 1, in every state that a crash
// or decay can bring about.
class RegionChoice : public JournalTest {
 protected:
  void SetUp() override {
    JournalTest::SetUp();
    ASSERT_OK(rig_.AddAndCommit(kDurable));
    live_before_ = Header(0);
    ASSERT_OK(rig_.journal().SwitchRegion());
    ASSERT_OK(rig_.AddAndCommit(kDurable));
  }
  std::string Header(uint32_t region) {
    return rig_.Peek(JournalRig::MakeLayout().region_offset[region],
                     kRegionHeaderBytes);
  }
  void PutHeader(uint32_t region, const std::string& block) {
    rig_.Poke(JournalRig::MakeLayout().region_offset[region], block);
  }
  static std::string Torn(std::string header) {
    return header.replace(512, 1, "?");
  }

  std::string live_before_;
};

TEST_F(RegionChoice, WithoutTheTombstoneTheHigherSequenceWins) {
  PutHeader(0, live_before_);
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.report().region, 1u);
  EXPECT_EQ(rig_.value(), 2u);
}

TEST_F(RegionChoice, AHalfWrittenTombstoneIsNoHarm) {
  PutHeader(0, Torn(Header(0)));
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.report().region, 1u);
  EXPECT_EQ(rig_.value(), 2u);
}

TEST_F(RegionChoice, AHalfWrittenHeaderLeavesTheOldRegionLive) {
  PutHeader(0, live_before_);
  PutHeader(1, Torn(Header(1)));
  ASSERT_OK(rig_.MountAfterPowerCut());
  EXPECT_EQ(rig_.report().region, 0u);
  EXPECT_EQ(rig_.value(), 1u);
}

TEST_F(RegionChoice, ATombstoneWithoutItsSuccessorIsCorruption) {
  const std::string successor = Header(1);
  PutHeader(1, Torn(successor));
  EXPECT_EQ(rig_.MountAfterPowerCut().error(), EUCLEAN);

  const Journal::Layout layout = JournalRig::MakeLayout();
  RegionHeader another;
  ASSERT_OK(RegionHeader::Decode(successor, layout.uuid, layout.region_bytes,
                                 &another));
  another.nonce ^= 1;
  PutHeader(1, another.Encode());
  EXPECT_EQ(rig_.MountAfterPowerCut().context(),
            "journal: the region that took over is lost");

  PutHeader(1, Header(0));  // two tombstones
  EXPECT_EQ(rig_.MountAfterPowerCut().error(), EUCLEAN);
}

TEST_F(RegionChoice, WithoutAnyHeaderThereIsNoJournal) {
  PutHeader(0, std::string(kRegionHeaderBytes, '\0'));
  PutHeader(1, Torn(Header(1)));
  const Result result = rig_.MountAfterPowerCut();
  EXPECT_EQ(result.error(), EUCLEAN);
  EXPECT_EQ(result.context(),
            "journal: no region is valid: region 0: region header: no magic; "
            "region 1: region header: checksum");
}

TEST_F(RegionChoice, EqualSequencesAreCorruption) {
  PutHeader(0, Header(1));
  EXPECT_EQ(rig_.MountAfterPowerCut().error(), EUCLEAN);
}

TEST_F(RegionChoice, ADamagedSnapshotIsCorruption) {
  const uint64_t frame =
      JournalRig::MakeLayout().region_offset[1] + kRegionHeaderBytes;
  rig_.Poke(frame + 70, "!");
  const Result result = rig_.MountAfterPowerCut();
  EXPECT_EQ(result.error(), EUCLEAN);
  EXPECT_EQ(result.context(),
            "journal: snapshot frame 259 at byte 4096 of region 1 is missing: "
            "a frame with a wrong checksum");
}

// ---- Errors -----------------------------------------------------------------

TEST_F(JournalTest, TheFirstErrorIsKept) {
  ASSERT_OK(rig_.AddAndCommit(kDurable));
  rig_.device().FailNth(SimOp::kWrite, 1, EIO);
  const Result first = rig_.AddAndCommit(kWritten);
  EXPECT_EQ(first.error(), EIO);
  EXPECT_EQ(first.context().rfind("journal: frame 3: ", 0), 0u)
      << first.context();
  Counter counter(&rig_.device());
  // The device is sound again, but what failed once never becomes a success.
  EXPECT_EQ(rig_.AddAndCommit(kDurable).error(), EIO);
  EXPECT_EQ(rig_.journal().Commit(1, kDurable).error(), EIO);
  EXPECT_EQ(rig_.journal().SwitchRegion().error(), EIO);
  EXPECT_EQ(counter.Next(), "0 writes, 0 flushes");
}

TEST_F(JournalTest, AFlushThatFailsIsKeptToo) {
  ASSERT_OK(rig_.AddAndCommit(kWritten));
  rig_.device().FailNth(SimOp::kFlush, 1, EIO);
  EXPECT_EQ(rig_.AddAndCommit(kDurable).error(), EIO);
  EXPECT_EQ(rig_.journal().durable_lsn(), 0u);
  Counter counter(&rig_.device());
  EXPECT_EQ(rig_.AddAndCommit(kWritten).error(), EIO);
  EXPECT_EQ(counter.Next(), "0 writes, 0 flushes");
}

TEST_F(JournalTest, EveryErrorDuringASwitchIsKept) {
  for (const SimOp op : {SimOp::kWrite, SimOp::kFlush}) {
    for (uint64_t nth = 1; nth <= (op == SimOp::kWrite ? 3 : 2); ++nth) {
      JournalRig rig;
      ASSERT_OK(rig.MountClean());
      ASSERT_OK(rig.AddAndCommit(kDurable));
      rig.device().FailNth(op, nth, EIO);
      EXPECT_EQ(rig.journal().SwitchRegion().error(), EIO) << nth;
      EXPECT_EQ(rig.AddAndCommit(kWritten).error(), EIO);
      JournalRig after(rig.device().DurableImage());
      ASSERT_OK(after.MountAfterPowerCut());
      EXPECT_EQ(after.value(), 1u);
    }
  }
}

TEST_F(JournalTest, NothingIsWrittenBeforeRecovery) {
  Journal journal(&rig_.device(), JournalRig::MakeLayout());
  Counter counter(&rig_.device());
  EXPECT_EQ(journal.Append(PaddingOperations(1)), 1u);
  EXPECT_EQ(journal.Commit(1, kWritten).error(), EIO);
  EXPECT_EQ(counter.Next(), "0 writes, 0 flushes");
}

TEST_F(JournalTest, OperationsThatAreNotWholeNeverReachTheDevice) {
  Counter counter(&rig_.device());
  const Lsn lsn = rig_.journal().Append("half an operation");
  EXPECT_EQ(rig_.journal().Commit(lsn, kWritten).error(), EIO);
  EXPECT_EQ(counter.Next(), "0 writes, 0 flushes");
}

TEST_F(JournalTest, FormatTellsErrorsOfTheDevice) {
  Journal journal(&rig_.device(), JournalRig::MakeLayout());
  for (uint64_t nth = 1; nth <= 3; ++nth) {
    rig_.device().FailNth(SimOp::kWrite, nth, ENOSPC);
    EXPECT_EQ(journal.Format({PaddingOperations(1)}).error(), ENOSPC) << nth;
  }
  rig_.device().ClearFaults();
  ASSERT_OK(journal.Format({PaddingOperations(1)}));
  EXPECT_EQ(journal.Format({std::string(kMaxSnapshotPayload + 1, 'x')}).error(),
            EIO);
}

// ---- Hostile bytes ----------------------------------------------------------

TEST_F(JournalTest, ChangedRegionsNeverYieldAWrongReplay) {
  std::mt19937_64 rng(TestSeed());
  for (int i = 0; i < 6; ++i) {
    ASSERT_OK(rig_.AddAndCommit(i % 2 == 0 ? kDurable : kWritten, 3000));
  }
  ASSERT_OK(rig_.journal().Commit(6, kDurable));
  const std::string image = rig_.device().Image();
  const uint64_t used = rig_.region_offset() + 10 * kBlock;
  for (int round = 0; round < 200; ++round) {
    std::string changed = image;
    const uint64_t changes = rng() % 3 + 1;
    for (uint64_t change = 0; change < changes; ++change) {
      const uint64_t at = kBlockBytes + rng() % (used - kBlockBytes);
      const uint64_t count = std::min<uint64_t>(rng() % 600, used - at);
      for (uint64_t i = 0; i < count; ++i) {
        changed[at + i] = static_cast<char>(rng());
      }
    }
    JournalRig spoilt(changed);
    const Result result = spoilt.MountAfterPowerCut();
    ASSERT_TRUE(result.ok() || result.error() == EUCLEAN) << result.ToString();
    // All 6 were durable: fewer without a word would be silent loss, unless it
    // is the last frames that are gone, which a torn tail looks like. A change
    // may lie across two of them.
    if (result.ok() && spoilt.report().corruption.empty()) {
      EXPECT_GE(spoilt.value(), 6u - 2 * changes) << changes;
    }
  }
}

}  // namespace
}  // namespace diofs
