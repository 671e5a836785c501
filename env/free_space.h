#ifndef DIOFS_ENV_FREE_SPACE_H_
#define DIOFS_ENV_FREE_SPACE_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "dio/result.h"
#include "env/extent_allocator.h"
#include "env/file_kind.h"
#include "env/journal.h"

namespace diofs {

// Who may take how much of a full volume's reserve. RocksDB must be able to
// log, to record a deletion and to recover when nothing else fits any more.
enum class SpacePriority : uint8_t {
  kBulk,   // none of it: SST, blob, info log, large files of any kind
  kLog,    // half: WAL
  kVital,  // all: MANIFEST, CURRENT and small files like it
};

// Of a file that is to have so many blocks.
SpacePriority PriorityOf(FileKind kind, uint64_t blocks);

// The volume's free blocks, those that will be free once the journal says so
// for good, and the reserve that keeps a full volume able to recover. Owned by
// the volume and guarded by its namespace lock; not thread-safe.
class FreeSpace {
 public:
  // Everything on the device but `metadata` is free, until Take.
  Result Init(uint64_t total_blocks, const std::vector<Extent>& metadata);
  // At mount: an inode owns these. EUCLEAN for blocks outside the device, of
  // metadata or of another inode.
  Result Take(Extent extent) { return allocator_.Take(extent); }

  // Takes `need` blocks at least and `want` if that leaves enough for others;
  // from the reserve in small pieces only, and not while discards could be
  // given up instead, unless this is the caller's `last_attempt`. ENOSPC.
  Result Allocate(uint64_t need, uint64_t want, SpacePriority priority,
                  std::vector<Extent>* extents, bool last_attempt = true);
  // The same for a log: where one lay that was deleted, if there is room for
  // half of what is wanted. Those blocks have been written before, which a
  // device or the host of an image may have to do something for the first time.
  Result AllocateForLog(uint64_t need, uint64_t want, SpacePriority priority,
                        std::vector<Extent>* extents, bool last_attempt = true);
  // Gives back blocks that no journal frame has ever named.
  void FreeNow(const std::vector<Extent>& extents);
  // Blocks that are free as soon as `lsn` is durable: an earlier state of the
  // volume still owns them.
  void FreeWhenDurable(Lsn lsn, std::vector<Extent> extents,
                       FileLayout layout = FileLayout::kPlain);
  // Everything freed at or below `durable` becomes allocatable; or, where
  // `to_discard` is not null, is handed out there and stays taken until
  // Discarded. What was a log's is kept for the next ones, within bounds.
  void Release(Lsn durable, std::vector<Extent>* to_discard = nullptr);
  void Discarded(Extent extent);

  // The highest number a pending free waits for; 0 where none does.
  Lsn pending_lsn() const { return pending_.empty() ? 0 : pending_.back().lsn; }
  uint64_t total_blocks() const { return total_blocks_; }
  uint64_t metadata_blocks() const { return metadata_blocks_; }
  uint64_t pending_blocks() const { return pending_blocks_; }
  // Free, but for a discard that may be given up at any time.
  uint64_t discarding_blocks() const { return discarding_blocks_; }
  uint64_t reserve_blocks() const { return reserve_blocks_; }
  const ExtentAllocator& allocator() const { return allocator_; }

 private:
  struct PendingFree {
    Lsn lsn;
    std::vector<Extent> extents;
    FileLayout layout;
  };

  void KeepForLogs(const std::vector<Extent>& extents,
                   std::vector<Extent>* to_discard);

  ExtentAllocator allocator_;
  std::deque<PendingFree> pending_;  // by lsn
  // Where deleted logs lay, the last one at the end: free, and perhaps taken by
  // others since.
  std::deque<Extent> log_extents_;
  uint64_t log_extent_blocks_ = 0;
  uint64_t pending_blocks_ = 0;
  uint64_t discarding_blocks_ = 0;
  uint64_t total_blocks_ = 0;
  uint64_t metadata_blocks_ = 0;
  uint64_t reserve_blocks_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_ENV_FREE_SPACE_H_
