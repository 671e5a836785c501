// ctest: one-thread

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "env/coding.h"
#include "env/crc32c.h"
#include "env/file_kind.h"
#include "env/superblock.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = kMinVolumeBytes + uint64_t{3} * kBlockBytes;

Superblock Sample() {
  Superblock sb;
  for (size_t i = 0; i < sb.uuid.size(); ++i) {
    sb.uuid[i] = static_cast<uint8_t>(i + 1);
    sb.mount_nonce[i] = static_cast<uint8_t>(0x40 + i);
    sb.boot_id[i] = static_cast<uint8_t>(0x80 + i);
  }
  sb.epoch = 17;
  sb.device_bytes = kVolumeBytes;
  sb.flags = Superblock::kDirty | Superblock::kFullyWritten;
  sb.feature_compat = 1;
  sb.feature_ro_compat = 2;
  sb.region_offset = {kJournalOffset, kJournalOffset + kMinRegionBytes};
  sb.region_bytes = kMinRegionBytes;
  sb.created_us = 1700000000000000;
  sb.label = "orders";
  sb.flush_mode = FlushMode::kMemory;
  sb.owner_pid = 4711;
  sb.mounted_us = 1700000001000000;
  sb.clean_sequence = 99;
  sb.clean_region_nonce = 0x1122334455667788;
  return sb;
}

void ExpectEqual(const Superblock& a, const Superblock& b) {
  EXPECT_EQ(a.uuid, b.uuid);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.device_bytes, b.device_bytes);
  EXPECT_EQ(a.flags, b.flags);
  EXPECT_EQ(a.feature_compat, b.feature_compat);
  EXPECT_EQ(a.feature_ro_compat, b.feature_ro_compat);
  EXPECT_EQ(a.feature_incompat, b.feature_incompat);
  EXPECT_EQ(a.region_offset, b.region_offset);
  EXPECT_EQ(a.region_bytes, b.region_bytes);
  EXPECT_EQ(a.created_us, b.created_us);
  EXPECT_EQ(a.label, b.label);
  EXPECT_EQ(a.mount_nonce, b.mount_nonce);
  EXPECT_EQ(a.boot_id, b.boot_id);
  EXPECT_EQ(a.flush_mode, b.flush_mode);
  EXPECT_EQ(a.owner_pid, b.owner_pid);
  EXPECT_EQ(a.mounted_us, b.mounted_us);
  EXPECT_EQ(a.clean_sequence, b.clean_sequence);
  EXPECT_EQ(a.clean_region_nonce, b.clean_region_nonce);
}

void FixChecksum(std::string* block) {
  EncodeFixed<uint32_t>(&(*block)[kBlockCrcOffset], 0);
  EncodeFixed(&(*block)[kBlockCrcOffset], Crc32c(block->data(), block->size()));
}

Result Decode(const std::string& block, uint64_t device_bytes = kVolumeBytes) {
  Superblock decoded;
  return Superblock::Decode(block, device_bytes, &decoded);
}

Result DecodeChanged(const std::function<void(Superblock*)>& change,
                     uint64_t device_bytes = kVolumeBytes) {
  Superblock sb = Sample();
  change(&sb);
  return Decode(sb.Encode(), device_bytes);
}

// A device with a volume on it, whose copies a test can spoil.
class SuperblockOnDevice : public testing::Test {
 protected:
  static std::string ImageWith(const Superblock& sb, uint64_t device_bytes) {
    std::string image(device_bytes, '\0');
    const std::string block = sb.Encode();
    for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
      image.replace(SuperblockOffset(sb.device_bytes, i), block.size(), block);
    }
    return image;
  }
  static void PutCopy(std::string* image, uint32_t copy,
                      const std::string& block) {
    image->replace(SuperblockOffset(kVolumeBytes, copy), block.size(), block);
  }
  Result Load(std::string image) {
    const Geometry geometry = SimDevice::MakeGeometry(image.size());
    SimDevice device(std::move(image), geometry);
    return LoadSuperblock(&device, &loaded_, &scan_);
  }

  std::string image_ = ImageWith(Sample(), kVolumeBytes);
  Superblock loaded_;
  SuperblockScan scan_;
};

std::string OtherVersion(uint32_t version) {
  std::string block = Sample().Encode();
  EncodeFixed(&block[8], version);
  FixChecksum(&block);
  return block;
}

TEST(Superblock, ComesBackAsItWas) {
  const std::string block = Sample().Encode();
  ASSERT_EQ(block.size(), kSuperblockBytes);
  Superblock decoded;
  const Result result = Superblock::Decode(block, kVolumeBytes, &decoded);
  ASSERT_TRUE(result.ok()) << result.ToString();
  ExpectEqual(Sample(), decoded);
}

// The table of env/format.md.
TEST(Superblock, FieldsLieWhereTheFormatDescriptionSays) {
  const std::string block = Sample().Encode();
  const auto u32 = [&](size_t at) { return DecodeFixed<uint32_t>(&block[at]); };
  const auto u64 = [&](size_t at) { return DecodeFixed<uint64_t>(&block[at]); };
  EXPECT_EQ(block.substr(0, 8), std::string("DIOFSSB\0", 8));
  EXPECT_EQ(u32(8), kFormatVersion);
  EXPECT_EQ(block[16], 1);
  EXPECT_EQ(u64(32), 17u);
  EXPECT_EQ(u64(40), kVolumeBytes);
  EXPECT_EQ(u32(48), kBlockBytes);
  EXPECT_EQ(u32(52), 3u);
  EXPECT_EQ(u64(56), 1u);
  EXPECT_EQ(u64(64), 2u);
  EXPECT_EQ(u64(72), 0u);
  EXPECT_EQ(u64(80), kJournalOffset);
  EXPECT_EQ(u64(88), kJournalOffset + kMinRegionBytes);
  EXPECT_EQ(u64(96), kMinRegionBytes);
  EXPECT_EQ(block[104], 0x40);
  EXPECT_EQ(block[120], '\x80');
  EXPECT_EQ(u32(136), 2u);
  EXPECT_EQ(u32(140), 4711u);
  EXPECT_EQ(u64(144), 1700000000000000u);
  EXPECT_EQ(u64(152), 1700000001000000u);
  EXPECT_EQ(u64(160), 99u);
  EXPECT_EQ(u64(168), 0x1122334455667788u);
  EXPECT_EQ(block.substr(176, 7), std::string("orders\0", 7));
  EXPECT_EQ(block.find_first_not_of('\0', 182), std::string::npos);
}

TEST(Superblock, EverySingleBitFlipIsDetected) {
  std::string block = Sample().Encode();
  for (size_t bit = 0; bit < block.size() * 8; ++bit) {
    block[bit / 8] ^= static_cast<char>(1 << bit % 8);
    ASSERT_EQ(Decode(block).error(), EUCLEAN) << "bit " << bit;
    block[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
  EXPECT_TRUE(Decode(block).ok());
}

TEST(Superblock, ForeignBlocksAreNamed) {
  EXPECT_EQ(Decode(std::string(kSuperblockBytes, '\0')).context(),
            "not a DioFS superblock");
  EXPECT_EQ(Decode("short").error(), EUCLEAN);
}

// Before the checksum, which another version may compute in its own way.
TEST(Superblock, OtherVersionsAreRefusedByName) {
  std::string block = OtherVersion(7);
  EXPECT_EQ(Decode(block).error(), EPROTONOSUPPORT);
  EXPECT_EQ(Decode(block).context(),
            "format version 7, but this program knows version 2 only");
  block[300] = 'x';
  EXPECT_EQ(Decode(block).error(), EPROTONOSUPPORT);
}

TEST(Superblock, UnknownFeaturesAreRefusedByBit) {
  const Result result =
      DecodeChanged([](Superblock* sb) { sb->feature_incompat = 0x8002; });
  EXPECT_EQ(result.error(), EPROTONOSUPPORT);
  EXPECT_EQ(result.context(),
            "needs features this program does not know: bits 1 15");
}

TEST(Superblock, ValuesAreBounded) {
  using Change = std::function<void(Superblock*)>;
  const std::pair<const char*, Change> changes[] = {
      {"larger than the device",
       [](Superblock* sb) { sb->device_bytes += kBlockBytes; }},
      {"volume size", [](Superblock* sb) { sb->device_bytes -= 512; }},
      {"volume size",
       [](Superblock* sb) {
         sb->device_bytes = kMinVolumeBytes - kBlockBytes;
       }},
      {"unknown flags", [](Superblock* sb) { sb->flags = 8; }},
      {"unknown flush mode",
       [](Superblock* sb) { sb->flush_mode = static_cast<FlushMode>(3); }},
      {"unknown flush mode",
       [](Superblock* sb) { sb->flush_mode = static_cast<FlushMode>(0); }},
      {"region size", [](Superblock* sb) { sb->region_bytes -= kBlockBytes; }},
      {"region size",
       [](Superblock* sb) {
         sb->region_bytes = kMaxRegionBytes + kBlockBytes;
       }},
      {"region size", [](Superblock* sb) { sb->region_bytes += 512; }},
      {"region offset", [](Superblock* sb) { sb->region_offset[0] += 512; }},
      {"region offset", [](Superblock* sb) { sb->region_bytes = 32 << 20; }},
      {"region offset",
       [](Superblock* sb) { sb->region_offset[1] = UINT64_MAX - 4095; }},
      {"region offset",
       [](Superblock* sb) {
         sb->region_offset[1] = kVolumeBytes - kMinRegionBytes + kBlockBytes;
       }},
      {"region overlaps a superblock",
       [](Superblock* sb) { sb->region_offset[0] = 0; }},
      {"region overlaps a superblock",
       [](Superblock* sb) { sb->region_offset[0] = kSecondSuperblockOffset; }},
      {"region overlaps a superblock",
       [](Superblock* sb) {
         sb->region_offset[0] =
             SuperblockOffset(kVolumeBytes, 2) + kBlockBytes - kMinRegionBytes;
       }},
      {"region overlaps a superblock",
       [](Superblock* sb) {
         sb->region_offset[1] = kVolumeBytes - kMinRegionBytes;
       }},
      {"regions overlap",
       [](Superblock* sb) {
         sb->region_offset[1] = sb->region_offset[0] + kBlockBytes;
       }},
  };
  for (const auto& [problem, change] : changes) {
    const Result result = DecodeChanged(change);
    EXPECT_EQ(result.error(), EUCLEAN) << problem;
    EXPECT_EQ(result.context(), std::string("damaged superblock: ") + problem);
  }
  // The block size and the unused bytes, which no Superblock can state.
  std::string block = Sample().Encode();
  EncodeFixed<uint32_t>(&block[48], 512);
  FixChecksum(&block);
  EXPECT_EQ(Decode(block).context(), "damaged superblock: block size");
  for (const size_t unused : {183, 239, 240, 4095}) {
    block = Sample().Encode();
    block[unused] = 'x';
    FixChecksum(&block);
    EXPECT_EQ(Decode(block).error(), EUCLEAN) << unused;
  }
}

TEST(Superblock, LabelsAreCutNotSpilled) {
  Superblock sb = Sample();
  sb.label.assign(200, 'l');
  Superblock decoded;
  ASSERT_TRUE(Superblock::Decode(sb.Encode(), kVolumeBytes, &decoded).ok());
  EXPECT_EQ(decoded.label, std::string(63, 'l'));
}

// Any field may have any value once the checksum is right; what is accepted
// must be what the block says and be safe to use.
TEST(Superblock, RandomFieldsWithTheRightChecksumAreRefusedOrBounded) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 5000; ++round) {
    std::string block = Sample().Encode();
    const size_t field = 32 + rng() % (kSuperblockFieldBytes - 32) / 8 * 8;
    EncodeFixed<uint64_t>(&block[field], rng() >> rng() % 64);
    FixChecksum(&block);
    Superblock sb;
    if (!Superblock::Decode(block, kVolumeBytes, &sb).ok()) continue;
    ASSERT_EQ(sb.Encode(), block);
    ASSERT_LE(sb.device_bytes, kVolumeBytes);
    for (const uint64_t offset : sb.region_offset) {
      ASSERT_LE(offset + sb.region_bytes, sb.device_bytes);
    }
  }
}

TEST_F(SuperblockOnDevice, LoadsFromAnyCopyAlone) {
  for (uint32_t kept = 0; kept < kSuperblockCopies; ++kept) {
    std::string image(kVolumeBytes, '\0');
    PutCopy(&image, kept, Sample().Encode());
    const Result result = Load(image);
    ASSERT_TRUE(result.ok()) << kept << ": " << result.ToString();
    ExpectEqual(loaded_, Sample());
    for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
      EXPECT_EQ(scan_.copies[i].ok(), i == kept);
      EXPECT_EQ(scan_.epochs[i], i == kept ? 17u : 0u);
    }
    EXPECT_TRUE(scan_.magic_seen);
  }
}

TEST_F(SuperblockOnDevice, TheHighestEpochCounts) {
  Superblock newer = Sample();
  newer.epoch = 18;
  newer.label = "newer";
  PutCopy(&image_, 2, newer.Encode());
  ASSERT_TRUE(Load(image_).ok());
  EXPECT_EQ(loaded_.label, "newer");
  // An older one may say something else.
  for (const bool differs : scan_.differs) EXPECT_FALSE(differs);
  EXPECT_EQ(scan_.epochs[0] + 1, scan_.epochs[2]);
}

// mkfs over an older volume that had been written more often, cut short.
TEST_F(SuperblockOnDevice, TheFirstCopySaysWhichVolumeThisIs) {
  Superblock older = Sample();
  older.uuid.fill(9);
  older.epoch = 1000;
  PutCopy(&image_, 1, older.Encode());
  PutCopy(&image_, 3, older.Encode());
  ASSERT_TRUE(Load(image_).ok());
  ExpectEqual(loaded_, Sample());
  EXPECT_EQ(scan_.copies[3].error(), EUCLEAN);
}

TEST_F(SuperblockOnDevice, AnUnformattedDeviceIsNoDamagedOne) {
  EXPECT_EQ(Load(std::string(kVolumeBytes, '\0')).error(), ENODATA);
  EXPECT_FALSE(scan_.magic_seen);
  EXPECT_EQ(Load(std::string(1 << 20, '\0')).error(), ENODATA);

  std::string block = Sample().Encode();
  block[100] ^= 1;
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) PutCopy(&image_, i, block);
  EXPECT_EQ(Load(image_).error(), EUCLEAN);
  EXPECT_TRUE(scan_.magic_seen);
}

TEST_F(SuperblockOnDevice, AnotherFormatIsRefusedThoughOldCopiesRemain) {
  std::string image = image_;
  PutCopy(&image, 0, OtherVersion(kFormatVersion + 1));
  EXPECT_EQ(Load(image).error(), EPROTONOSUPPORT);

  // Without the first copy most of the others decide.
  image = image_;
  PutCopy(&image, 0, std::string(kSuperblockBytes, '\0'));
  PutCopy(&image, 1, OtherVersion(kFormatVersion + 1));
  EXPECT_TRUE(Load(image).ok());
  PutCopy(&image, 2, OtherVersion(kFormatVersion + 1));
  PutCopy(&image, 3, OtherVersion(kFormatVersion + 1));
  EXPECT_EQ(Load(image).error(), EPROTONOSUPPORT);
}

// One flipped bit must not make a volume of ours look like one of the future.
TEST_F(SuperblockOnDevice, ADamagedVersionIsNoOtherFormat) {
  std::string block = Sample().Encode();
  block[8] ^= 4;
  PutCopy(&image_, 0, block);
  ASSERT_TRUE(Load(image_).ok());
  EXPECT_EQ(scan_.copies[0].context(), "damaged superblock: version field");
}

TEST_F(SuperblockOnDevice, AnUnreadableCopyIsNoReasonToGiveUp) {
  SimDevice device(image_, SimDevice::MakeGeometry(kVolumeBytes));
  device.SetUnreadable(0, 512);
  ASSERT_TRUE(LoadSuperblock(&device, &loaded_, &scan_).ok());
  EXPECT_EQ(scan_.copies[0].error(), ENODATA);
  // Who cannot read it does not know that it is not formatted.
  device.SetUnreadable(0, kVolumeBytes);
  EXPECT_EQ(LoadSuperblock(&device, &loaded_).error(), EIO);
  device.FailNth(SimOp::kRead, 1, EIO, /*forever=*/true);
  EXPECT_EQ(LoadSuperblock(&device, &loaded_).error(), EIO);
}

TEST_F(SuperblockOnDevice, OnAGrownDeviceTheOldPlacesCount) {
  Superblock newer = Sample();
  newer.epoch = 18;
  PutCopy(&image_, 3, newer.Encode());
  image_.resize(2 * kVolumeBytes + 512);
  ASSERT_TRUE(Load(image_).ok());
  EXPECT_EQ(loaded_.epoch, 18u);
  for (const Result& copy : scan_.copies) EXPECT_TRUE(copy.ok());
}

TEST_F(SuperblockOnDevice, StoreRaisesTheEpochAndWritesAllCopiesInTwoSteps) {
  SimDevice device(SimDevice::MakeGeometry(kVolumeBytes));
  Superblock sb = Sample();
  ASSERT_TRUE(StoreSuperblock(&device, &sb).ok());
  EXPECT_EQ(sb.epoch, 18u);
  const std::vector<SimEvent> events = device.Events();
  ASSERT_EQ(events.size(), 6u);
  const uint32_t order[] = {0, 2, 4, 1, 3, 4};
  for (size_t i = 0; i < events.size(); ++i) {
    if (order[i] == 4) {
      EXPECT_EQ(events[i].op, SimOp::kFlush);
      continue;
    }
    EXPECT_EQ(events[i].offset, SuperblockOffset(kVolumeBytes, order[i]));
    EXPECT_EQ(events[i].io_class, kIoClassSuperblock);
  }
  ASSERT_TRUE(LoadSuperblock(&device, &loaded_).ok());
  ExpectEqual(loaded_, sb);
}

// Cut at every step: the old state or the new one, and it is always found.
TEST_F(SuperblockOnDevice, APowerCutWhileStoringLeavesOldOrNew) {
  std::mt19937_64 rng(TestSeed());
  for (uint64_t step = 1; step <= 7; ++step) {
    for (int round = 0; round < 2; ++round) {
      SimDevice device(image_, SimDevice::MakeGeometry(kVolumeBytes));
      device.FailNth(SimOp::kWrite, step <= 4 ? step : 100, EIO, true);
      device.FailNth(SimOp::kFlush, step > 4 ? step - 4 : 100, EIO, true);
      Superblock sb = Sample();
      const Result stored = StoreSuperblock(&device, &sb);
      const Result result = Load(device.CrashImage(&rng));
      ASSERT_TRUE(result.ok()) << step << ": " << result.ToString();
      EXPECT_TRUE(loaded_.epoch == 17 || loaded_.epoch == 18);
      EXPECT_EQ(stored.ok(), step == 7);
      EXPECT_TRUE(!stored.ok() || loaded_.epoch == 18);
    }
  }
}

TEST(SuperblockOffset, CopiesNeverTouch) {
  for (uint64_t bytes = kMinVolumeBytes; bytes < kMinVolumeBytes + 20000;
       bytes += 512) {
    std::set<uint64_t> offsets;
    for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
      const uint64_t offset = SuperblockOffset(bytes, i);
      EXPECT_EQ(offset % kBlockBytes, 0u);
      EXPECT_LE(offset + kSuperblockBytes, bytes);
      offsets.insert(offset);
    }
    EXPECT_EQ(offsets.size(), kSuperblockCopies);
  }
}

TEST(Random, UuidsAndNoncesDiffer) {
  std::set<Uuid> uuids;
  std::set<uint64_t> nonces;
  for (int i = 0; i < 100; ++i) {
    Uuid uuid{};
    uint64_t nonce = 0;
    ASSERT_TRUE(RandomUuid(&uuid).ok());
    ASSERT_TRUE(RandomNonce(&nonce).ok());
    EXPECT_EQ(UuidToString(uuid)[14], '4');
    uuids.insert(uuid);
    nonces.insert(nonce);
  }
  EXPECT_EQ(uuids.size(), 100u);
  EXPECT_EQ(nonces.size(), 100u);
  EXPECT_EQ(nonces.count(0), 0u);
}

TEST(BootId, IsTheSameTwice) {
  Uuid a{};
  Uuid b{};
  ASSERT_TRUE(CurrentBootId(&a).ok());
  ASSERT_TRUE(CurrentBootId(&b).ok());
  EXPECT_EQ(a, b);
  EXPECT_NE(a, Uuid{});
}

TEST(UuidToString, HasTheUsualForm) {
  EXPECT_EQ(UuidToString(Sample().uuid),
            "01020304-0506-0708-090a-0b0c0d0e0f10");
}

}  // namespace
}  // namespace diofs
