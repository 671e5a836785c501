#include <gtest/gtest.h>

#include <cerrno>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "env/coding.h"
#include "env/format.h"
#include "env/metadata_op.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

// One of each type, all of its fields set and no other.
std::vector<MetadataOp> Samples() {
  std::vector<MetadataOp> ops;
  const auto add = [&ops](OpType type) -> MetadataOp& {
    ops.emplace_back();
    ops.back().type = type;
    return ops.back();
  };
  MetadataOp* op = &add(OpType::kMkdir);
  op->parent = 1;
  op->name = "db";
  op->ino = 2;
  op->mtime_us = 1700000000000000;
  op = &add(OpType::kCreate);
  op->parent = 2;
  op->name = "000012.sst";
  op->ino = 3;
  op->kind = FileKind::kSst;
  op->mtime_us = 5;
  op = &add(OpType::kLink);
  op->ino = 3;
  op->parent = 1;
  op->name = std::string(kMaxNameBytes, 'n');
  op = &add(OpType::kUnlink);
  op->parent = 1;
  op->name = "x";
  op = &add(OpType::kRmdir);
  op->parent = 1;
  op->name = "...";
  op = &add(OpType::kRename);
  op->parent = 1;
  op->name = "CURRENT.tmp";
  op->new_parent = UINT64_MAX;
  op->new_name = "CURRENT";
  op = &add(OpType::kExtents);
  op->ino = 3;
  op->extents = {{100, 25}, {UINT64_MAX - 1, 1}};
  op = &add(OpType::kSize);
  op->ino = 3;
  op->size = UINT64_MAX;
  op->mtime_us = 6;
  op = &add(OpType::kTrim);
  op->ino = 3;
  op->size = 0;
  op = &add(OpType::kMtime);
  op->ino = 3;
  op->mtime_us = 7;
  op = &add(OpType::kNextIno);
  op->ino = 10;
  op = &add(OpType::kCreate);
  op->parent = 2;
  op->name = "000013.log";
  op->ino = 4;
  op->kind = FileKind::kWal;
  op->layout = FileLayout::kLog;
  op->mtime_us = 8;
  op = &add(OpType::kSegment);
  op->ino = 4;
  op->segment = {1000, 8192, UINT64_MAX};
  op = &add(OpType::kLogEnd);
  op->ino = 4;
  op->log_end = {2000, 9600, 0xcafef00d};
  op->closed = true;
  op->mtime_us = 9;
  return ops;
}

std::string Encoded(const MetadataOp& op) {
  std::string out;
  op.EncodeTo(&out);
  return out;
}

// A body behind the header it needs.
std::string Raw(OpType type, const std::string& body) {
  std::string out;
  PutFixed8(&out, static_cast<uint8_t>(type));
  PutFixed8(&out, 0);
  PutFixed16(&out, 0);
  PutFixed32(&out, static_cast<uint32_t>(body.size()));
  return out + body;
}

Result Decode(std::string_view bytes) {
  MetadataOp op;
  return MetadataOp::DecodeFrom(&bytes, &op);
}

void ExpectEqual(const MetadataOp& a, const MetadataOp& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.layout, b.layout);
  EXPECT_EQ(a.segment, b.segment);
  EXPECT_EQ(a.log_end, b.log_end);
  EXPECT_EQ(a.closed, b.closed);
  EXPECT_EQ(a.ino, b.ino);
  EXPECT_EQ(a.parent, b.parent);
  EXPECT_EQ(a.new_parent, b.new_parent);
  EXPECT_EQ(a.size, b.size);
  EXPECT_EQ(a.mtime_us, b.mtime_us);
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.new_name, b.new_name);
  EXPECT_EQ(a.extents, b.extents);
}

TEST(MetadataOp, EveryTypeComesBackAsItWas) {
  std::string bytes;
  for (const MetadataOp& op : Samples()) op.EncodeTo(&bytes);
  std::string_view rest = bytes;
  for (const MetadataOp& op : Samples()) {
    MetadataOp decoded;
    decoded.name = "left over";
    const Result result = MetadataOp::DecodeFrom(&rest, &decoded);
    ASSERT_TRUE(result.ok()) << result.ToString();
    ExpectEqual(op, decoded);
  }
  EXPECT_TRUE(rest.empty());
}

// The worked example of env/format.md.
TEST(MetadataOp, BytesAreThoseOfTheFormatDescription) {
  MetadataOp op;
  op.type = OpType::kCreate;
  op.parent = 1;
  op.name = "CURRENT";
  op.ino = 2;
  op.kind = FileKind::kOther;
  op.mtime_us = 0x0102030405;
  const std::string expected(
      "\x02\x00\x00\x00\x23\x00\x00\x00"
      "\x01\x00\x00\x00\x00\x00\x00\x00"
      "\x07\x00\x43\x55\x52\x52\x45\x4e\x54"
      "\x02\x00\x00\x00\x00\x00\x00\x00"
      "\x00\x00"
      "\x05\x04\x03\x02\x01\x00\x00\x00",
      43);
  EXPECT_EQ(Encoded(op), expected);
}

TEST(MetadataOp, CutAnywhereIsRefused) {
  for (const MetadataOp& op : Samples()) {
    const std::string bytes = Encoded(op);
    for (size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_EQ(Decode(std::string_view(bytes).substr(0, length)).error(),
                EUCLEAN)
          << op.ToString() << " at " << length;
    }
  }
}

// The same bodies, with a length that gives them less or more than they need.
TEST(MetadataOp, BodyOfAnotherLengthIsRefused) {
  for (const MetadataOp& op : Samples()) {
    const std::string body = Encoded(op).substr(kOpHeaderBytes);
    EXPECT_EQ(Decode(Raw(op.type, body + '\0')).error(), EUCLEAN)
        << op.ToString();
    for (size_t length = 0; length < body.size(); ++length) {
      EXPECT_EQ(Decode(Raw(op.type, body.substr(0, length))).error(), EUCLEAN)
          << op.ToString() << " at " << length;
    }
  }
}

TEST(MetadataOp, UnknownTypesAndReservedBytesAreRefused) {
  for (const int type : {0, 14, 255}) {
    const Result result = Decode(Raw(static_cast<OpType>(type), ""));
    EXPECT_EQ(result.error(), EUCLEAN) << type;
    EXPECT_NE(result.context().find("unknown"), std::string::npos);
  }
  for (const size_t reserved : {1, 2, 3}) {
    std::string bytes = Encoded(Samples().back());
    bytes[reserved] = 1;
    EXPECT_EQ(Decode(bytes).error(), EUCLEAN) << reserved;
  }
}

TEST(MetadataOp, NamesAreChecked) {
  MetadataOp op;
  op.type = OpType::kUnlink;
  op.parent = 1;
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"),
        std::string("/"), std::string("a\0b", 3),
        std::string(kMaxNameBytes + 1, 'n')}) {
    op.name = name;
    EXPECT_EQ(Decode(Encoded(op)).error(), EUCLEAN) << name;
  }
  for (const char* name : {"..a", "a.", " ", "\xff\n"}) {
    op.name = name;
    EXPECT_TRUE(Decode(Encoded(op)).ok()) << name;
  }
}

TEST(MetadataOp, NumbersAreChecked) {
  for (MetadataOp op : Samples()) {
    if (op.ino == 0) continue;
    op.ino = 0;
    EXPECT_EQ(Decode(Encoded(op)).error(), EUCLEAN) << op.ToString();
  }
  for (MetadataOp op : Samples()) {
    if (op.parent == 0) continue;
    op.parent = 0;
    EXPECT_EQ(Decode(Encoded(op)).error(), EUCLEAN) << op.ToString();
  }
  MetadataOp op = Samples()[1];
  op.kind = static_cast<FileKind>(kFileKinds);
  EXPECT_EQ(Decode(Encoded(op)).error(), EUCLEAN);
  op.kind = FileKind::kWal;
  op.layout = static_cast<FileLayout>(kFileLayouts);
  EXPECT_EQ(Decode(Encoded(op)).error(), EUCLEAN);
}

TEST(MetadataOp, ExtentsAreChecked) {
  MetadataOp op;
  op.type = OpType::kExtents;
  op.ino = 3;
  EXPECT_EQ(Decode(Encoded(op)).error(), EUCLEAN) << "no extent";
  op.extents = {{7, 0}};
  EXPECT_EQ(Decode(Encoded(op)).error(), EUCLEAN) << "an empty extent";
  op.extents = {{UINT64_MAX, 1}};
  EXPECT_EQ(Decode(Encoded(op)).error(), EUCLEAN) << "an end beyond 64 bits";

  // A count that no memory could hold must not be believed.
  std::string body;
  PutFixed64(&body, 3);
  PutFixed32(&body, UINT32_MAX);
  EXPECT_EQ(Decode(Raw(OpType::kExtents, body)).error(), EUCLEAN);
}

TEST(MetadataOp, ErrorsNameTheOperationAndTheProblem) {
  MetadataOp op;
  op.type = OpType::kUnlink;
  op.parent = 1;
  op.name = "..";
  EXPECT_EQ(Decode(Encoded(op)).context(),
            "metadata operation unlink: name . or ..");
}

// What decodes at all encodes to the very bytes it came from, so nothing was
// skipped or taken for something else.
TEST(MetadataOp, ChangedBytesAreRefusedOrMeanWhatTheySay) {
  std::mt19937_64 rng(TestSeed());
  const std::vector<MetadataOp> samples = Samples();
  uint64_t accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = Encoded(samples[rng() % samples.size()]);
    for (uint64_t change = rng() % 4 + 1; change > 0; --change) {
      bytes[rng() % bytes.size()] = static_cast<char>(rng());
    }
    std::string_view rest = bytes;
    MetadataOp op;
    if (!MetadataOp::DecodeFrom(&rest, &op).ok()) continue;
    ++accepted;
    const std::string again = Encoded(op);
    ASSERT_EQ(again, bytes.substr(0, again.size())) << op.ToString();
    ASSERT_EQ(rest.size(), bytes.size() - again.size());
  }
  EXPECT_GT(accepted, 0u);
}

TEST(MetadataOp, RandomBytesDoNoHarm) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(rng() % 200, '\0');
    for (char& c : bytes) c = static_cast<char>(rng());
    if (bytes.size() > kOpHeaderBytes) {
      bytes = Raw(static_cast<OpType>(rng() % 13), bytes);
    }
    std::string_view rest = bytes;
    MetadataOp op;
    const Result result = MetadataOp::DecodeFrom(&rest, &op);
    EXPECT_TRUE(result.ok() || result.error() == EUCLEAN);
  }
}

TEST(MetadataOp, ToStringIsReadable) {
  std::vector<std::string> lines;
  for (const MetadataOp& op : Samples()) lines.push_back(op.ToString());
  EXPECT_EQ(lines[0], "mkdir 1/db = 2");
  EXPECT_EQ(lines[1], "create 2/000012.sst = 3 (sst)");
  EXPECT_EQ(lines[2], "link 3 -> 1/" + std::string(kMaxNameBytes, 'n'));
  EXPECT_EQ(lines[3], "unlink 1/x");
  EXPECT_EQ(lines[4], "rmdir 1/...");
  EXPECT_EQ(lines[5], "rename 1/CURRENT.tmp -> 18446744073709551615/CURRENT");
  EXPECT_EQ(lines[6], "extents 3: 100+25 18446744073709551614+1");
  EXPECT_EQ(lines[7], "size 3: 18446744073709551615 bytes");
  EXPECT_EQ(lines[8], "trim 3: 0 blocks");
  EXPECT_EQ(lines[9], "mtime 3: 7 us");
  EXPECT_EQ(lines[10], "next_ino 10");
  EXPECT_EQ(lines[11], "create 2/000013.log = 4 (wal)");
  EXPECT_EQ(lines[12], "segment 4: from byte 1000 on at 8192");
  EXPECT_EQ(lines[13], "log_end 4: 2000 bytes up to 9600, closed");
  MetadataOp op;
  op.type = OpType::kUnlink;
  op.parent = 1;
  op.name = "a\n\\\x7f";
  EXPECT_EQ(op.ToString(), "unlink 1/a\\x0a\\x5c\\x7f");
}

}  // namespace
}  // namespace diofs
