#ifndef DIOFS_ENV_FILE_WRITER_H_
#define DIOFS_ENV_FILE_WRITER_H_

#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/result.h"
#include "env/journal.h"
#include "env/open_file.h"

namespace diofs {

// Appends to a file. Data gather in an aligned buffer; a full buffer leaves as
// an asynchronous write behind a bounded window, and what is left of it is
// written, zero-padded to a block, when Flush, Sync or a reader asks.
//
//   file   |=========|=========|=====|.....
//          written    in flight  buffer, its first block perhaps written before
//
// One per inode that is open for writing, shared by its handles. Thread-safe:
// Sync may run beside Append. The first error of a write is kept and returned
// to every later call; ENOSPC of an Append is not, for nothing was appended.
class FileWriter : public std::enable_shared_from_this<FileWriter> {
 public:
  // At most this much is in flight behind the buffer.
  static constexpr uint64_t kMaxInFlightBytes = 4 << 20;
  static constexpr size_t kFirstBufferBytes = 64 << 10;
  static constexpr size_t kBufferBytes = 1 << 20;

  // The writer of `file`, made unless one is at work already: appends begin at
  // the end of the file.
  static Result Open(const OpenFilePtr& file,
                     std::shared_ptr<FileWriter>* writer);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  // All or nothing: ENOSPC before a byte is taken.
  Result Append(const char* data, size_t bytes);
  // Overwrites in place; the part behind the end is appended, a gap filled with
  // zeros.
  Result WriteAt(uint64_t offset, const char* data, size_t bytes);
  // What was appended survives the process from now on, as far as the volume's
  // flush mode promises. Of SST and blob files nothing is promised before Sync
  // or Close, for RocksDB reads none after a crash.
  Result Flush();
  // All that was appended before the call is durable, and so is the file's
  // name.
  Result Sync();
  // Starts writing what has gathered, without waiting.
  Result StartWriteback();
  // Cuts the file, or fills it with zeros up to `bytes`.
  Result Truncate(uint64_t bytes);
  // Writes everything and publishes the size. The blocks allocated ahead go
  // back. Does nothing where nothing has changed since; the destructor calls
  // it. Later calls make a new start.
  Result Close();

  // For a reader that wants bytes which are not on the device yet.
  Result WriteOut();

  // The final size as far as anybody knows: allocated at once, the excess given
  // back at Close. Bytes.
  void SetPreallocation(uint64_t bytes) { preallocation_bytes_ = bytes; }

  // Of what leaves from now on; as DioRequest has it.
  void SetIoPriority(uint16_t ioprio) { ioprio_ = ioprio; }

  // Bytes appended. No lock.
  uint64_t size() const { return size_.load(std::memory_order_acquire); }

 private:
  struct Write;

  explicit FileWriter(OpenFilePtr file);

  // All with mutex_ held.
  Result AppendLocked(const char* data, size_t bytes);
  Result EnsureAllocated(uint64_t end);
  Result LoadTail(uint64_t size);
  Result EnsureBuffer();
  // Submits what is unwritten below file offset `end`. `async`: the caller will
  // not wait at once. `take_buffer`: the buffer is full, and the next one
  // begins behind it.
  Result SubmitBuffer(uint64_t end, bool async, bool take_buffer);
  Result WaitOldest();
  Result WriteOutLocked();
  Result FillZerosLocked(uint64_t end);
  Result OverwriteLocked(uint64_t offset, const char* data, size_t bytes);
  Result OverwriteBlocks(uint64_t offset, const char* data, size_t bytes);
  Result PublishLocked(Lsn* lsn);
  Result Fail(Result error);
  // ESTALE in a forked child, before the first lock.
  Result CheckOwner() const;

  const OpenFilePtr file_;
  Inode* const inode_;
  Volume* const volume_;

  std::mutex mutex_;  // rank 1: held across this file's own writes only
  AlignedBuffer buffer_;
  uint64_t buffer_start_ = 0;  // file offset of the buffer, block-aligned
  uint64_t dirty_from_ = 0;    // file offset of the first byte not submitted
  std::deque<std::unique_ptr<Write>> in_flight_;
  uint64_t in_flight_bytes_ = 0;
  bool changed_ = false;  // since Open or Close
  Result error_;

  std::atomic<uint64_t> size_{0};
  std::atomic<uint64_t> preallocation_bytes_{0};
  std::atomic<uint16_t> ioprio_{0};
};

}  // namespace diofs

#endif  // DIOFS_ENV_FILE_WRITER_H_
