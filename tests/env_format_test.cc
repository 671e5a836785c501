#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "env/checksum_table.h"
#include "env/format.h"
#include "env/journal_frame.h"
#include "env/log_frame.h"
#include "env/metadata_op.h"
#include "env/region_header.h"
#include "env/staging_format.h"
#include "env/superblock.h"

namespace diofs {
namespace {

// Takes "xx xx xx" off the front of *text, as far as it goes.
std::string TakeHexBytes(std::string_view* text) {
  std::string bytes;
  const auto digit = [&](size_t at) {
    return at < text->size() && std::isxdigit((*text)[at]) != 0;
  };
  while (digit(0) && digit(1) && !digit(2)) {
    const std::string pair(text->substr(0, 2));
    bytes.push_back(static_cast<char>(std::stoi(pair, nullptr, 16)));
    text->remove_prefix(text->size() > 2 ? 3 : 2);
  }
  return bytes;
}

// The worked examples of env/format.md in order, each as the bytes it shows.
// Their lines are an offset, two spaces, and bytes with a space between; offset
// 0 begins an example.
std::vector<std::string> ReadExamples(const std::string& path) {
  std::vector<std::string> examples;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    char* behind = nullptr;
    const size_t offset = std::strtoul(line.c_str(), &behind, 10);
    std::string_view rest(behind);
    if (rest.substr(0, 2) != "  ") continue;
    rest.remove_prefix(2);
    const std::string bytes = TakeHexBytes(&rest);
    if (bytes.empty()) continue;
    if (offset == 0) examples.emplace_back();
    if (examples.empty() || examples.back().size() != offset) {
      ADD_FAILURE() << "not at this offset: " << line;
      return {};
    }
    examples.back() += bytes;
  }
  return examples;
}

std::string ExampleSuperblock() {
  Superblock sb;
  for (size_t i = 0; i < sb.uuid.size(); ++i) {
    sb.uuid[i] = static_cast<uint8_t>(1 + i);
    sb.mount_nonce[i] = static_cast<uint8_t>(0x40 + i);
    sb.boot_id[i] = static_cast<uint8_t>(0x80 + i);
  }
  sb.epoch = 17;
  sb.device_bytes = kMinVolumeBytes + uint64_t{3} * kBlockBytes;
  sb.flags = Superblock::kDirty | Superblock::kFullyWritten;
  sb.feature_compat = 1;
  sb.feature_ro_compat = 2;
  sb.region_offset = {kJournalOffset, kJournalOffset + kMinRegionBytes};
  sb.region_bytes = kMinRegionBytes;
  sb.created_us = 1700000000000000;
  sb.mounted_us = 1700000001000000;
  sb.label = "orders";
  sb.flush_mode = FlushMode::kMemory;
  sb.owner_pid = 4711;
  sb.clean_sequence = 99;
  sb.clean_region_nonce = 0x1122334455667788;
  return sb.Encode();
}

std::string ExampleRegionHeader() {
  RegionHeader header;
  header.uuid.fill(0x5a);
  header.nonce = 0x0807060504030201;
  header.first_sequence = 41;
  header.snapshot_frames = 2;
  header.snapshot_bytes = uint64_t{3} * kBlockBytes;
  return header.Encode();
}

std::string ExampleFrame() {
  MetadataOp op;
  op.type = OpType::kNextIno;
  op.ino = 3;
  std::string payload;
  op.EncodeTo(&payload);
  FrameHeader header;
  header.nonce = 0x0807060504030201;
  header.sequence = 43;
  header.first_lsn = 7;
  header.last_lsn = 8;
  header.durable_sequence = 42;
  header.op_count = 1;
  header.chain = 0xcafef00d;
  std::string frame(FrameBytes(payload.size()), '?');
  header.EncodeFrame(payload, frame.data());
  return frame;
}

std::string ExampleLogFrame() {
  LogFrameHeader header;
  header.payload_bytes = 5;
  header.generation = 0x0807060504030201;
  header.chain = LogChain(header.generation);
  std::string frame(LogFrameBytes(5), '?');
  frame.replace(kLogFrameHeaderBytes, 5, "hello");
  header.Encode(frame.data());
  return frame;
}

std::string ExampleChecksumTable() {
  ChecksumTable table;
  table.Add("hello", 5);
  std::string blocks(kBlockBytes, '?');
  table.Encode(3, blocks.data());
  return blocks;
}

std::string ExampleStagedRecord() {
  StagedRecord record;
  record.type = StagedType::kData;
  record.number = 7;
  record.offset = 4096;
  record.body = "hello";
  std::string bytes(record.bytes(), '?');
  record.EncodeTo(bytes.data(), 64);
  return bytes;
}

std::vector<std::string> ExampleOperations() {
  std::vector<MetadataOp> ops(5);
  ops[0].type = OpType::kCreate;
  ops[0].parent = 1;
  ops[0].name = "CURRENT";
  ops[0].ino = 2;
  ops[0].mtime_us = 0x0102030405;
  ops[1].type = OpType::kRename;
  ops[1].parent = 1;
  ops[1].name = "000001.dbtmp";
  ops[1].new_parent = 1;
  ops[1].new_name = "CURRENT";
  ops[2].type = OpType::kSegment;
  ops[2].ino = 3;
  ops[2].segment = {100, 8192, 0x0807060504030201};
  ops[3].type = OpType::kLogEnd;
  ops[3].ino = 3;
  ops[3].log_end = {120, 8256, 0xcafef00d};
  ops[3].closed = true;
  ops[3].mtime_us = 0x0102030405;
  ops[4].type = OpType::kExtents;
  ops[4].ino = 3;
  ops[4].extents = {{1536, 4}, {1552, 2}};
  std::vector<std::string> encoded(ops.size());
  for (size_t i = 0; i < ops.size(); ++i) ops[i].EncodeTo(&encoded[i]);
  return encoded;
}

TEST(Format, WorkedExamplesAreWhatTheEncodersWrite) {
  const char* const source = std::getenv("DIOFS_SOURCE_DIR");
  if (source == nullptr) GTEST_SKIP() << "ctest sets DIOFS_SOURCE_DIR";
  const std::vector<std::string> examples =
      ReadExamples(std::string(source) + "/env/format.md");
  std::vector<std::string> encoded = {ExampleSuperblock(),
                                      ExampleRegionHeader(), ExampleFrame()};
  for (const std::string& op : ExampleOperations()) encoded.push_back(op);
  encoded.push_back(ExampleChecksumTable());
  encoded.push_back(ExampleLogFrame());
  encoded.push_back(ExampleStagedRecord());
  ASSERT_EQ(examples.size(), encoded.size());
  for (size_t i = 0; i < examples.size(); ++i) {
    // What the example leaves out is zero.
    const std::string shown = encoded[i].substr(0, examples[i].size());
    EXPECT_EQ(examples[i], shown) << "example " << i;
    EXPECT_EQ(encoded[i].find_first_not_of('\0', shown.size()),
              std::string::npos)
        << "example " << i;
  }
}

}  // namespace
}  // namespace diofs
