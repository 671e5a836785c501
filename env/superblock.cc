#include "env/superblock.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <utility>

#include "dio/align.h"
#include "dio/buffer_pool.h"
#include "env/coding.h"
#include "env/crc32c.h"
#include "env/file_kind.h"

namespace diofs {
namespace {

// Features of this version: none yet.
constexpr uint64_t kKnownIncompat = 0;
constexpr uint32_t kKnownFlags =
    Superblock::kDirty | Superblock::kFullyWritten | Superblock::kFlushIsFaster;

static_assert(8 + 4 + 4 + 16 + 8 + 8 + 4 + 4 + 3 * 8 + 2 * 8 + 8 + 16 + 16 + 4 +
                  4 + 4 * 8 + kLabelBytes ==
              kSuperblockFieldBytes);
static_assert(kSuperblockFieldBytes <= kSuperblockBytes);
static_assert(kSuperblockBytes == kBlockBytes);

constexpr uint32_t kVersionOffset = 8;

Result Damaged(const std::string& what) {
  return Result::Error(EUCLEAN, "damaged superblock: " + what);
}

// Another version may sum differently, so its checksum says nothing; but a
// block that matches once it has our version is ours with that field damaged.
Result CheckVersion(std::string_view block, uint32_t crc) {
  const auto version = DecodeFixed<uint32_t>(&block[kVersionOffset]);
  if (version == kFormatVersion) return Result::Ok();
  std::string as_ours(block);
  EncodeFixed(&as_ours[kVersionOffset], kFormatVersion);
  if (BlockCrc(as_ours) == crc) return Damaged("version field");
  return Result::Error(EPROTONOSUPPORT,
                       "format version " + std::to_string(version) +
                           ", but this program knows version " +
                           std::to_string(kFormatVersion) + " only");
}

Result CheckFeatures(uint64_t incompat) {
  const uint64_t unknown = incompat & ~kKnownIncompat;
  if (unknown == 0) return Result::Ok();
  std::string bits;
  for (int bit = 0; bit < 64; ++bit) {
    if ((unknown >> bit & 1) != 0) bits += " " + std::to_string(bit);
  }
  return Result::Error(
      EPROTONOSUPPORT,
      "needs features this program does not know: bits" + bits);
}

bool Overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

// No sum below can overflow: the region size is bounded first, and offsets by
// the size of the device, which is far below 2^63.
const char* RegionProblem(const Superblock& sb) {
  if (sb.region_bytes < kMinRegionBytes || sb.region_bytes > kMaxRegionBytes ||
      !IsAligned(sb.region_bytes, kBlockBytes)) {
    return "region size";
  }
  for (const uint64_t offset : sb.region_offset) {
    if (!IsAligned(offset, kBlockBytes) || sb.region_bytes > sb.device_bytes ||
        offset > sb.device_bytes - sb.region_bytes) {
      return "region offset";
    }
    for (uint32_t copy = 0; copy < kSuperblockCopies; ++copy) {
      if (Overlap(offset, sb.region_bytes,
                  SuperblockOffset(sb.device_bytes, copy), kSuperblockBytes)) {
        return "region overlaps a superblock";
      }
    }
  }
  if (Overlap(sb.region_offset[0], sb.region_bytes, sb.region_offset[1],
              sb.region_bytes)) {
    return "regions overlap";
  }
  return nullptr;
}

// Null for values that this format allows on a device of `device_bytes`.
const char* ValueProblem(const Superblock& sb, uint32_t block_bytes,
                         uint64_t device_bytes) {
  if (block_bytes != kBlockBytes) return "block size";
  if (sb.device_bytes > device_bytes) return "larger than the device";
  if (!IsAligned(sb.device_bytes, kBlockBytes) ||
      sb.device_bytes < kMinVolumeBytes || sb.device_bytes > INT64_MAX) {
    return "volume size";
  }
  if ((sb.flags & ~kKnownFlags) != 0) return "unknown flags";
  if (sb.flush_mode != FlushMode::kDevice &&
      sb.flush_mode != FlushMode::kMemory) {
    return "unknown flush mode";
  }
  return RegionProblem(sb);
}

bool AllZero(std::string_view bytes) {
  return bytes.find_first_not_of('\0') == bytes.npos;
}

// A superblock read from one place of the device.
struct Copy {
  Result result;
  bool unreadable = false;  // result is the device's
  Superblock superblock;
};

void ReadCopy(BlockDevice* device, uint64_t offset, Copy* copy,
              bool* magic_seen) {
  AlignedBuffer buffer = BufferPool::Get(kSuperblockBytes);
  if (!buffer) {
    copy->result = Result::Error(ENOMEM, "superblock");
    return;
  }
  copy->result =
      device->Read(offset, buffer.data(), kSuperblockBytes, kIoClassSuperblock);
  copy->unreadable = !copy->result.ok();
  if (copy->unreadable) return;
  const std::string_view block(buffer.data(), kSuperblockBytes);
  if (DecodeFixed<uint64_t>(block.data()) == kSuperblockMagic) {
    *magic_seen = true;
  }
  copy->result =
      Superblock::Decode(block, device->size_bytes(), &copy->superblock);
}

using Copies = std::array<Copy, kSuperblockCopies>;

// Index of the copy that counts, or -1. The first valid one says which volume
// this is (an older one may have left copies of its own), the highest epoch of
// that volume counts.
int Newest(const Copies& copies) {
  int newest = -1;
  for (int i = 0; i < static_cast<int>(kSuperblockCopies); ++i) {
    if (!copies[i].result.ok()) continue;
    if (newest < 0 ||
        (copies[i].superblock.uuid == copies[newest].superblock.uuid &&
         copies[i].superblock.epoch > copies[newest].superblock.epoch)) {
      newest = i;
    }
  }
  return newest;
}

Result NoneValid(const Copies& copies, bool magic_seen) {
  for (const int error : {EPROTONOSUPPORT, ENOMEM}) {
    for (const Copy& copy : copies) {
      if (copy.result.error() == error) return copy.result;
    }
  }
  // Who cannot read a device does not know what is on it. A bad sector is told
  // as ENODATA, which means another thing here.
  for (const Copy& copy : copies) {
    if (!copy.unreadable) continue;
    return copy.result.error() == ENODATA
               ? Result::Error(EIO, copy.result.context())
               : copy.result;
  }
  if (!magic_seen) return Result::Error(ENODATA, "not formatted");
  return Damaged("no valid copy; the first: " + copies[0].result.ToString());
}

// Copy 0 is written first and decides; without it most of the others do.
const Copy* OtherFormat(const Copies& copies) {
  const Copy* other = nullptr;
  uint32_t count = 0;
  for (const Copy& copy : copies) {
    if (copy.result.error() != EPROTONOSUPPORT) continue;
    ++count;
    if (other == nullptr) other = &copy;
  }
  return other == &copies[0] || count > kSuperblockCopies / 2 ? other : nullptr;
}

void ReadCopies(BlockDevice* device, Copies* copies, bool* magic_seen) {
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    const uint64_t offset = SuperblockOffset(device->size_bytes(), i);
    ReadCopy(device, offset, &(*copies)[i], magic_seen);
  }
  // On a device that has grown since, the last two lie where it once ended.
  const int newest = Newest(*copies);
  if (newest < 0) return;
  const uint64_t bytes = (*copies)[newest].superblock.device_bytes;
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    const uint64_t offset = SuperblockOffset(bytes, i);
    if (offset == SuperblockOffset(device->size_bytes(), i)) continue;
    ReadCopy(device, offset, &(*copies)[i], magic_seen);
  }
}

Result RandomBytes(void* to, size_t bytes) {
  if (getrandom(to, bytes, 0) == static_cast<ssize_t>(bytes)) {
    return Result::Ok();
  }
  return Result::FromErrno("getrandom");
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string Superblock::Encode() const {
  std::string out;
  out.reserve(kSuperblockBytes);
  PutFixed64(&out, kSuperblockMagic);
  PutFixed32(&out, kFormatVersion);
  PutFixed32(&out, 0);  // the checksum, once all is there
  PutUuid(&out, uuid);
  PutFixed64(&out, epoch);
  PutFixed64(&out, device_bytes);
  PutFixed32(&out, kBlockBytes);
  PutFixed32(&out, flags);
  PutFixed64(&out, feature_compat);
  PutFixed64(&out, feature_ro_compat);
  PutFixed64(&out, feature_incompat);
  for (const uint64_t offset : region_offset) PutFixed64(&out, offset);
  PutFixed64(&out, region_bytes);
  PutUuid(&out, mount_nonce);
  PutUuid(&out, boot_id);
  PutFixed32(&out, static_cast<uint32_t>(flush_mode));
  PutFixed32(&out, owner_pid);
  PutFixed64(&out, created_us);
  PutFixed64(&out, mounted_us);
  PutFixed64(&out, clean_sequence);
  PutFixed64(&out, clean_region_nonce);
  out.append(label, 0, kLabelBytes - 1);
  out.resize(kSuperblockBytes, '\0');
  EncodeFixed(&out[kBlockCrcOffset], BlockCrc(out));
  return out;
}

Result Superblock::Decode(std::string_view block, uint64_t actual_bytes,
                          Superblock* superblock) {
  if (block.size() != kSuperblockBytes) return Damaged("cut short");
  BoundedReader reader(block);
  if (reader.Fixed64() != kSuperblockMagic) {
    return Result::Error(EUCLEAN, "not a DioFS superblock");
  }
  const auto crc = DecodeFixed<uint32_t>(&block[kBlockCrcOffset]);
  Result result = CheckVersion(block, crc);
  if (!result.ok()) return result;
  if (BlockCrc(block) != crc) return Damaged("checksum");

  Superblock sb;
  reader.Bytes(8);  // version and checksum
  reader.ReadUuid(&sb.uuid);
  sb.epoch = reader.Fixed64();
  sb.device_bytes = reader.Fixed64();
  const uint32_t block_bytes = reader.Fixed32();
  sb.flags = reader.Fixed32();
  sb.feature_compat = reader.Fixed64();
  sb.feature_ro_compat = reader.Fixed64();
  sb.feature_incompat = reader.Fixed64();
  for (uint64_t& offset : sb.region_offset) offset = reader.Fixed64();
  sb.region_bytes = reader.Fixed64();
  reader.ReadUuid(&sb.mount_nonce);
  reader.ReadUuid(&sb.boot_id);
  sb.flush_mode = static_cast<FlushMode>(reader.Fixed32());
  sb.owner_pid = reader.Fixed32();
  sb.created_us = reader.Fixed64();
  sb.mounted_us = reader.Fixed64();
  sb.clean_sequence = reader.Fixed64();
  sb.clean_region_nonce = reader.Fixed64();
  const std::string_view label_bytes = reader.Bytes(kLabelBytes);
  const size_t label_end = std::min(label_bytes.find('\0'), label_bytes.size());
  sb.label = label_bytes.substr(0, label_end);

  result = CheckFeatures(sb.feature_incompat);
  if (!result.ok()) return result;
  const char* problem = ValueProblem(sb, block_bytes, actual_bytes);
  if (problem != nullptr) return Damaged(problem);
  if (label_end == kLabelBytes || !AllZero(label_bytes.substr(label_end)) ||
      !AllZero(block.substr(kSuperblockFieldBytes))) {
    return Damaged("unused bytes in use");
  }
  *superblock = std::move(sb);
  return Result::Ok();
}

uint64_t SuperblockOffset(uint64_t device_bytes, uint32_t index) {
  switch (index) {
    case 0:
      return 0;
    case 1:
      return kSecondSuperblockOffset;
    case 2:
      return AlignDown(device_bytes / 2, kBlockBytes);
    default:
      return AlignDown(device_bytes, kBlockBytes) - kSuperblockBytes;
  }
}

Result LoadSuperblock(BlockDevice* device, Superblock* superblock,
                      SuperblockScan* scan) {
  SuperblockScan unused;
  const bool compare = scan != nullptr;
  if (scan == nullptr) scan = &unused;
  *scan = SuperblockScan();
  if (device->size_bytes() < kMinVolumeBytes) {
    return Result::Error(ENODATA, device->name() +
                                      ": not formatted: smaller than any "
                                      "volume");
  }
  Copies copies;
  ReadCopies(device, &copies, &scan->magic_seen);
  const int newest = Newest(copies);
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    Result& result = scan->copies[i];
    result = copies[i].result;
    if (!result.ok()) continue;
    scan->epochs[i] = copies[i].superblock.epoch;
    if (copies[i].superblock.uuid != copies[newest].superblock.uuid) {
      result = Result::Error(EUCLEAN, "superblock of another volume");
    } else if (compare && scan->epochs[i] == copies[newest].superblock.epoch) {
      scan->differs[i] =
          copies[i].superblock.Encode() != copies[newest].superblock.Encode();
    }
  }
  const Copy* other = OtherFormat(copies);
  if (other != nullptr) return Result(other->result).With(device->name());
  if (newest < 0) {
    return NoneValid(copies, scan->magic_seen).With(device->name());
  }
  *superblock = copies[newest].superblock;
  return Result::Ok();
}

Result StoreSuperblock(BlockDevice* device, Superblock* superblock) {
  ++superblock->epoch;
  const std::string block = superblock->Encode();
  AlignedBuffer buffer = BufferPool::Get(kSuperblockBytes);
  if (!buffer) return Result::Error(ENOMEM, "superblock");
  std::copy(block.begin(), block.end(), buffer.data());
  for (const uint32_t first : {0, 1}) {
    for (const uint32_t copy : {first, first + 2}) {
      Result result =
          device->Write(SuperblockOffset(superblock->device_bytes, copy),
                        buffer.data(), kSuperblockBytes, kIoClassSuperblock);
      if (!result.ok()) return std::move(result).With("superblock");
    }
    Result result = device->Flush();
    if (!result.ok()) return std::move(result).With("superblock");
  }
  return Result::Ok();
}

Result CheckMayWrite(const Superblock& superblock) {
  const uint64_t unknown =
      superblock.feature_ro_compat & ~Superblock::kChecksumTables;
  if (unknown == 0) return Result::Ok();
  char bits[20];
  std::snprintf(bits, sizeof(bits), "0x%llx",
                static_cast<unsigned long long>(unknown));
  return Result::Error(EROFS, std::string("made by a newer DioFS: features ") +
                                  bits + " allow reading only, with ro=1");
}

Result RandomUuid(Uuid* uuid) {
  Result result = RandomBytes(uuid->data(), uuid->size());
  // Version 4, variant 1 of RFC 4122.
  (*uuid)[6] = static_cast<uint8_t>(((*uuid)[6] & 0x0f) | 0x40);
  (*uuid)[8] = static_cast<uint8_t>(((*uuid)[8] & 0x3f) | 0x80);
  return result;
}

Result RandomNonce(uint64_t* nonce) {
  // 0 stands for no nonce.
  do {
    Result result = RandomBytes(nonce, sizeof(*nonce));
    if (!result.ok()) return result;
  } while (*nonce == 0);
  return Result::Ok();
}

Result CurrentBootId(Uuid* boot_id) {
  const std::string path = "/proc/sys/kernel/random/boot_id";
  std::ifstream file(path);
  std::string text;
  if (!std::getline(file, text)) {
    return Result::Error(EIO, path + ": cannot be read");
  }
  text.erase(std::remove(text.begin(), text.end(), '-'), text.end());
  if (text.size() != 2 * boot_id->size()) {
    return Result::Error(EIO, path + ": no UUID");
  }
  for (size_t i = 0; i < boot_id->size(); ++i) {
    const int high = HexDigit(text[2 * i]);
    const int low = HexDigit(text[2 * i + 1]);
    if (high < 0 || low < 0) return Result::Error(EIO, path + ": no UUID");
    (*boot_id)[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return Result::Ok();
}

std::string UuidToString(const Uuid& uuid) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out.push_back('-');
    out.push_back(kHex[uuid[i] >> 4]);
    out.push_back(kHex[uuid[i] & 15]);
  }
  return out;
}

}  // namespace diofs
