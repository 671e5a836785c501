#ifndef DIOFS_ENV_LOG_WRITER_H_
#define DIOFS_ENV_LOG_WRITER_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/fork_guard.h"
#include "env/file_writer.h"
#include "env/journal.h"
#include "env/log_layout.h"
#include "env/log_plan.h"

namespace diofs {

// Appends to a log. What gathers in the buffer becomes one frame when Flush,
// Sync or a reader asks; it is written together with the bytes in front of it
// in its first block, which stay as they are, and zeros up to the end of its
// last.
//
//   buffer   |in front|header|pending ... |
//            ^ the start of a block of the stream
//
// One write is in flight at a time; what is appended and synced meanwhile
// leaves with the next one. In steady state a Sync is one write and at most one
// flush.
class LogWriter final : public FileWriter {
 public:
  explicit LogWriter(WriterClaim claim);
  ~LogWriter() override;

  Result Append(const char* data, size_t bytes) override;
  // ENOTSUP but for an append.
  Result WriteAt(uint64_t offset, const char* data, size_t bytes) override;
  Result Flush() override;
  Result Sync() override;
  Result StartWriteback() override;
  Result Truncate(uint64_t bytes) override;
  Result Close() override;
  Result WriteOut() override;

 private:
  struct Piece;

  Result Start() override;

  // All with mutex_ held by `lock`, which is released while a request is under
  // way.
  Result AppendLocked(Lock* lock, const char* data, size_t bytes);
  // Writes all that is pending; `through` to the medium where that is one
  // write.
  Result WritePending(Lock* lock, bool through);
  // Waits for the write that is under way; where there is none, writes.
  Result Advance(Lock* lock, bool through);
  // Returns with the lock held when there is nothing to be written.
  Result AwaitIdle(Lock* lock);
  // Return when everything below `size` has been written, or is durable.
  Result AwaitWritten(Lock* lock, uint64_t size);
  Result AwaitDurable(Lock* lock, uint64_t size);

  // With mutex_ held throughout.

  // Makes ready for `more` bytes behind the pending ones, or says why there
  // cannot be any.
  Result Admit(uint64_t more);
  Result EnsureSegment();
  // Makes sure that `more` bytes behind the pending ones have blocks.
  Result EnsureSpace(uint64_t more);
  // Frames will lie below `end`, a place in the stream: a sync then waits for
  // what names the blocks, and more may be allocated.
  void UseBlocks(uint64_t end);
  void UseAhead(uint64_t end);
  // Is one frame with this payload one write where the tail is?
  bool FitsRun(uint64_t payload) const;
  Result EnsureBuffer(uint64_t payload);
  Result BuildPieces(const std::vector<PlannedFrame>& frames,
                     AlignedBuffer* source, std::vector<Piece>* pieces);
  // *lsn names what is left. An error before the first change is not kept.
  Result CutTo(uint64_t bytes, Lsn* lsn);
  Result WriteCopy(const std::string& kept);
  Result FindFrame(uint64_t offset, LogPosition* before, std::string* front);
  uint64_t Reachable(uint64_t size) const;

  Result WritePiece(const Piece& piece,
                    const std::shared_ptr<const ExtentMap>& map,
                    bool through) const;

  // Guarded by mutex_. The map is this writer's to change.
  std::shared_ptr<const ExtentMap> map_;
  uint64_t generation_ = 0;  // of the segment, where there is one
  AlignedBuffer buffer_;
  uint64_t pending_ = 0;  // bytes appended and in no frame
  LogPosition tail_;      // where they go
  uint64_t front_ = 0;    // bytes in front of them in the tail's block
  LogPosition written_;   // on the device
  LogPosition durable_;
  uint64_t growth_ = 0;  // bytes that were allocated last
  // What names the blocks from ahead_from_ (in the stream) on, allocated ahead;
  // 0 where there are none.
  Lsn ahead_lsn_ = 0;
  uint64_t ahead_from_ = 0;
  bool writing_ = false;
  bool changed_ = false;  // since Start or Close
  bool has_segment_ = false;
};

}  // namespace diofs

#endif  // DIOFS_ENV_LOG_WRITER_H_
