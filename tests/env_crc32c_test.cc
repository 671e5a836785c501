// ctest: one-thread

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>

#include "env/crc32c.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

// The definition: one bit at a time, reflected polynomial.
uint32_t SlowCrc32c(const std::string& data) {
  uint32_t crc = ~0u;
  for (const char c : data) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
    }
  }
  return ~crc;
}

// RFC 3720, B.4.
TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(Crc32c("123456789", 9), 0xe3069283u);
  EXPECT_EQ(Crc32c("", 0), 0u);
  std::string bytes(32, '\0');
  EXPECT_EQ(Crc32c(bytes.data(), 32), 0x8a9136aau);
  bytes.assign(32, '\xff');
  EXPECT_EQ(Crc32c(bytes.data(), 32), 0x62a8ab43u);
  std::iota(bytes.begin(), bytes.end(), '\0');
  EXPECT_EQ(Crc32c(bytes.data(), 32), 0x46dd794eu);
  std::iota(bytes.rbegin(), bytes.rend(), '\0');
  EXPECT_EQ(Crc32c(bytes.data(), 32), 0x113fdb5cu);
}

TEST(Crc32c, AnyLengthAndAddressMatchesTheDefinition) {
  std::mt19937_64 rng(TestSeed());
  std::string bytes(700, '\0');
  for (char& c : bytes) c = static_cast<char>(rng());
  for (size_t start = 0; start < 17; ++start) {
    for (size_t length = 0; length + start <= bytes.size(); length += 13) {
      ASSERT_EQ(Crc32c(bytes.data() + start, length),
                SlowCrc32c(bytes.substr(start, length)))
          << start << "+" << length;
    }
  }
}

TEST(Crc32c, ExtendGivesTheChecksumOfTheWhole) {
  const std::string bytes = "the checksum of A followed by B";
  const uint32_t whole = Crc32c(bytes.data(), bytes.size());
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    EXPECT_EQ(Crc32cExtend(Crc32c(bytes.data(), cut), bytes.data() + cut,
                           bytes.size() - cut),
              whole);
  }
}

// ISA-L counts in int: 2 GiB and more go in pieces.
TEST(Crc32c, MoreThanAnIntCounts) {
  constexpr size_t kBytes = (size_t{1} << 31) + 4099;
  // calloc's pages are not touched but read, so they cost no memory.
  const std::unique_ptr<void, decltype(&std::free)> zeros(
      std::calloc(kBytes, 1), &std::free);
  ASSERT_NE(zeros, nullptr);
  uint32_t expected = 0;
  const std::string piece(1 << 20, '\0');
  for (size_t done = 0; done < kBytes;) {
    const size_t bytes = std::min(piece.size(), kBytes - done);
    expected = Crc32cExtend(expected, piece.data(), bytes);
    done += bytes;
  }
  EXPECT_EQ(Crc32c(zeros.get(), kBytes), expected);
}

}  // namespace
}  // namespace diofs
