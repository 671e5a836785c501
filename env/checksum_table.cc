#include "env/checksum_table.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dio/align.h"
#include "env/coding.h"
#include "env/crc32c.h"
#include "env/extent_map.h"
#include "env/format.h"

namespace diofs {
namespace {

constexpr uint32_t kMagic = 0x534b4344;  // "DCKS"
constexpr size_t kCrcOffset = 4;

uint64_t TableBytes(uint64_t bytes) {
  return ChecksumTable::kHeaderBytes +
         DivideRoundUp(bytes, ChecksumTable::kChunkBytes) * sizeof(uint32_t);
}

// Of all but the field that holds it.
uint32_t TableCrc(const char* data, uint64_t bytes) {
  constexpr size_t kBehind = kCrcOffset + sizeof(uint32_t);
  return Crc32cExtend(Crc32c(data, kCrcOffset), data + kBehind,
                      bytes - kBehind);
}

}  // namespace

uint64_t ChecksumTable::BlocksFor(uint64_t bytes) {
  return diofs::BlocksFor(TableBytes(bytes));
}

void ChecksumTable::Add(const char* data, size_t bytes) {
  while (bytes > 0) {
    const uint64_t within = bytes_ % kChunkBytes;
    if (within == 0) checksums_.push_back(0);
    const size_t part = std::min<uint64_t>(bytes, kChunkBytes - within);
    checksums_.back() = Crc32cExtend(checksums_.back(), data, part);
    data += part;
    bytes -= part;
    bytes_ += part;
  }
}

void ChecksumTable::Encode(uint64_t ino, char* out) const {
  std::memset(out, 0, BlocksFor(bytes_) * kBlockBytes);
  EncodeFixed(out, kMagic);
  EncodeFixed(out + 8, ino);
  EncodeFixed(out + 16, bytes_);
  char* to = out + kHeaderBytes;
  for (const uint32_t checksum : checksums_) {
    EncodeFixed(to, checksum);
    to += sizeof(checksum);
  }
  EncodeFixed(out + kCrcOffset, TableCrc(out, TableBytes(bytes_)));
}

Result ChecksumTable::Decode(const char* data, uint64_t ino, uint64_t bytes,
                             ChecksumTable* table) {
  if (DecodeFixed<uint32_t>(data) != kMagic) {
    return Result::Error(EUCLEAN, "no checksum table");
  }
  if (DecodeFixed<uint32_t>(data + kCrcOffset) !=
      TableCrc(data, TableBytes(bytes))) {
    return Result::Error(EUCLEAN, "checksum of the checksum table");
  }
  if (DecodeFixed<uint64_t>(data + 8) != ino ||
      DecodeFixed<uint64_t>(data + 16) != bytes) {
    return Result::Error(EUCLEAN, "checksum table of another file");
  }
  table->bytes_ = bytes;
  table->checksums_.clear();
  const char* from = data + kHeaderBytes;
  for (uint64_t done = 0; done < bytes; done += kChunkBytes) {
    table->checksums_.push_back(DecodeFixed<uint32_t>(from));
    from += sizeof(uint32_t);
  }
  return Result::Ok();
}

bool ChecksumTable::Matches(uint64_t chunk, const char* data,
                            size_t bytes) const {
  return chunk < checksums_.size() && Crc32c(data, bytes) == checksums_[chunk];
}

}  // namespace diofs
