#ifndef DIOFS_DIO_BLOCK_MAPPER_H_
#define DIOFS_DIO_BLOCK_MAPPER_H_

#include <cstdint>

#include "dio/result.h"

namespace diofs {

enum class BlockState : uint8_t {
  kHole,       // no device block; reads as zeros, takes no write
  kMapped,     // written before; a partial write leaves the rest as it is
  kUnwritten,  // allocated, never written: reads as zeros
  kNew,        // allocated by this very call: as kUnwritten
};

// One homogeneous run of file blocks: one state and, but for a hole, one run of
// the device.
struct BlockMapping {
  BlockState state = BlockState::kHole;
  // Device position in file-system blocks; meaningless for a hole.
  uint64_t device_block = 0;
  // File blocks the run covers, from the block that was asked for.
  uint64_t count = 0;
  // The run's last block precedes metadata the caller will need next: submit
  // what has gathered.
  bool boundary = false;
  // What the mapper set aside for this call, by a number of its own; 0: none.
  // Handed to DioObserver::EndIo, which commits or releases it.
  uint64_t reservation = 0;
};

// Maps blocks of one file to blocks of the device (get_block in the kernel).
// The engine asks it and knows nothing else of files. Its caller keeps it alive
// while a request is being submitted; it is not needed for completion, so what
// locks it takes are held only while mapping.
class BlockMapper {
 public:
  virtual ~BlockMapper() = default;

  // Maps at most `count` (>= 1) blocks from file block `first`. `create`: the
  // blocks will be written, a hole should be filled. The engine checks what
  // comes back (1 <= mapping->count <= count, inside the device) in every build
  // and ends the request with EIO otherwise.
  virtual Result GetBlocks(uint64_t first, uint64_t count, bool create,
                           BlockMapping* mapping) const = 0;
};

}  // namespace diofs

#endif  // DIOFS_DIO_BLOCK_MAPPER_H_
