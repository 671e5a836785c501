#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "env/coding.h"

namespace diofs {
namespace {

TEST(Coding, IntegersAreLittleEndian) {
  std::string out;
  PutFixed8(&out, 0x01);
  PutFixed16(&out, 0x0302);
  PutFixed32(&out, 0x07060504);
  PutFixed64(&out, 0x0f0e0d0c0b0a0908);
  EXPECT_EQ(out,
            "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f");
  EXPECT_EQ(DecodeFixed<uint8_t>(&out[0]), 0x01);
  EXPECT_EQ(DecodeFixed<uint16_t>(&out[1]), 0x0302);
  EXPECT_EQ(DecodeFixed<uint32_t>(&out[3]), 0x07060504u);
  EXPECT_EQ(DecodeFixed<uint64_t>(&out[7]), 0x0f0e0d0c0b0a0908u);
}

TEST(Coding, HighBitsDoNotSpread) {
  std::string out;
  PutFixed16(&out, 0xfffe);
  PutFixed64(&out, UINT64_MAX - 1);
  EXPECT_EQ(DecodeFixed<uint16_t>(&out[0]), 0xfffe);
  EXPECT_EQ(DecodeFixed<uint64_t>(&out[2]), UINT64_MAX - 1);
}

TEST(Coding, EncodeFixedTouchesOnlyItsBytes) {
  std::string bytes = "........";
  EncodeFixed<uint32_t>(&bytes[2], 0x44434241);
  EXPECT_EQ(bytes, "..ABCD..");
}

TEST(BoundedReader, ReadsWhatIsThere) {
  std::string bytes;
  PutFixed8(&bytes, 7);
  PutFixed16(&bytes, 300);
  PutFixed32(&bytes, 70000);
  PutFixed64(&bytes, uint64_t{1} << 40);
  bytes += "name";
  BoundedReader reader(bytes);
  EXPECT_EQ(reader.Fixed8(), 7);
  EXPECT_EQ(reader.Fixed16(), 300);
  EXPECT_EQ(reader.Fixed32(), 70000u);
  EXPECT_EQ(reader.Fixed64(), uint64_t{1} << 40);
  EXPECT_EQ(reader.remaining(), 4u);
  EXPECT_FALSE(reader.AtEnd());
  EXPECT_EQ(reader.Bytes(4), "name");
  EXPECT_TRUE(reader.AtEnd());
}

// A field that does not fit must not be found in what is left either.
TEST(BoundedReader, AfterTheEndThereIsNothing) {
  BoundedReader reader(std::string_view("\x01\x02\x03", 3));
  EXPECT_EQ(reader.Fixed32(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.Fixed8(), 0);
  EXPECT_EQ(reader.remaining(), 0u);
  EXPECT_FALSE(reader.AtEnd());
}

TEST(BoundedReader, LengthsOfAnySizeAreRefused) {
  BoundedReader reader("abc");
  EXPECT_EQ(reader.Bytes(SIZE_MAX), "");
  EXPECT_FALSE(reader.ok());
}

TEST(BoundedReader, NothingAtAllIsAnEnd) {
  BoundedReader reader("");
  EXPECT_TRUE(reader.AtEnd());
  EXPECT_EQ(reader.Bytes(0), "");
  EXPECT_TRUE(reader.ok());
}

}  // namespace
}  // namespace diofs
