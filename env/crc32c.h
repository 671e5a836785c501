#ifndef DIOFS_ENV_CRC32C_H_
#define DIOFS_ENV_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace diofs {

// CRC-32C (Castagnoli) by ISA-L, the polynomial RocksDB hands off with
// checksum_handoff_file_types. Crc32c("123456789", 9) == 0xe3069283.
uint32_t Crc32c(const void* data, size_t bytes);

// The checksum of A followed by B: Crc32cExtend(Crc32c(A), B).
uint32_t Crc32cExtend(uint32_t crc, const void* data, size_t bytes);

// Of a whole block of the format that holds it at kBlockCrcOffset, where it
// counts as zero.
uint32_t BlockCrc(std::string_view block);

}  // namespace diofs

#endif  // DIOFS_ENV_CRC32C_H_
