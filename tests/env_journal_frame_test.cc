#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "env/coding.h"
#include "env/crc32c.h"
#include "env/frame_reader.h"
#include "env/journal_frame.h"
#include "env/metadata_op.h"
#include "env/region_header.h"
#include "tests/sim_device.h"

namespace diofs {
namespace {

constexpr uint64_t kNonce = 0x0807060504030201;

Uuid SampleUuid() {
  Uuid uuid;
  uuid.fill(0x5a);
  return uuid;
}

RegionHeader SampleRegion() {
  RegionHeader header;
  header.uuid = SampleUuid();
  header.nonce = kNonce;
  header.first_sequence = 41;
  header.snapshot_frames = 2;
  header.snapshot_bytes = uint64_t{3} * kBlockBytes;
  return header;
}

Result DecodeRegion(const std::string& block) {
  RegionHeader header;
  return RegionHeader::Decode(block, SampleUuid(), kMinRegionBytes, &header);
}

std::string NextIno(uint64_t ino) {
  std::string out;
  MetadataOp op;
  op.type = OpType::kNextIno;
  op.ino = ino;
  op.EncodeTo(&out);
  return out;
}

std::string EncodeFrame(FrameHeader* header, const std::string& payload) {
  std::string frame(FrameBytes(payload.size()), '?');
  header->EncodeFrame(payload, frame.data());
  return frame;
}

FrameHeader SampleFrame() {
  FrameHeader header;
  header.flags = FrameHeader::kSnapshot;
  header.nonce = kNonce;
  header.sequence = 43;
  header.first_lsn = 7;
  header.last_lsn = 8;
  header.durable_sequence = 42;
  header.op_count = 1;
  header.chain = 0xcafef00d;
  return header;
}

TEST(RegionHeader, ComesBackAsItWas) {
  RegionHeader tombstone = SampleRegion();
  tombstone.flags = RegionHeader::kTombstone;
  tombstone.successor_nonce = 77;
  for (const RegionHeader& header : {SampleRegion(), tombstone}) {
    RegionHeader decoded;
    const Result result = RegionHeader::Decode(header.Encode(), SampleUuid(),
                                               kMinRegionBytes, &decoded);
    ASSERT_TRUE(result.ok()) << result.ToString();
    EXPECT_EQ(decoded.Encode(), header.Encode());
    EXPECT_EQ(decoded.tombstone(), header.tombstone());
    EXPECT_EQ(decoded.deltas_offset(), uint64_t{4} * kBlockBytes);
  }
}

// The table of env/format.md.
TEST(RegionHeader, FieldsLieWhereTheFormatDescriptionSays) {
  RegionHeader header = SampleRegion();
  header.flags = RegionHeader::kTombstone;
  header.successor_nonce = 77;
  const std::string block = header.Encode();
  EXPECT_EQ(block.substr(0, 8), std::string("DIOFSJR\0", 8));
  EXPECT_EQ(DecodeFixed<uint32_t>(&block[8]), kFormatVersion);
  EXPECT_EQ(block.substr(16, 16), std::string(16, 0x5a));
  EXPECT_EQ(DecodeFixed<uint64_t>(&block[32]), kNonce);
  EXPECT_EQ(DecodeFixed<uint64_t>(&block[40]), 41u);
  EXPECT_EQ(DecodeFixed<uint32_t>(&block[48]), 2u);
  EXPECT_EQ(DecodeFixed<uint32_t>(&block[52]), 1u);
  EXPECT_EQ(DecodeFixed<uint64_t>(&block[56]), 77u);
  EXPECT_EQ(DecodeFixed<uint64_t>(&block[64]), uint64_t{3} * kBlockBytes);
  EXPECT_EQ(block.find_first_not_of('\0', 72), std::string::npos);
}

TEST(RegionHeader, EverySingleBitFlipIsDetected) {
  std::string block = SampleRegion().Encode();
  for (size_t bit = 0; bit < block.size() * 8; ++bit) {
    block[bit / 8] ^= static_cast<char>(1 << bit % 8);
    ASSERT_EQ(DecodeRegion(block).error(), EUCLEAN) << "bit " << bit;
    block[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
  EXPECT_TRUE(DecodeRegion(block).ok());
}

TEST(RegionHeader, ValuesAreBounded) {
  using Change = std::function<void(RegionHeader*)>;
  const std::vector<Change> changes = {
      [](RegionHeader* h) { h->nonce = 0; },
      [](RegionHeader* h) { h->first_sequence = 0; },
      [](RegionHeader* h) { h->flags = 2; },
      [](RegionHeader* h) { h->flags = RegionHeader::kTombstone; },
      [](RegionHeader* h) { h->successor_nonce = 1; },
      [](RegionHeader* h) { h->snapshot_bytes += 1; },
      [](RegionHeader* h) { h->snapshot_bytes = kMinRegionBytes; },
      [](RegionHeader* h) { h->snapshot_bytes = UINT64_MAX - 4095; },
      [](RegionHeader* h) { h->snapshot_frames = 0; },
      [](RegionHeader* h) { h->snapshot_frames = 4; },
      [](RegionHeader* h) { h->uuid[3] ^= 1; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    RegionHeader header = SampleRegion();
    changes[i](&header);
    EXPECT_EQ(DecodeRegion(header.Encode()).error(), EUCLEAN) << i;
  }
}

// The worked example of env/format.md.
TEST(FrameHeader, BytesAreThoseOfTheFormatDescription) {
  FrameHeader header = SampleFrame();
  const std::string frame = EncodeFrame(&header, NextIno(3));
  const std::string expected(
      "\x44\x4a\x46\x52\x01\x00\x00\x00"
      "\x01\x02\x03\x04\x05\x06\x07\x08"
      "\x2b\x00\x00\x00\x00\x00\x00\x00"
      "\x07\x00\x00\x00\x00\x00\x00\x00"
      "\x08\x00\x00\x00\x00\x00\x00\x00"
      "\x2a\x00\x00\x00\x00\x00\x00\x00"
      "\x10\x00\x00\x00\x01\x00\x00\x00"
      "\x0d\xf0\xfe\xca\x00\x00\x00\x00"
      "\x0b\x00\x00\x00\x08\x00\x00\x00"
      "\x03\x00\x00\x00\x00\x00\x00\x00",
      80);
  ASSERT_EQ(frame.size(), kBlockBytes);
  std::string without_crc = frame.substr(0, 80);
  EncodeFixed<uint32_t>(&without_crc[kFrameCrcOffset], 0);
  EXPECT_EQ(without_crc, expected);
  EXPECT_EQ(DecodeFixed<uint32_t>(&frame[kFrameCrcOffset]),
            Crc32c(expected.data(), expected.size()));
  EXPECT_EQ(header.crc, Crc32c(expected.data(), expected.size()));
  EXPECT_EQ(frame.find_first_not_of('\0', 80), std::string::npos);
}

TEST(FrameHeader, ComesBackAsItWas) {
  FrameHeader header = SampleFrame();
  const std::string frame = EncodeFrame(&header, std::string(5000, 'p'));
  EXPECT_EQ(frame.size(), uint64_t{2} * kBlockBytes);
  FrameHeader decoded;
  ASSERT_TRUE(FrameHeader::Decode(frame.data(), &decoded));
  EXPECT_EQ(decoded.flags, header.flags);
  EXPECT_EQ(decoded.nonce, header.nonce);
  EXPECT_EQ(decoded.sequence, header.sequence);
  EXPECT_EQ(decoded.first_lsn, header.first_lsn);
  EXPECT_EQ(decoded.last_lsn, header.last_lsn);
  EXPECT_EQ(decoded.durable_sequence, header.durable_sequence);
  EXPECT_EQ(decoded.payload_bytes, 5000u);
  EXPECT_EQ(decoded.op_count, header.op_count);
  EXPECT_EQ(decoded.chain, header.chain);
  EXPECT_EQ(decoded.crc, header.crc);
  EXPECT_EQ(decoded.frame_bytes(), frame.size());
  EXPECT_EQ(decoded.ComputeCrc(frame.data()), decoded.crc);
}

// Padding is the only part of a frame that nothing depends on.
TEST(FrameHeader, EverySingleBitFlipIsDetectedOrHarmless) {
  FrameHeader header = SampleFrame();
  const std::string payload = NextIno(3);
  std::string frame = EncodeFrame(&header, payload);
  const size_t used = kFrameHeaderBytes + payload.size();
  for (size_t bit = 0; bit < frame.size() * 8; ++bit) {
    frame[bit / 8] ^= static_cast<char>(1 << bit % 8);
    FrameHeader decoded;
    const bool whole =
        FrameHeader::Decode(frame.data(), &decoded) &&
        decoded.frame_bytes() <= frame.size() &&
        decoded.payload_bytes <= frame.size() - kFrameHeaderBytes &&
        decoded.ComputeCrc(frame.data()) == decoded.crc;
    ASSERT_EQ(whole, bit / 8 >= used) << "bit " << bit;
    frame[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
}

TEST(FrameHeader, ImplausibleNumbersAreNoFrame) {
  using Change = std::function<void(FrameHeader*)>;
  const std::vector<Change> changes = {
      [](FrameHeader* h) { h->flags = 8; },
      [](FrameHeader* h) { h->flags = FrameHeader::kSnapshotEnd; },
      [](FrameHeader* h) { h->sequence = h->durable_sequence = 0; },
      [](FrameHeader* h) { h->sequence = UINT64_MAX; },
      [](FrameHeader* h) { h->durable_sequence = h->sequence; },
      [](FrameHeader* h) { h->first_lsn = 0; },
      [](FrameHeader* h) { h->first_lsn = h->last_lsn + 2; },
      [](FrameHeader* h) { h->last_lsn = UINT64_MAX; },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    FrameHeader header = SampleFrame();
    changes[i](&header);
    const std::string frame = EncodeFrame(&header, "");
    FrameHeader decoded;
    EXPECT_FALSE(FrameHeader::Decode(frame.data(), &decoded)) << i;
  }
  FrameHeader empty = SampleFrame();
  empty.first_lsn = empty.last_lsn + 1;
  const std::string frame = EncodeFrame(&empty, "");
  FrameHeader decoded;
  EXPECT_TRUE(FrameHeader::Decode(frame.data(), &decoded));
}

TEST(FrameBytes, RoundsUpToBlocks) {
  EXPECT_EQ(FrameBytes(0), kBlockBytes);
  EXPECT_EQ(FrameBytes(kBlockBytes - kFrameHeaderBytes), kBlockBytes);
  EXPECT_EQ(FrameBytes(kBlockBytes - kFrameHeaderBytes + 1),
            uint64_t{2} * kBlockBytes);
}

TEST(CountOperations, CountsWholeOperationsOnly) {
  const std::string payload = NextIno(1) + NextIno(2) + NextIno(3);
  uint32_t count = 9;
  EXPECT_TRUE(CountOperations("", &count));
  EXPECT_EQ(count, 0u);
  EXPECT_TRUE(CountOperations(payload, &count));
  EXPECT_EQ(count, 3u);
  for (size_t length = 1; length < payload.size(); ++length) {
    EXPECT_EQ(CountOperations(payload.substr(0, length), &count),
              length % NextIno(1).size() == 0);
  }
  std::string huge = NextIno(1);
  EncodeFixed(&huge[4], UINT32_MAX);
  EXPECT_FALSE(CountOperations(huge, &count));
}

// A region made by hand, for what a Journal does not write.
class FrameReaderTest : public testing::Test {
 protected:
  FrameReaderTest() : region_(kMinRegionBytes, '\0') {
    header_.uuid = SampleUuid();
    header_.nonce = kNonce;
    header_.first_sequence = 41;
    header_.snapshot_frames = 1;
    header_.snapshot_bytes = kBlockBytes;
    FrameHeader snapshot;
    snapshot.flags = FrameHeader::kSnapshot | FrameHeader::kSnapshotEnd;
    snapshot.last_lsn = 6;
    Add(snapshot, NextIno(1));
  }

  // Puts a frame behind the last one, as its writer would number it.
  void Add(FrameHeader header, const std::string& payload) {
    header.nonce = kNonce;
    header.sequence = sequence_++;
    header.chain = chain_;
    const std::string frame = EncodeFrame(&header, payload);
    region_.replace(offset_, frame.size(), frame);
    offset_ += frame.size();
    chain_ = header.crc;
  }
  // As Add, for a delta frame that carries one transaction.
  void AddDelta(const std::string& payload = NextIno(2)) {
    FrameHeader header;
    header.first_lsn = header.last_lsn = ++lsn_;
    header.op_count = 1;
    Add(header, payload);
  }
  // Counts the frames of the chain; the reader then stands behind them.
  Result Walk(uint64_t* frames) {
    device_ = std::make_unique<SimDevice>(
        region_, SimDevice::MakeGeometry(kMinRegionBytes));
    reader_ = std::make_unique<FrameReader>(device_.get(), 0, kMinRegionBytes,
                                            header_);
    *frames = 0;
    while (true) {
      FrameReader::Frame frame;
      bool found = false;
      Result result = reader_->Next(&frame, &found);
      if (!result.ok() || !found) return result;
      ++*frames;
    }
  }

  RegionHeader header_;
  std::string region_;
  uint64_t offset_ = kRegionHeaderBytes;
  uint64_t sequence_ = 41;
  uint64_t lsn_ = 6;
  uint32_t chain_ = FirstChain(kNonce);
  std::unique_ptr<SimDevice> device_;
  std::unique_ptr<FrameReader> reader_;
};

TEST_F(FrameReaderTest, WalksFramesOfAnySize) {
  AddDelta();
  AddDelta(std::string(300000, 'a'));
  AddDelta(std::string(600000, 'b'));
  AddDelta();
  uint64_t frames = 0;
  ASSERT_TRUE(Walk(&frames).ok());
  EXPECT_EQ(frames, 5u);
  EXPECT_EQ(reader_->position().offset, offset_);
  EXPECT_EQ(reader_->position().sequence, sequence_);
  EXPECT_EQ(reader_->position().chain, chain_);
  EXPECT_EQ(reader_->position().last_lsn, lsn_);
  EXPECT_EQ(reader_->end_reason(), "no frame header");
}

TEST_F(FrameReaderTest, StopsAtTheEndOfTheRegion) {
  while (offset_ < kMinRegionBytes) AddDelta();
  uint64_t frames = 0;
  ASSERT_TRUE(Walk(&frames).ok());
  EXPECT_EQ(frames, kMinRegionBytes / kBlockBytes - 1);
  EXPECT_EQ(reader_->end_reason(), "end of the region");
}

TEST_F(FrameReaderTest, StopsAtFramesThatDoNotContinueTheChain) {
  const auto stops_with = [&](const char* reason) {
    uint64_t frames = 0;
    EXPECT_TRUE(Walk(&frames).ok());
    EXPECT_EQ(frames, 2u);
    EXPECT_EQ(reader_->end_reason(), reason);
  };
  AddDelta();
  const std::string region = region_;
  const uint64_t offset = offset_;
  FrameHeader header;
  header.nonce = kNonce;
  header.sequence = sequence_;
  header.first_lsn = header.last_lsn = lsn_ + 1;
  header.chain = chain_;
  const auto put = [&](FrameHeader changed, const std::string& payload) {
    const std::string frame = EncodeFrame(&changed, payload);
    region_ = region;
    region_.replace(offset, frame.size(), frame);
  };
  FrameHeader changed = header;
  changed.nonce ^= 1;
  put(changed, "");
  stops_with("a frame of an earlier use of the region");
  changed = header;
  changed.sequence += 1;
  put(changed, "");
  stops_with("a frame of another sequence");
  changed = header;
  changed.chain ^= 1;
  put(changed, "");
  stops_with("a frame of another chain");
  put(header, "payload");
  region_[offset + kFrameHeaderBytes] ^= 1;
  stops_with("a frame with a wrong checksum");
  put(header, "");
  EncodeFixed(&region_[offset + 48], UINT32_MAX);
  stops_with("a length beyond the end of the region");
  EncodeFixed(
      &region_[offset + 48],
      static_cast<uint32_t>(kMinRegionBytes - offset - kFrameHeaderBytes + 1));
  stops_with("a length beyond the end of the region");
}

// The writer finished such a frame, so the fault is not in the medium.
TEST_F(FrameReaderTest, WholeFramesThatContradictTheOthersAreErrors) {
  const auto fails = [&](const std::function<void(FrameReaderTest*)>& add) {
    const std::string region = region_;
    const auto saved = std::make_tuple(offset_, sequence_, lsn_, chain_);
    add(this);
    uint64_t frames = 0;
    EXPECT_EQ(Walk(&frames).error(), EUCLEAN);
    region_ = region;
    std::tie(offset_, sequence_, lsn_, chain_) = saved;
  };
  fails([&](FrameReaderTest*) {
    ++lsn_;
    AddDelta();
  });
  fails([&](FrameReaderTest*) {
    FrameHeader late;
    late.flags = FrameHeader::kSnapshot;
    late.last_lsn = 6;
    Add(late, "");
  });
  const RegionHeader header = header_;
  fails([&](FrameReaderTest*) { header_.snapshot_bytes += kBlockBytes; });
  header_ = header;
  fails([&](FrameReaderTest*) {
    header_.snapshot_frames = 2;
    header_.snapshot_bytes += kBlockBytes;
    AddDelta();
  });
}

TEST_F(FrameReaderTest, OnlyAFrameThatNamesTheMissingOneDurableIsProof) {
  AddDelta();
  const uint64_t missing_at = offset_;
  AddDelta();  // 43
  FrameHeader unaware;
  unaware.first_lsn = unaware.last_lsn = ++lsn_;
  unaware.durable_sequence = 42;
  Add(unaware, "");
  const uint64_t proof_at = offset_;
  FrameHeader aware;
  aware.first_lsn = aware.last_lsn = ++lsn_;
  aware.durable_sequence = 43;
  Add(aware, "");
  const std::string whole = region_;
  region_.replace(missing_at, kBlockBytes, kBlockBytes, '\0');

  uint64_t frames = 0;
  bool found = false;
  FrameReader::Frame proof;
  ASSERT_TRUE(Walk(&frames).ok());
  ASSERT_TRUE(
      reader_->FindProof(FrameReader::Proof::kDurable, &proof, &found).ok());
  EXPECT_TRUE(found);
  EXPECT_EQ(proof.offset, proof_at);
  EXPECT_EQ(proof.header.sequence, 45u);

  region_[proof_at + 70] ^= 1;  // in the padding: still whole
  ASSERT_TRUE(Walk(&frames).ok());
  ASSERT_TRUE(
      reader_->FindProof(FrameReader::Proof::kDurable, &proof, &found).ok());
  EXPECT_TRUE(found);

  region_[proof_at + 20] ^= 1;
  ASSERT_TRUE(Walk(&frames).ok());
  ASSERT_TRUE(
      reader_->FindProof(FrameReader::Proof::kDurable, &proof, &found).ok());
  EXPECT_FALSE(found);
}

// Without a bound each of these 254 blocks would be summed to the end.
TEST_F(FrameReaderTest, ForgedOverlappingFramesAreRefusedEarly) {
  FrameHeader forged;
  forged.nonce = kNonce;
  forged.sequence = 100;
  forged.durable_sequence = 99;
  for (uint64_t at = offset_ + kBlockBytes; at < kMinRegionBytes;
       at += kBlockBytes) {
    const std::string frame = EncodeFrame(&forged, "");
    region_.replace(at, frame.size(), frame);
    EncodeFixed(&region_[at + 48], static_cast<uint32_t>(kMinRegionBytes - at -
                                                         kFrameHeaderBytes));
  }
  uint64_t frames = 0;
  ASSERT_TRUE(Walk(&frames).ok());
  EXPECT_EQ(frames, 1u);
  bool found = true;
  FrameReader::Frame proof;
  const Result result =
      reader_->FindProof(FrameReader::Proof::kDurable, &proof, &found);
  EXPECT_EQ(result.error(), EUCLEAN);
  EXPECT_EQ(result.context(), "frames overlap");
}

TEST_F(FrameReaderTest, ErrorsOfTheDeviceAreToldAsSuch) {
  uint64_t frames = 0;
  ASSERT_TRUE(Walk(&frames).ok());
  device_->FailNth(SimOp::kRead, 1, EIO, /*forever=*/true);
  FrameReader reader(device_.get(), 0, kMinRegionBytes, header_);
  FrameReader::Frame frame;
  bool found = false;
  EXPECT_EQ(reader.Next(&frame, &found).error(), EIO);
  EXPECT_EQ(
      reader.FindProof(FrameReader::Proof::kDurable, &frame, &found).error(),
      EIO);
}

}  // namespace
}  // namespace diofs
