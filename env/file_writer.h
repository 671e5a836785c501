#ifndef DIOFS_ENV_FILE_WRITER_H_
#define DIOFS_ENV_FILE_WRITER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

#include "dio/dio.h"
#include "dio/fork_guard.h"
#include "dio/read_batch.h"
#include "dio/result.h"
#include "env/open_file.h"

namespace diofs {

// The right to be a file's one writer, with the handle that keeps it open; its
// end lets the next one in. Given out under the volume's WriterGate.
class WriterClaim {
 public:
  explicit WriterClaim(OpenFilePtr file);
  WriterClaim(WriterClaim&&) = default;
  ~WriterClaim();

  const OpenFilePtr& file() const { return file_; }

 private:
  OpenFilePtr file_;
};

// Appends to a file. One per inode that is open for writing, shared by its
// handles. Thread-safe: Sync may run beside Append. The first error of a write
// is kept and returned to every later call; ENOSPC of an Append is not, for
// nothing was appended.
class FileWriter {
 public:
  // The writer of `file`, made unless one is at work already: appends begin at
  // the end of the file. EUCLEAN where its end is lost.
  static Result Open(const OpenFilePtr& file,
                     std::shared_ptr<FileWriter>* writer);
  virtual ~FileWriter() = default;
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  // All or nothing: ENOSPC before a byte is taken.
  virtual Result Append(const char* data, size_t bytes) = 0;
  // Overwrites in place; the part behind the end is appended, a gap filled with
  // zeros. A log can only be appended to: ENOTSUP.
  virtual Result WriteAt(uint64_t offset, const char* data, size_t bytes) = 0;
  // What was appended survives the process from now on, as far as the volume's
  // flush mode promises. Of SST and blob files nothing is promised before Sync
  // or Close, for RocksDB reads none after a crash.
  virtual Result Flush() = 0;
  // All that was appended before the call is durable, and so is the file's
  // name.
  virtual Result Sync() = 0;
  // Starts writing what has gathered, without waiting.
  virtual Result StartWriteback() = 0;
  // Cuts the file, or fills it with zeros up to `bytes`.
  virtual Result Truncate(uint64_t bytes) = 0;
  // Writes everything and publishes the size. The blocks allocated ahead go
  // back. Does nothing where nothing has changed since; the destructor calls
  // it. Later calls make a new start.
  virtual Result Close() = 0;
  // For a reader that wants bytes which are not on the device yet.
  virtual Result WriteOut() = 0;

  // The final size as far as anybody knows: allocated at once, the excess given
  // back at Close. Bytes.
  void SetPreallocation(uint64_t bytes) { preallocation_bytes_ = bytes; }

  // Of what leaves from now on; as DioRequest has it.
  void SetIoPriority(uint16_t ioprio) { ioprio_ = ioprio; }

  // Bytes appended. No lock.
  uint64_t size() const { return size_.load(std::memory_order_acquire); }

 protected:
  // The writer's lock. Where an exception ends it, nobody knows how far the
  // call had come: the writer fails with ENOMEM.
  class Lock : public std::unique_lock<std::mutex> {
   public:
    explicit Lock(FileWriter* writer)
        : std::unique_lock<std::mutex>(writer->mutex_), writer_(writer) {}
    ~Lock();

   private:
    FileWriter* const writer_;
    const int exceptions_ = std::uncaught_exceptions();
  };

  explicit FileWriter(WriterClaim claim);

  // Finds the end of the file; called once.
  virtual Result Start() = 0;
  // ESTALE in a forked child, before the first lock.
  Result CheckOwner() const;

  // The first `size` bytes of what `mapper` maps, at no priority of their own.
  ReadBatch::File BytesOf(const BlockMapper& mapper, uint64_t size) const;
  // Writes whole blocks on the calling thread.
  static Result WriteNow(const ReadBatch::File& file, uint64_t offset,
                         char* memory, size_t bytes,
                         Durability durability = Durability::kNone);
  // What became of a write of `bytes`. One that stops at a hole is short: its
  // extents are not what this writer thinks they are. EIO.
  static Result WholeWrite(Result result, uint64_t bytes);

  // Keeps the first error, and returns it. With mutex_ held.
  Result Fail(Result error);
  // For destructors: whoever wants to know the outcome has called Close.
  void CloseQuietly();

  const WriterClaim claim_;
  const OpenFilePtr& file_;
  Inode* const inode_;
  Volume* const volume_;

  // Rank 1 of the volume's order.
  std::mutex mutex_;
  // A write has ended, or the writer has failed.
  ForkSafeCondition idle_;
  Result error_;  // guarded by mutex_

  std::atomic<uint64_t> size_{0};
  std::atomic<uint64_t> preallocation_bytes_{0};
  std::atomic<uint16_t> ioprio_{0};
};

}  // namespace diofs

#endif  // DIOFS_ENV_FILE_WRITER_H_
