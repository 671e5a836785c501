#ifndef DIOFS_ENV_CHECKSUM_TABLE_H_
#define DIOFS_ENV_CHECKSUM_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dio/result.h"

namespace diofs {

// CRC-32C of each chunk of a plain file, as format.md has it: the blocks behind
// those of the content may hold such a table, for scrubbing. Not thread-safe.
class ChecksumTable {
 public:
  static constexpr uint64_t kChunkBytes = 64 << 10;
  static constexpr size_t kHeaderBytes = 24;

  // Blocks that the table of a file of `bytes` takes.
  static uint64_t BlocksFor(uint64_t bytes);

  // The file goes on with these bytes.
  void Add(const char* data, size_t bytes);
  uint64_t bytes() const { return bytes_; }

  // Fills the BlocksFor(bytes()) blocks at `out`.
  void Encode(uint64_t ino, char* out) const;
  // The same back. EUCLEAN, saying why, for what is not the table of this file
  // at this size.
  static Result Decode(const char* data, uint64_t ino, uint64_t bytes,
                       ChecksumTable* table);

  // Whether `data`, the chunk at this place or what there is of it at the end,
  // is what was added.
  bool Matches(uint64_t chunk, const char* data, size_t bytes) const;

 private:
  uint64_t bytes_ = 0;
  // Of each chunk; the last one is perhaps not whole.
  std::vector<uint32_t> checksums_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_CHECKSUM_TABLE_H_
