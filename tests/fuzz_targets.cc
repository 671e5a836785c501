#include "tests/fuzz_targets.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "dio/discarder.h"
#include "env/coding.h"
#include "env/crc32c.h"
#include "env/fsck.h"
#include "env/journal.h"
#include "env/journal_frame.h"
#include "env/log_frame.h"
#include "env/log_walker.h"
#include "env/metadata_op.h"
#include "env/namespace.h"
#include "env/open_file.h"
#include "env/region_header.h"
#include "env/scrub.h"
#include "env/superblock.h"
#include "env/volume.h"
#include "tests/crash_device.h"
#include "tests/crash_explorer.h"
#include "tests/sim_device.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;
constexpr uint64_t kRegionBytes = 1 << 20;
constexpr Uuid kUuid = {1, 2, 3, 4};

void Require(bool condition, const char* rule) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", rule);
  std::abort();
}

std::string Padded(std::string_view input, size_t bytes) {
  std::string block(input.substr(0, bytes));
  block.resize(bytes, '\0');
  return block;
}

// The checksum of a block lies at kBlockCrcOffset, and counts as zero.
void FixBlockCrc(std::string* block) {
  EncodeFixed<uint32_t>(&(*block)[kBlockCrcOffset], 0);
  EncodeFixed(&(*block)[kBlockCrcOffset], Crc32c(block->data(), block->size()));
}

// ---- Blocks ----------------------------------------------------------------

void RunSuperblock(std::string_view input) {
  std::string block = Padded(input, kSuperblockBytes);
  FixBlockCrc(&block);
  Superblock superblock;
  if (!Superblock::Decode(block, kVolumeBytes, &superblock).ok()) return;
  Require(superblock.Encode() == block, "a superblock has one encoding");
}

std::vector<std::string> SuperblockSeeds() {
  const std::string image = FormattedSim(kVolumeBytes)->Image();
  return {image.substr(0, 300)};
}

void RunRegion(std::string_view input) {
  std::string block = Padded(input, kRegionHeaderBytes);
  FixBlockCrc(&block);
  RegionHeader header;
  if (!RegionHeader::Decode(block, kUuid, kRegionBytes, &header).ok()) return;
  Require(header.Encode() == block, "a region header has one encoding");
}

std::vector<std::string> RegionSeeds() {
  RegionHeader header;
  header.uuid = kUuid;
  header.nonce = 7;
  header.first_sequence = 1;
  header.snapshot_frames = 1;
  header.snapshot_bytes = kBlockBytes;
  RegionHeader tombstone = header;
  tombstone.flags = RegionHeader::kTombstone;
  tombstone.successor_nonce = 8;
  return {header.Encode().substr(0, 100), tombstone.Encode().substr(0, 100)};
}

// ---- Journal ---------------------------------------------------------------

// Input: operations of one frame after the other, each as a length in two bytes
// and so many bytes.
std::vector<std::string> SplitFrames(std::string_view input) {
  std::vector<std::string> frames;
  while (input.size() >= 2 && frames.size() < 64) {
    const size_t bytes =
        std::min<size_t>(DecodeFixed<uint16_t>(input.data()), input.size() - 2);
    frames.emplace_back(input.substr(2, bytes));
    input.remove_prefix(2 + bytes);
  }
  return frames;
}

std::string JoinFrames(const std::vector<std::string>& frames) {
  std::string input;
  for (const std::string& frame : frames) {
    input += static_cast<char>(frame.size() & 0xff);
    input += static_cast<char>(frame.size() >> 8);
    input += frame;
  }
  return input;
}

CowImage JournalImage(const std::vector<std::string>& frames) {
  static const auto zeros =
      std::make_shared<const std::string>(2 * kRegionBytes, '\0');
  CowImage image(zeros);
  RegionHeader region;
  region.uuid = kUuid;
  region.nonce = 7;
  region.first_sequence = 1;
  region.snapshot_frames = 1;
  region.snapshot_bytes = kBlockBytes;
  const std::string block = region.Encode();
  image.Write(0, block.data(), block.size());
  uint64_t at = kRegionHeaderBytes;
  uint32_t chain = FirstChain(region.nonce);
  FrameHeader header;
  header.nonce = region.nonce;
  header.sequence = region.first_sequence;
  const auto put = [&](const std::string& payload) {
    header.chain = chain;
    header.op_count = 0;
    (void)CountOperations(payload, &header.op_count);
    header.payload_bytes = static_cast<uint32_t>(payload.size());
    std::string frame(header.frame_bytes(), '\0');
    header.EncodeFrame(payload, frame.data());
    if (at + frame.size() > kRegionBytes) return;
    image.Write(at, frame.data(), frame.size());
    at += frame.size();
    chain = header.crc;
    ++header.sequence;
  };
  header.flags = FrameHeader::kSnapshot | FrameHeader::kSnapshotEnd;
  header.last_lsn = 1;
  put("");
  header.flags = 0;
  for (const std::string& frame : frames) {
    ++header.first_lsn;
    header.last_lsn = header.first_lsn;
    put(frame);
  }
  return image;
}

void RunJournal(std::string_view input) {
  CrashDevice device(JournalImage(SplitFrames(input)),
                     SimDevice::MakeGeometry(2 * kRegionBytes), nullptr);
  Journal journal(&device,
                  Journal::Layout{kUuid, {0, kRegionBytes}, kRegionBytes});
  Namespace names;
  Journal::RecoveryReport report;
  const Result result = journal.Recover(
      {},
      [&](std::string_view operations) { return names.ApplyAll(operations); },
      &report);
  if (!result.ok()) return;
  std::vector<std::string> snapshot;
  EncodeSnapshotOf(names, &snapshot);
  Namespace again;
  for (const std::string& piece : snapshot) {
    Require(again.ApplyAll(piece).ok(), "a snapshot can be applied");
  }
  std::vector<std::string> second;
  EncodeSnapshotOf(again, &second);
  Require(second == snapshot, "a snapshot rebuilds what it was taken of");
}

std::vector<std::string> JournalSeeds() {
  const auto encode = [](const std::vector<MetadataOp>& ops) {
    std::string operations;
    for (const MetadataOp& op : ops) op.EncodeTo(&operations);
    return operations;
  };
  MetadataOp mkdir;
  mkdir.type = OpType::kMkdir;
  mkdir.parent = kRootIno;
  mkdir.ino = 2;
  mkdir.name = "d";
  MetadataOp create;
  create.type = OpType::kCreate;
  create.parent = 2;
  create.ino = 3;
  create.name = "000003.log";
  create.layout = FileLayout::kLog;
  MetadataOp segment;
  segment.type = OpType::kSegment;
  segment.ino = 3;
  segment.segment.generation = 9;
  MetadataOp extents;
  extents.type = OpType::kExtents;
  extents.ino = 3;
  extents.extents = {{600, 8}, {700, 1}};
  MetadataOp end;
  end.type = OpType::kLogEnd;
  end.ino = 3;
  end.log_end = {100, 152, 5};
  MetadataOp plain = create;
  plain.ino = 4;
  plain.name = "CURRENT";
  plain.layout = FileLayout::kPlain;
  MetadataOp size;
  size.type = OpType::kSize;
  size.ino = 4;
  size.size = 10;
  MetadataOp more = extents;
  more.ino = 4;
  MetadataOp rename;
  rename.type = OpType::kRename;
  rename.parent = 2;
  rename.name = "CURRENT";
  rename.new_parent = kRootIno;
  rename.new_name = "x";
  return {JoinFrames({encode({mkdir}), encode({create, segment}),
                      encode({extents, end}), encode({plain}),
                      encode({more, size}), encode({rename})})};
}

// ---- Logs ------------------------------------------------------------------

constexpr uint64_t kLogBlocks = 24;
constexpr uint64_t kLogGeneration = 77;

// Input: the stream. Where a header stands behind the frame before it, its
// checksum becomes right.
void RunLog(std::string_view input) {
  std::string stream = Padded(input, kLogBlocks * kBlockBytes);
  for (uint64_t at = 0; at + kLogFrameHeaderBytes <= stream.size();) {
    LogFrameHeader header;
    if (!LogFrameHeader::Decode(&stream[at], &header) ||
        LogFrameBytes(header.payload_bytes) > stream.size() - at) {
      at += kLogFrameAlignBytes;
      continue;
    }
    header.Encode(&stream[at]);
    at += LogFrameBytes(header.payload_bytes);
  }
  auto map = std::make_shared<ExtentMap>();
  // Two runs, so that frames can be misplaced.
  map->Append({0, 5});
  map->Append({6, kLogBlocks - 5});
  std::string image = stream;
  image.insert(uint64_t{5} * kBlockBytes, kBlockBytes, '\0');
  CrashDevice device(CowImage(std::make_shared<const std::string>(image)),
                     SimDevice::MakeGeometry(image.size()), nullptr);
  LogWalker::Stream walked;
  walked.device = &device;
  walked.map = map;
  walked.segments = {{0, 0, kLogGeneration}};
  LogWalker walker(std::move(walked), {0, 0, LogChain(kLogGeneration)});
  uint64_t end = 0;
  while (true) {
    LogWalker::Frame frame;
    bool found = false;
    if (!walker.Next(&frame, &found).ok() || !found) break;
    Require(frame.header.logical == end, "a log has no gap");
    end = frame.header.end();
  }
  bool proven = false;
  uint64_t upto = 0;
  if (walker.FindProof(&proven, &upto).ok() && proven) {
    Require(upto > end, "a proof is of something that is missing");
  }
}

std::vector<std::string> LogSeeds() {
  std::string stream;
  LogFrameHeader header;
  header.generation = kLogGeneration;
  header.chain = LogChain(kLogGeneration);
  for (const uint32_t bytes : {1U, 100U, 5000U, 40U, 3000U}) {
    std::string frame(LogFrameBytes(bytes), 'x');
    header.payload_bytes = bytes;
    header.Encode(frame.data());
    stream += frame;
    header.durable_upto = header.logical;
    header.logical = header.end();
    header.chain = header.crc;
  }
  return {stream, stream.substr(0, 200)};
}

// ---- Images ----------------------------------------------------------------

struct BaseImage {
  std::shared_ptr<const std::string> image;
  // What may be changed, one behind the other.
  std::vector<DeviceRange> ranges;
  uint64_t bytes = 0;
};

// A volume with a log, a plain file, a link and a directory, cut off.
const BaseImage& Base() {
  static const BaseImage base = [] {
    BaseImage made;
    SimDevice* sim = nullptr;
    std::shared_ptr<Volume> volume;
    (void)MountSim(FormattedSim(kVolumeBytes), MountOptions(), &volume, &sim);
    (void)volume->MkdirAll("/db/old");
    (void)WriteFile(volume.get(), "/db/000001.log", Pattern(1, 9000), true);
    (void)WriteFile(volume.get(), "/db/CURRENT", Pattern(2, 5000), true);
    (void)volume->Link("/db/CURRENT", "/db/old/copy");
    (void)volume->Sync();
    std::shared_ptr<OpenFile> file;
    (void)volume->Open("/db/000001.log", &file);
    for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
      made.ranges.push_back({SuperblockOffset(kVolumeBytes, i), 300});
    }
    for (const uint64_t offset : volume->superblock().region_offset) {
      made.ranges.push_back({offset, uint64_t{8} * kBlockBytes});
    }
    for (const Extent& extent : file->inode()->map()->extents()) {
      made.ranges.push_back(
          {extent.start * kBlockBytes, extent.count * kBlockBytes});
    }
    made.image = std::make_shared<const std::string>(sim->Image());
    for (const DeviceRange& range : made.ranges) made.bytes += range.bytes;
    return made;
  }();
  return base;
}

// Input: changes, each as a place in four bytes and a byte to be put there.
CowImage ChangedImage(std::string_view input) {
  const BaseImage& base = Base();
  CowImage image(base.image);
  while (input.size() >= 5) {
    uint64_t place = DecodeFixed<uint32_t>(input.data()) % base.bytes;
    size_t i = 0;
    while (place >= base.ranges[i].bytes) place -= base.ranges[i++].bytes;
    image.Write(base.ranges[i].offset + place, &input[4], 1);
    input.remove_prefix(5);
  }
  for (size_t i = 0; i < kSuperblockCopies + 2; ++i) {
    std::string block(kBlockBytes, '\0');
    image.Read(base.ranges[i].offset, block.size(), block.data());
    FixBlockCrc(&block);
    image.Write(base.ranges[i].offset, block.data(), block.size());
  }
  return image;
}

// Whatever a file's name or size says.
void UseVolume(Volume* volume) {
  Tree tree;
  if (!ReadTree(volume, &tree).ok()) return;
  for (const auto& [path, content] : tree) {
    if (path.back() == '/') continue;
    std::shared_ptr<FileWriter> writer;
    if (OpenWriter(volume, path, &writer).ok()) {
      (void)writer->Append("more", 4);
      (void)writer->Sync();
      (void)writer->Truncate(2);
    }
    (void)volume->Rename(path, "/renamed");
  }
  (void)WriteFile(volume, "/new", "text", true);
  (void)volume->Unlink("/renamed");
  (void)volume->Sync();
}

void RunImage(std::string_view input) {
  const Geometry geometry = CrashGeometry(kVolumeBytes, 512, false);
  const CowImage image = ChangedImage(input);
  FsckReport report;
  (void)Fsck(std::make_unique<CrashDevice>(image, geometry, nullptr), &report);
  std::shared_ptr<Volume> volume;
  MountOptions options = NoClock();
  options.checksums = true;
  auto device = std::make_unique<CrashDevice>(image, geometry, nullptr);
  if (!Volume::Mount(std::move(device), options, &volume).ok()) return;
  ScrubReport scrubbed;
  (void)Scrub(volume.get(), nullptr, &scrubbed);
  UseVolume(volume.get());
  (void)Scrub(volume.get(), nullptr, &scrubbed);
  (void)volume->Unmount();
}

std::vector<std::string> ImageSeeds() {
  return {std::string(5, '\0'), std::string("\x10\x05\x00\x00\x01", 5)};
}

}  // namespace

const std::vector<FuzzTarget>& FuzzTargets() {
  static const std::vector<FuzzTarget> targets = {
      {"superblock", RunSuperblock, SuperblockSeeds},
      {"region", RunRegion, RegionSeeds},
      {"journal", RunJournal, JournalSeeds},
      {"log", RunLog, LogSeeds},
      {"image", RunImage, ImageSeeds},
  };
  return targets;
}

const FuzzTarget* FindFuzzTarget(std::string_view name) {
  for (const FuzzTarget& target : FuzzTargets()) {
    if (name == target.name) return &target;
  }
  return nullptr;
}

}  // namespace diofs
