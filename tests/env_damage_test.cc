// ctest: one-thread
// ctest: TIMEOUT=600

// Blocks that a disk has no right to lose, rot or mix up: what is read is right
// or an error, never something else, and no synced byte goes away in silence.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dio/discarder.h"
#include "env/log_frame.h"
#include "env/open_file.h"
#include "env/region_header.h"
#include "env/volume.h"
#include "tests/crash_explorer.h"
#include "tests/crash_script.h"
#include "tests/parallel_jobs.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;
const std::vector<std::string> kNames = {"/000001.log", "/CURRENT"};

// A volume in which both names have a past.
class DamageTest : public testing::Test {
 protected:
  DamageTest()
      : geometry_(CrashGeometry(kVolumeBytes, 512, false)),
        fresh_(FreshVolume(geometry_).ToString()) {}

  // Everything synced at the end; then unmounted or cut off.
  void Work(bool unmount) {
    auto device = std::make_unique<CrashDevice>(
        CowImage(std::make_shared<const std::string>(fresh_)), geometry_,
        nullptr);
    CrashDevice* const kept = device.get();
    std::shared_ptr<Volume> volume;
    ASSERT_TRUE(Volume::Mount(std::move(device), NoClock(), &volume).ok());
    CrashScript script(kNames, volume, nullptr, CrashModel());
    std::vector<CrashStep> steps = {{CrashOp::kCreate, 0},
                                    {CrashOp::kCreate, 1}};
    for (int i = 0; i < 6; ++i) {
      for (const size_t name : {0, 1}) {
        steps.push_back({CrashOp::kAppendUnaligned, name});
        steps.push_back({CrashOp::kSync, name});
      }
    }
    steps.push_back({CrashOp::kAppendLarge, 0});
    steps.push_back({CrashOp::kAppendLarge, 0});
    steps.push_back({CrashOp::kSync, 0});
    // So that nothing from before is what is last.
    steps.push_back({CrashOp::kAppendUnaligned, 0});
    steps.push_back({CrashOp::kSync, 0});
    for (const CrashStep& step : steps) {
      ASSERT_TRUE(script.Run(step).ok());
    }
    if (unmount) {
      ASSERT_TRUE(script.Finish().ok());
    }
    image_ = kept->image().ToString();
    model_ = script.models().back();
    volume = nullptr;
    ASSERT_TRUE(MountCopy(&volume).ok());
    for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
      used_.push_back({SuperblockOffset(kVolumeBytes, i), kSuperblockBytes});
    }
    for (const uint64_t offset : volume->superblock().region_offset) {
      used_.push_back({offset, kRegionHeaderBytes});
    }
    const Journal::RecoveryReport& journal = volume->recovery();
    journal_ = {volume->superblock().region_offset[journal.region],
                journal.region_used_bytes};
    std::shared_ptr<OpenFile> file;
    ASSERT_TRUE(volume->Open(kNames[0], &file).ok());
    const uint64_t end = file->inode()->log->end().position;
    for (const Extent& extent : file->inode()->map()->extents()) {
      for (uint64_t i = 0; i < extent.count; ++i) {
        const bool used =
            (log_.size() + log_excess_.size()) * kBlockBytes < end;
        (used ? log_ : log_excess_).push_back((extent.start + i) * kBlockBytes);
      }
    }
  }

  Result MountCopy(std::shared_ptr<Volume>* volume) const {
    return MountCow(CowImage(std::make_shared<const std::string>(image_)),
                    volume, /*read_only=*/true);
  }
  Result MountCow(CowImage image, std::shared_ptr<Volume>* volume,
                  bool read_only) const {
    MountOptions options;
    options.read_only = read_only;
    return Volume::Mount(
        std::make_unique<CrashDevice>(std::move(image), geometry_, nullptr),
        NoClock(options), volume);
  }

  // "" where the damage is told, or where it does not show.
  std::string Look(const CowImage& image, bool read_only, bool* told) const {
    *told = true;
    std::shared_ptr<Volume> volume;
    if (const Result r = MountCow(image, &volume, read_only); !r.ok()) {
      return r.error() == EUCLEAN || r.error() == EPROTONOSUPPORT ||
                     r.error() == ENODATA
                 ? ""
                 : "mount: " + r.ToString();
    }
    // A volume that is mounted for reading says so, and shows what it has.
    if (!volume->recovery().corruption.empty()) return "";
    Tree tree;
    if (const Result r = ReadTree(volume.get(), &tree); !r.ok()) {
      return r.error() == EUCLEAN ? "" : "read: " + r.ToString();
    }
    *told = false;
    return model_.Check(tree);
  }

  const Geometry geometry_;
  const std::string fresh_;
  std::string image_;
  CrashModel model_;
  std::vector<DeviceRange> used_;
  DeviceRange journal_;
  // Device offsets of the log's blocks, and of those behind its end.
  std::vector<uint64_t> log_;
  std::vector<uint64_t> log_excess_;
};

// Every bit of what is not file content, on a volume that was unmounted; of 32
// one, but in long runs.
TEST_F(DamageTest, AFlippedBitOfMetadataIsToldOrHarmless) {
  Work(/*unmount=*/true);
  used_.push_back(journal_);
  for (size_t i = 0; i < 5; ++i) used_.push_back({log_[i], kBlockBytes});
  const auto base = std::make_shared<const std::string>(image_);
  std::atomic<uint64_t> told{0};
  const uint64_t seed = TestSeed();
  const uint64_t share = std::max<uint64_t>(256 / ScaledRounds(8), 1);
  for (const DeviceRange& range : used_) {
    const uint64_t count = range.bytes * 8 / share;
    const std::string problem = ForEachJob(count, [&](size_t i) {
      std::mt19937_64 rng(seed + range.offset + i);
      const uint64_t bit = i * share + rng() % share;
      const uint64_t at = range.offset + bit / 8;
      const char flipped =
          static_cast<char>((*base)[at] ^ static_cast<char>(1 << bit % 8));
      CowImage image(base);
      image.Write(at, &flipped, 1);
      bool is_told = false;
      const std::string wrong = Look(image, i % 8 != 0, &is_told);
      told += is_told;
      return wrong.empty() ? wrong
                           : "byte " + std::to_string(at) + " bit " +
                                 std::to_string(bit % 8) + ": " + wrong;
    });
    ASSERT_EQ(problem, "");
  }
  EXPECT_GT(told, 100u);
}

// On a volume that was cut off, where a torn tail is legal: damage in front of
// something newer is not taken for one.
TEST_F(DamageTest, LostAndRottenBlocksAreNoTornTail) {
  Work(/*unmount=*/false);
  // But for the last frames: there is nothing newer.
  journal_.bytes -= kBlockBytes;
  std::vector<uint64_t> blocks;
  for (uint64_t at = 0; at < journal_.bytes; at += kBlockBytes) {
    blocks.push_back(journal_.offset + at);
  }
  blocks.insert(blocks.end(), log_.begin(), log_.end() - 1);
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    blocks.push_back(SuperblockOffset(kVolumeBytes, i));
  }
  const auto base = std::make_shared<const std::string>(image_);
  uint64_t told = 0;
  for (const uint64_t block : blocks) {
    const std::string before = image_.substr(block, kBlockBytes);
    std::string rotten = before;
    char& rot = rotten[TestSeed() % kBlockBytes];
    rot = static_cast<char>(rot ^ 0x10);
    for (const std::string& content :
         {std::string(kBlockBytes, '\0'), std::string(kBlockBytes, '\xAE'),
          fresh_.substr(block, kBlockBytes), rotten}) {
      if (content == before) continue;
      CowImage image(base);
      image.Write(block, content.data(), kBlockBytes);
      bool is_told = false;
      EXPECT_EQ(Look(image, false, &is_told), "") << "block at " << block;
      told += is_told;
    }
  }
  EXPECT_GT(told, blocks.size());
}

// What lies behind the end of a log, in blocks that are its own.
TEST_F(DamageTest, WhatPreallocatedBlocksHoldIsNeverRead) {
  Work(/*unmount=*/false);
  const auto base = std::make_shared<const std::string>(image_);
  std::string stale;
  {
    // Whole frames, of a generation that is over.
    LogFrameHeader header;
    header.payload_bytes = 1000;
    header.generation = 12345;
    while (stale.size() < uint64_t{16} * kBlockBytes) {
      std::string frame(LogFrameBytes(header.payload_bytes), 's');
      header.Encode(frame.data());
      stale += frame;
      header.chain = header.crc;
      header.logical += header.payload_bytes;
      header.durable_upto = header.logical;
    }
    stale.resize(uint64_t{16} * kBlockBytes);
  }
  std::string own;
  for (size_t i = 0; i < 16; ++i) own += image_.substr(log_[i], kBlockBytes);
  ASSERT_GT(log_excess_.size(), 16u);
  for (const std::string& garbage :
       {std::string(uint64_t{16} * kBlockBytes, '\0'),
        std::string(uint64_t{16} * kBlockBytes, '\xAE'), stale, own}) {
    CowImage image(base);
    for (size_t i = 0; i < log_excess_.size(); ++i) {
      image.Write(log_excess_[i], garbage.data() + i % 16 * kBlockBytes,
                  kBlockBytes);
    }
    bool told = false;
    EXPECT_EQ(Look(image, false, &told), "");
    EXPECT_FALSE(told);
  }
}

}  // namespace
}  // namespace diofs
