#ifndef DIOFS_ENV_FILE_READER_H_
#define DIOFS_ENV_FILE_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "dio/align.h"
#include "dio/read_batch.h"
#include "dio/result.h"
#include "env/open_file.h"

namespace diofs {

// Reads anywhere in a file, also one that is being appended to: every byte
// appended before the call is there. Thread-safe. `ioprio` is as DioRequest has
// it.
class FileReader {
 public:
  explicit FileReader(OpenFilePtr file) : file_(std::move(file)) {}

  // Bytes read; short only at the end of the file, 0 behind it.
  Result Read(uint64_t offset, size_t length, char* memory,
              uint16_t ioprio = 0) const;
  // All ranges in one submission; each has its own result. An error returned
  // here means that none was tried.
  Result MultiRead(ReadRange* ranges, size_t count, uint16_t ioprio = 0) const;
  // Starts them and returns; batch->Wait() on any thread completes them. The
  // batch must not outlive this file.
  Result Start(ReadRange* ranges, size_t count, ReadBatch* batch,
               uint16_t ioprio = 0) const;

  uint64_t size() const {
    return file_->inode()->visible_bytes.load(std::memory_order_acquire);
  }
  const OpenFilePtr& file() const { return file_; }

 private:
  // Sees to it that bytes below `end` are on the device.
  Result Prepare(uint64_t end, Inode::View* view) const;
  Result Submit(ReadRange* ranges, size_t count, bool async, uint16_t ioprio,
                ReadBatch* batch) const;

  const OpenFilePtr file_;
};

// Reads a file from front to back with readahead of its own: WAL replay asks
// for 32 KiB at a time, a file copy for 4 KiB. One thread at a time.
class SequentialReader {
 public:
  // Readahead grows from the first to the second while reading goes on.
  static constexpr size_t kMinReadahead = 64 << 10;
  static constexpr size_t kMaxReadahead = 1 << 20;

  explicit SequentialReader(OpenFilePtr file) : reader_(std::move(file)) {}

  // Bytes read; short only at the end of the file. What is appended later is
  // read by later calls.
  Result Read(size_t length, char* memory, uint16_t ioprio = 0);
  void Skip(uint64_t bytes) {
    if (!CheckedAdd(position_, bytes, &position_)) position_ = UINT64_MAX;
  }
  void InvalidateCache() { buffered_ = 0; }
  const FileReader& reader() const { return reader_; }

 private:
  // Buffers the bytes at position_, at least `length` of them and as many more
  // as readahead allows.
  Result Fill(size_t length, uint16_t ioprio);

  const FileReader reader_;
  uint64_t position_ = 0;
  AlignedBuffer buffer_;
  uint64_t buffer_start_ = 0;
  size_t buffered_ = 0;
  size_t readahead_ = kMinReadahead;
};

}  // namespace diofs

#endif  // DIOFS_ENV_FILE_READER_H_
