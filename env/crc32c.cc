#include "env/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

#include "env/format.h"

namespace diofs {

uint32_t Crc32c(const void* data, size_t bytes) {
  return Crc32cExtend(0, data, bytes);
}

uint32_t BlockCrc(std::string_view block) {
  constexpr char kZero[sizeof(uint32_t)] = {};
  const std::string_view behind = block.substr(kBlockCrcOffset + sizeof(kZero));
  uint32_t crc = Crc32c(block.data(), kBlockCrcOffset);
  crc = Crc32cExtend(crc, kZero, sizeof(kZero));
  return Crc32cExtend(crc, behind.data(), behind.size());
}

uint32_t Crc32cExtend(uint32_t crc, const void* data, size_t bytes) {
  // ISA-L counts in int, inverts nothing and, though it only reads, takes
  // memory that is not const.
  constexpr size_t kMaxPiece = size_t{1} << 30;
  auto* next = static_cast<unsigned char*>(const_cast<void*>(data));
  uint32_t state = ~crc;
  while (bytes > 0) {
    const size_t piece = std::min(bytes, kMaxPiece);
    state = crc32_iscsi(next, static_cast<int>(piece), state);
    next += piece;
    bytes -= piece;
  }
  return ~state;
}

}  // namespace diofs
