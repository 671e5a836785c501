#ifndef DIOFS_ENV_PLAIN_WRITER_H_
#define DIOFS_ENV_PLAIN_WRITER_H_

#include <sys/uio.h>

#include <deque>
#include <memory>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "env/checksum_table.h"
#include "env/file_writer.h"
#include "env/journal.h"

namespace diofs {

// Appends to a plain file. Data gather in an aligned buffer; a full buffer
// leaves as an asynchronous write behind a bounded window, and what is left of
// it is written, zero-padded to a block, when Flush, Sync or a reader asks.
//
//   file   |=========|=========|=====|.....
//          written    in flight  buffer, its first block perhaps written before
//
// With the volume's option `checksums` a file that was appended to from its
// first byte on, and not overwritten, gets a ChecksumTable: at its first sync,
// which costs no flush more, and if it went on after that, when it is closed.
class PlainWriter final : public FileWriter {
 public:
  // At most this much is in flight behind the buffer.
  static constexpr uint64_t kMaxInFlightBytes = 4 << 20;
  static constexpr size_t kFirstBufferBytes = 64 << 10;
  static constexpr size_t kBufferBytes = 1 << 20;

  explicit PlainWriter(WriterClaim claim);
  ~PlainWriter() override;

  Result Append(const char* data, size_t bytes) override;
  Result WriteAt(uint64_t offset, const char* data, size_t bytes) override;
  Result Flush() override;
  Result Sync() override;
  Result StartWriteback() override;
  Result Truncate(uint64_t bytes) override;
  Result Close() override;
  Result WriteOut() override;

 private:
  struct Write;

  Result Start() override;

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
  Result PublishLocked(bool with_checksums, Lsn* lsn);
  Result WriteChecksums(uint64_t* blocks);
  bool HasChecksums() const;
  // Before anything changes that they vouch for. They may come back after a
  // power cut until the inode's trimmed_lsn is durable.
  Result DropChecksums();

  // Guarded by mutex_, which is held across this file's own writes only.
  AlignedBuffer buffer_;
  uint64_t buffer_start_ = 0;  // file offset of the buffer, block-aligned
  uint64_t dirty_from_ = 0;    // file offset of the first byte not submitted
  std::deque<std::unique_ptr<Write>> in_flight_;
  uint64_t in_flight_bytes_ = 0;
  bool changed_ = false;    // since Open or Close
  bool unflushed_ = false;  // something was written since the last flush
  // Of all bytes so far; null where they are not wanted or not known.
  std::unique_ptr<ChecksumTable> checksums_;
  bool checksums_at_sync_ = true;
};

}  // namespace diofs

#endif  // DIOFS_ENV_PLAIN_WRITER_H_
