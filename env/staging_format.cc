#include "env/staging_format.h"

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "dio/align.h"
#include "env/coding.h"
#include "env/crc32c.h"

namespace diofs {
namespace {

static_assert(8 + 4 + 4 + 3 * 16 + 3 * 8 == kStagingHeaderFieldBytes);

uint32_t CrcOf(const char* record_header, uint64_t position,
               std::string_view body) {
  char place[sizeof(position)];
  EncodeFixed(place, position);
  uint32_t crc = Crc32c(place, sizeof(place));
  crc = Crc32cExtend(crc, record_header + 4, StagedRecord::kHeaderBytes - 4);
  return Crc32cExtend(crc, body.data(), body.size());
}

uint64_t Fold(uint64_t eighth) {
  uint64_t fold = eighth ^ (eighth >> 32);
  fold ^= fold >> 16;
  return (fold ^ (fold >> 8)) & 0xff;
}

}  // namespace

uint32_t StagedBaseSlot::ComputeCrc() const {
  return Crc32c(this, offsetof(StagedBaseSlot, crc));
}

uint64_t SealPosition(uint64_t position) {
  const uint64_t eighth = position / StagedRecord::kAlignBytes;
  return eighth | Fold(eighth) << 56;
}

bool UnsealPosition(uint64_t word, uint64_t* position) {
  const uint64_t eighth = word & (UINT64_MAX >> 8);
  *position = eighth * StagedRecord::kAlignBytes;
  return SealPosition(*position) == word;
}

std::string StagingHeader::Encode() const {
  std::string block;
  PutFixed64(&block, kStagingMagic);
  PutFixed32(&block, kFormatVersion);
  PutFixed32(&block, 0);
  PutUuid(&block, uuid);
  PutUuid(&block, mount_nonce);
  PutUuid(&block, boot_id);
  PutFixed64(&block, device);
  PutFixed64(&block, inode);
  PutFixed64(&block, ring_bytes);
  block.resize(kStagingHeaderBytes, '\0');
  EncodeFixed(&block[kBlockCrcOffset], BlockCrc(block));
  return block;
}

Result StagingHeader::Decode(std::string_view block, StagingHeader* header) {
  BoundedReader reader(block);
  if (reader.Fixed64() != kStagingMagic ||
      block.size() != kStagingHeaderBytes) {
    return Result::Error(EUCLEAN, "no staging file");
  }
  if (const uint32_t version = reader.Fixed32(); version != kFormatVersion) {
    return Result::Error(EPROTONOSUPPORT,
                         "staging file of version " + std::to_string(version));
  }
  if (reader.Fixed32() != BlockCrc(block)) {
    return Result::Error(EUCLEAN, "header: checksum");
  }
  reader.ReadUuid(&header->uuid);
  reader.ReadUuid(&header->mount_nonce);
  reader.ReadUuid(&header->boot_id);
  header->device = reader.Fixed64();
  header->inode = reader.Fixed64();
  header->ring_bytes = reader.Fixed64();
  if (header->ring_bytes % kStagingRingOffset != 0 ||
      header->ring_bytes < kMinStagingBytes ||
      header->ring_bytes > kMaxStagingBytes) {
    return Result::Error(EUCLEAN, "header: size of the ring");
  }
  return Result::Ok();
}

void StagedRecord::EncodeTo(char* to, uint64_t position) const {
  EncodeFixed(to + 4, static_cast<uint32_t>(body.size()));
  EncodeFixed(to + 8, static_cast<uint64_t>(type));
  EncodeFixed(to + 16, number);
  EncodeFixed(to + 24, offset);
  EncodeFixed(to, CrcOf(to, position, body));
  std::memcpy(to + kHeaderBytes, body.data(), body.size());
  std::memset(to + kHeaderBytes + body.size(), 0,
              bytes() - kHeaderBytes - body.size());
}

Result StagedRecord::DecodeFrom(std::string_view* bytes, uint64_t position,
                                StagedRecord* record) {
  const char* const header = bytes->data();
  BoundedReader reader(*bytes);
  const uint32_t crc = reader.Fixed32();
  const uint32_t body_bytes = reader.Fixed32();
  const uint64_t type = reader.Fixed64();
  record->number = reader.Fixed64();
  record->offset = reader.Fixed64();
  record->body = reader.Bytes(body_bytes);
  if (!reader.ok() || Bytes(body_bytes) > bytes->size()) {
    return Result::Error(EUCLEAN, "a record is cut short");
  }
  if (crc != CrcOf(header, position, record->body)) {
    return Result::Error(EUCLEAN, "a record's checksum is wrong");
  }
  record->type = static_cast<StagedType>(type);
  const bool operations = record->type == StagedType::kOperations;
  uint64_t end = 0;
  if ((!operations && type != static_cast<uint64_t>(StagedType::kData)) ||
      (operations && record->offset != 0) ||
      !CheckedAdd(record->offset, body_bytes, &end) || end > kMaxLogBytes) {
    return Result::Error(EUCLEAN, "a record makes no sense");
  }
  bytes->remove_prefix(Bytes(body_bytes));
  return Result::Ok();
}

}  // namespace diofs
