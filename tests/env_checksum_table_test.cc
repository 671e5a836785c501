// ctest: one-thread

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <string>

#include "env/checksum_table.h"
#include "env/format.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kChunk = ChecksumTable::kChunkBytes;
constexpr uint64_t kIno = 7;

std::string Encoded(const ChecksumTable& table) {
  std::string blocks(ChecksumTable::BlocksFor(table.bytes()) * kBlockBytes,
                     '?');
  table.Encode(kIno, blocks.data());
  return blocks;
}

ChecksumTable TableOf(const std::string& content) {
  ChecksumTable table;
  table.Add(content.data(), content.size());
  return table;
}

std::string DecodeProblem(const std::string& blocks, uint64_t ino,
                          uint64_t bytes) {
  ChecksumTable table;
  const Result result =
      ChecksumTable::Decode(blocks.data(), ino, bytes, &table);
  EXPECT_TRUE(result.ok() || result.error() == EUCLEAN);
  return result.context();
}

TEST(ChecksumTable, BlocksAreAsManyAsTheChecksumsNeed) {
  // 4096 bytes less the header are 1018 checksums.
  EXPECT_EQ(ChecksumTable::BlocksFor(1), 1u);
  EXPECT_EQ(ChecksumTable::BlocksFor(1018 * kChunk), 1u);
  EXPECT_EQ(ChecksumTable::BlocksFor(1018 * kChunk + 1), 2u);
}

TEST(ChecksumTable, PiecesOfAnySizeGiveTheSameTable) {
  std::mt19937_64 rng(TestSeed());
  const std::string content = Pattern(1, 5 * kChunk + 123);
  const std::string whole = Encoded(TableOf(content));
  for (int round = 0; round < 20; ++round) {
    ChecksumTable pieces;
    for (size_t at = 0; at < content.size();) {
      const size_t most = rng() % 4 == 0 ? 3 * kChunk : 5000;
      const size_t bytes = std::min(content.size() - at, rng() % most + 1);
      pieces.Add(content.data() + at, bytes);
      at += bytes;
    }
    EXPECT_EQ(pieces.bytes(), content.size());
    EXPECT_EQ(Encoded(pieces), whole);
  }
}

TEST(ChecksumTable, ComesBackAndKnowsItsChunks) {
  const std::string content = Pattern(2, 3 * kChunk + 1);
  ChecksumTable table;
  ASSERT_TRUE(ChecksumTable::Decode(Encoded(TableOf(content)).data(), kIno,
                                    content.size(), &table)
                  .ok());
  EXPECT_EQ(table.bytes(), content.size());
  for (uint64_t chunk = 0; chunk < 4; ++chunk) {
    std::string bytes = content.substr(chunk * kChunk, kChunk);
    EXPECT_TRUE(table.Matches(chunk, bytes.data(), bytes.size()));
    bytes[bytes.size() / 2] ^= 1;
    EXPECT_FALSE(table.Matches(chunk, bytes.data(), bytes.size()));
  }
  EXPECT_FALSE(table.Matches(4, content.data(), 1));
  EXPECT_FALSE(table.Matches(0, content.data(), kChunk - 1));
}

TEST(ChecksumTable, OfAnotherFileOrSizeIsNone) {
  const std::string content = Pattern(3, 1000);
  const std::string blocks = Encoded(TableOf(content));
  EXPECT_EQ(DecodeProblem(blocks, kIno, 1000), "");
  EXPECT_EQ(DecodeProblem(blocks, kIno + 1, 1000),
            "checksum table of another file");
  EXPECT_EQ(DecodeProblem(blocks, kIno, 1001),
            "checksum table of another file");
  EXPECT_EQ(DecodeProblem(blocks, kIno, kChunk + 1),
            "checksum of the checksum table");
  EXPECT_EQ(DecodeProblem(std::string(kBlockBytes, '\0'), kIno, 1000),
            "no checksum table");
}

TEST(ChecksumTable, EverySingleBitFlipIsDetectedOrHarmless) {
  const std::string content = Pattern(4, 2 * kChunk + 5);
  const std::string blocks = Encoded(TableOf(content));
  const size_t used = ChecksumTable::kHeaderBytes + 3 * sizeof(uint32_t);
  for (size_t bit = 0; bit < 8 * (used + 8); ++bit) {
    std::string damaged = blocks;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    ChecksumTable table;
    EXPECT_EQ(
        ChecksumTable::Decode(damaged.data(), kIno, content.size(), &table)
            .ok(),
        bit / 8 >= used)
        << "bit " << bit;
  }
}

}  // namespace
}  // namespace diofs
