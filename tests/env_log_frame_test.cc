// ctest: one-thread

#include <gtest/gtest.h>

#include <string>

#include "env/log_frame.h"

namespace diofs {
namespace {

constexpr uint64_t kGeneration = 0x0102030405060708;

LogFrameHeader Sample(uint32_t payload_bytes) {
  LogFrameHeader header;
  header.payload_bytes = payload_bytes;
  header.generation = kGeneration;
  header.logical = 12345;
  header.durable_upto = 12000;
  header.chain = 0xcafef00d;
  return header;
}

// Header, payload and padding, in memory that was not zero.
std::string Encode(LogFrameHeader* header) {
  std::string frame(LogFrameBytes(header->payload_bytes), '?');
  for (uint32_t i = 0; i < header->payload_bytes; ++i) {
    frame[kLogFrameHeaderBytes + i] = static_cast<char>('a' + i % 26);
  }
  header->Encode(frame.data());
  return frame;
}

bool IsWhole(const std::string& frame) {
  LogFrameHeader header;
  return LogFrameHeader::Decode(frame.data(), &header) &&
         LogFrameBytes(header.payload_bytes) <= frame.size() &&
         header.ComputeCrc(frame.data()) == header.crc;
}

TEST(LogFrame, ComesBackAsItWas) {
  for (const uint32_t payload_bytes : {1u, 7u, 8u, 9u, 4096u, kMaxLogPayload}) {
    LogFrameHeader header = Sample(payload_bytes);
    const std::string frame = Encode(&header);
    LogFrameHeader decoded;
    ASSERT_TRUE(LogFrameHeader::Decode(frame.data(), &decoded));
    EXPECT_EQ(decoded.payload_bytes, payload_bytes);
    EXPECT_EQ(decoded.generation, kGeneration);
    EXPECT_EQ(decoded.logical, 12345u);
    EXPECT_EQ(decoded.end(), 12345u + payload_bytes);
    EXPECT_EQ(decoded.durable_upto, 12000u);
    EXPECT_EQ(decoded.chain, 0xcafef00du);
    EXPECT_EQ(decoded.crc, header.crc);
    EXPECT_EQ(decoded.ComputeCrc(frame.data()), decoded.crc);
    EXPECT_EQ(
        std::string::npos,
        frame.find_first_not_of('\0', kLogFrameHeaderBytes + payload_bytes));
  }
}

TEST(LogFrame, FramesAreMultiplesOfEightBytes) {
  EXPECT_EQ(LogFrameBytes(1), 48u);
  EXPECT_EQ(LogFrameBytes(8), 48u);
  EXPECT_EQ(LogFrameBytes(9), 56u);
}

TEST(LogFrame, EveryBitCounts) {
  LogFrameHeader header = Sample(9);
  const std::string frame = Encode(&header);
  ASSERT_TRUE(IsWhole(frame));
  for (size_t bit = 0; bit < uint64_t{kLogFrameHeaderBytes + 9} * 8; ++bit) {
    std::string flipped = frame;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_FALSE(IsWhole(flipped)) << "bit " << bit;
  }
}

TEST(LogFrame, WhatNoWriterPutsTogetherIsNoHeader) {
  const auto decodes = [](void (*change)(LogFrameHeader*)) {
    LogFrameHeader header = Sample(8);
    std::string frame = Encode(&header);
    change(&header);
    // Encode zeroes behind the payload it is told of.
    std::string bytes(LogFrameBytes(kMaxLogPayload) + 4096, '\0');
    header.Encode(bytes.data());
    LogFrameHeader decoded;
    return LogFrameHeader::Decode(bytes.data(), &decoded);
  };
  EXPECT_TRUE(decodes([](LogFrameHeader*) {}));
  EXPECT_TRUE(decodes([](LogFrameHeader* h) { h->durable_upto = h->logical; }));
  EXPECT_TRUE(decodes([](LogFrameHeader* h) { h->logical = kMaxLogBytes; }));
  EXPECT_FALSE(decodes([](LogFrameHeader* h) { h->payload_bytes = 0; }));
  EXPECT_FALSE(decodes(
      [](LogFrameHeader* h) { h->payload_bytes = kMaxLogPayload + 1; }));
  EXPECT_FALSE(
      decodes([](LogFrameHeader* h) { h->durable_upto = h->logical + 1; }));
  EXPECT_FALSE(
      decodes([](LogFrameHeader* h) { h->logical = kMaxLogBytes + 1; }));
}

TEST(LogFrame, EverySegmentHasAChainOfItsOwn) {
  EXPECT_NE(LogChain(1), LogChain(2));
  EXPECT_NE(LogChain(0), 0u);
}

}  // namespace
}  // namespace diofs
