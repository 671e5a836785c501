#ifndef DIOFS_DIO_READ_BATCH_H_
#define DIOFS_DIO_READ_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "dio/block_mapper.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/result.h"

namespace diofs {

class BlockDevice;
class Plug;

// One read of a batch: any offset, length and address.
struct ReadRange {
  uint64_t offset = 0;
  size_t length = 0;
  char* memory = nullptr;
  // Bytes read (short only at the end of the file) or an error; set by Wait.
  Result result;
};

// Reads of one file that leave in one submission: sorted, neighbours merged,
// zero-copy where memory, offset and length are aligned, else through a bounce
// buffer at logical-block granularity. One request alone is read on the calling
// thread without a ring, unless `async`.
//
// Owned by the caller, used by one thread at a time; Submit and Wait may be
// called from different ones if it is `async`; otherwise Waiter::kSubmitter
// says what is expected of the one. Waits in its destructor if nobody did.
class ReadBatch {
 public:
  struct File {
    BlockDevice* device = nullptr;
    const BlockMapper* mapper = nullptr;  // needed until Submit returns
    uint64_t file_size = 0;
    uint32_t block_bytes = 4096;
    IoClass io_class = 0;
    uint16_t ioprio = 0;  // as DioRequest has it
  };

  ReadBatch();
  ReadBatch(const ReadBatch&) = delete;
  ReadBatch& operator=(const ReadBatch&) = delete;
  ~ReadBatch();

  // `ranges` stays valid and its memory untouched until Wait has returned.
  void Submit(const File& file, ReadRange* ranges, size_t count, bool async);
  // Completes every range and sets its result. Idempotent.
  void Wait();
  bool done() const;

 private:
  // Ranges that became one device read: [first, last] in sorted_ order.
  struct Extent;

  void Gather(ReadRange* ranges, size_t count);
  void SubmitExtent(const File& file, bool async, Extent* extent, Plug* plug);
  void Complete(Extent* extent, uint32_t wait_nr);

  std::vector<std::unique_ptr<Extent>> extents_;
  std::vector<ReadRange*> sorted_;
  BlockDevice* device_ = nullptr;
  uint64_t file_size_ = 0;
  bool waited_ = true;
};

// The one-range case, synchronous.
Result ReadRangeNow(const ReadBatch::File& file, uint64_t offset, size_t length,
                    char* memory);

}  // namespace diofs

#endif  // DIOFS_DIO_READ_BATCH_H_
