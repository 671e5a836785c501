#ifndef DIOFS_ENV_VOLUME_H_
#define DIOFS_ENV_VOLUME_H_

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "dio/block_device.h"
#include "dio/discarder.h"
#include "dio/fork_guard.h"
#include "dio/result.h"
#include "env/commit_timer.h"
#include "env/free_space.h"
#include "env/journal.h"
#include "env/namespace.h"
#include "env/superblock.h"

namespace diofs {

class OpenFile;

struct FormatOptions {
  // Write every block once, so that the host of an image has nothing left to
  // allocate or convert when a sync comes.
  bool write_every_block = true;
  std::string label;  // at most 63 bytes
  // Called now and then with bytes done and bytes in all. May be empty.
  std::function<void(uint64_t done, uint64_t total)> progress;
};

// How a sync makes durable what it has written.
enum class SyncMode : uint8_t {
  kAuto,   // as kFua where the device can and diofs probe found it no slower
  kFua,    // written through, one request
  kFlush,  // written, then flushed
  kNone,   // not at all: a power cut may leave anything
};

struct MountOptions {
  bool read_only = false;
  FlushMode flush_mode = FlushMode::kDevice;
  SyncMode sync_mode = SyncMode::kAuto;
  // The device may have lost what it had not been flushed, though this boot
  // goes on: a journal that ends too early counts as torn, unless a frame shows
  // that the missing one was durable.
  bool lost_cache = false;
  // Plain files get a table of checksums, for Scrub.
  bool checksums = false;
  // What nobody has synced is made durable so long after it came; 0: not at
  // all.
  uint32_t commit_interval_ms = 1000;
  // Tell the device what has become free.
  bool discard = false;
  uint64_t discard_bytes_per_second = Discarder::Options().bytes_per_second;
  // One line for people, when something is not as it should be. May be empty.
  std::function<void(const std::string&)> log;
};

struct FileStat {
  uint64_t ino = 0;
  bool is_directory = false;
  FileKind kind = FileKind::kOther;
  uint64_t size_bytes = 0;
  uint64_t allocated_blocks = 0;
  uint64_t extents = 0;
  uint64_t mtime_us = 0;
  uint32_t link_count = 0;
};

struct DirectoryEntry {
  std::string name;
  FileStat stat;
};

// In blocks of kBlockBytes. total = metadata + allocated + pending + free.
struct VolumeUsage {
  uint64_t total_blocks = 0;
  uint64_t metadata_blocks = 0;   // superblocks and journal
  uint64_t allocated_blocks = 0;  // owned by files, open or named
  uint64_t pending_blocks = 0;    // freed, not yet reusable
  uint64_t free_blocks = 0;
  uint64_t reserved_blocks = 0;  // of the free: for WAL, MANIFEST and the like
  uint64_t free_runs = 0;
  uint64_t largest_free_run = 0;
  uint64_t inodes = 0;
};

// A mounted volume: the names, the inodes, the free space, the journal and the
// device below them. Shared by every file open on it; the last reference
// unmounts. Thread-safe. No method throws or aborts; after an error on the
// journal every change fails with it.
//
// Lock order: a FileWriter's mutex, namespace_mutex_, the journal's mutex, an
// inode's. No lock of this class is held across device I/O.
class Volume : public std::enable_shared_from_this<Volume> {
 public:
  // Makes an empty volume of the whole device. What was there is lost; the
  // caller has asked.
  static Result Format(BlockDevice* device, const FormatOptions& options);

  // Recovers what the device holds. ENODATA where there is no volume,
  // EPROTONOSUPPORT for another format, EUCLEAN for damage; EROFS where the
  // caller wants to write and the journal is proven damaged.
  static Result Mount(std::unique_ptr<BlockDevice> device,
                      const MountOptions& options,
                      std::shared_ptr<Volume>* volume);
  ~Volume();
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;

  // Commits everything and marks the volume clean. Files still open fail with
  // ESTALE from then on. Idempotent; the destructor calls it.
  Result Unmount();

  // Paths as Namespace::Resolve takes them. In mode kDevice a change that
  // returned survives the process; Sync makes it survive a power cut.

  // A new empty file; one that has the name already loses it in the same
  // transaction, and whoever has it open keeps its data.
  Result CreateFile(std::string_view path, std::shared_ptr<OpenFile>* file);
  // ENOENT, EISDIR.
  Result Open(std::string_view path, std::shared_ptr<OpenFile>* file);
  Result Mkdir(std::string_view path);
  // With all missing parents; an existing directory is fine, a file EEXIST.
  Result MkdirAll(std::string_view path);
  Result Rmdir(std::string_view path);
  Result Unlink(std::string_view path);
  Result Link(std::string_view from, std::string_view to);
  Result Rename(std::string_view from, std::string_view to);
  Result Stat(std::string_view path, FileStat* stat);
  Result List(std::string_view path, std::vector<DirectoryEntry>* entries);

  // Everything that returned before is durable on return; SyncNames: every
  // change of names, and what writers have published.
  Result Sync();
  Result SyncNames();

  // An exclusive lock on a name, held within this process only (no other one
  // can have the volume open): makes the file if need be. EBUSY.
  Result LockName(std::string_view path, uint64_t* ino);
  void UnlockName(uint64_t ino);

  // Free space counts blocks whose free is not yet durable: commits first where
  // there are any.
  Result Usage(VolumeUsage* usage);

  // Every inode, by number, while the namespace is locked: no calls back.
  void ForEachInode(const std::function<void(const InodePtr&)>& visit);

  const Superblock& superblock() const { return superblock_; }
  const Journal::RecoveryReport& recovery() const { return recovery_; }
  BlockDevice* device() { return device_.get(); }
  Journal* journal() { return journal_.get(); }
  FlushMode flush_mode() const { return options_.flush_mode; }
  bool checksums() const { return options_.checksums; }
  bool read_only() const { return options_.read_only; }
  // Runs once, after the unmount, with this volume; for the edge's statistics.
  void SetUnmountHook(std::function<void(Volume*)> hook) {
    unmount_hook_ = std::move(hook);
  }

  // For FileWriter and OpenFile.

  // OK where changes are possible at all: not read-only, mounted, not a fork.
  Result CheckWritable() const;
  // Of CheckWritable what may change while a file is open for writing; no lock.
  Result CheckAlive() const;
  // One FileWriter per inode at a time: the next is made only when the one
  // before has written its last byte. Never held during I/O.
  struct WriterGate {
    std::mutex mutex;  // before any other lock
    ForkSafeCondition changed;
  };
  WriterGate& writer_gate() { return writer_gate_; }
  // This process was forked from the one that mounted; nothing may be touched.
  bool forked() const { return fork_guard_.Crossed(); }
  // Makes the file's allocation reach at least `need_bytes`, and `want_bytes`
  // where there is room; from the reserve where the file's kind may. ENOSPC.
  Result Extend(const InodePtr& inode, uint64_t need_bytes, uint64_t want_bytes,
                bool may_use_reserve = true);
  // Makes durable what has been written to the device.
  Result FlushDevice();
  // Journals the file's size and the extents below it, whose data are durable,
  // as are the `checksum_blocks` behind. *lsn is 0 where there was nothing to
  // say.
  Result Publish(const InodePtr& inode, uint64_t size_bytes,
                 uint64_t checksum_blocks, Lsn* lsn);
  // Journals a size that is no larger and lets all blocks behind it go. Once
  // *lsn is durable neither comes back; 0 where that is so already.
  Result Shrink(const InodePtr& inode, uint64_t size_bytes, Lsn* lsn);
  // Gives back blocks behind the journaled ones: nobody can have read them.
  void TrimExcess(const InodePtr& inode);
  // Makes what Publish said survive what the flush mode promises.
  Result Settle(Lsn lsn);
  // Durable: `lsn` and all before it.
  Result CommitDurable(Lsn lsn);
  void Release(const InodePtr& inode);

  // For LogWriter and readers of logs.

  // Finds the end of a log by walking its frames, where nobody has since an
  // unclean unmount. The caller has it open.
  Result SizeLog(const InodePtr& inode);
  // Makes a log ready for what is to be appended: *goes_on behind its end in
  // the last segment, where it was closed or created in this mount; else, for
  // frames that nobody knows of may lie there, in a new one, before which all
  // is made durable.
  Result ContinueLog(const InodePtr& inode, LogSegment* segment, bool* goes_on);
  // More blocks, `need` at least. The journal learns of them, and that the log
  // is durable up to `known`.
  Result ExtendLog(const InodePtr& inode, uint64_t need_blocks,
                   uint64_t want_blocks, const LogPosition& known);
  // The same ahead of need, where it takes no waiting: *lsn is what names the
  // blocks, and becomes part of what a sync waits for when they are used.
  Result ExtendLogAhead(const InodePtr& inode, uint64_t want_blocks,
                        const LogPosition& known, Lsn* lsn);
  // Journals that the log ends at `end`, which is durable, and lets the blocks
  // behind it go. With `may_go_on` nothing has been written behind it in its
  // last segment.
  Result CloseLog(const InodePtr& inode, const LogPosition& end, bool may_go_on,
                  Lsn* lsn);
  // A log that keeps its first blocks and goes on in others.
  struct LogCut {
    uint64_t keep_blocks = 0;
    std::vector<Extent> extents;  // the others
    std::shared_ptr<const ExtentMap> map;
  };
  Result PrepareCut(const InodePtr& inode, uint64_t keep_blocks,
                    uint64_t more_blocks, LogCut* cut);
  void AbandonCut(const LogCut& cut);
  // Journals it: the log ends at `end` in `segment`, which is durable.
  Result FinishCut(const InodePtr& inode, const LogCut& cut,
                   const LogSegment& segment, const LogPosition& end, Lsn* lsn);
  // Durable writes leave as writes through.
  bool write_through() const { return write_through_; }
  // What the journal must hold for the file to be found under its name, and for
  // a log to be found in its blocks.
  Lsn NamedBy(const Inode& inode) const;
  // From now on that takes `lsn`.
  static void NoteNamed(Inode* inode, Lsn lsn);
  // `lsn` is on the device.
  Result CommitWritten(Lsn lsn);

 private:
  // namespace_mutex_ for writing. Where an exception ends it, something may be
  // changed by half: nothing is changed any more.
  class ChangeLock {
   public:
    explicit ChangeLock(Volume* volume)
        : volume_(volume), lock_(volume->namespace_mutex_) {}
    ChangeLock(const ChangeLock&) = delete;
    ChangeLock& operator=(const ChangeLock&) = delete;
    ~ChangeLock();

   private:
    Volume* const volume_;
    const std::unique_lock<std::shared_mutex> lock_;
    const int exceptions_ = std::uncaught_exceptions();
  };

  Volume(std::unique_ptr<BlockDevice> device, const MountOptions& options);

  // Parts of a mount, in this order.
  Result Start();
  Result Recover();
  Result ChooseSync();
  Result ClaimBlocks();
  Result StartWriting();
  void StartDiscarding();

  // Prepares an operation under the namespace lock, applies and journals it,
  // and settles it. No operation (ino 0, kMtime) is a success.
  using PrepareFn = std::function<Result(MetadataOp* op)>;
  Result Change(const PrepareFn& prepare);
  // ESTALE in a forked child: its copies of the locks may be held for ever, so
  // this comes before the first of them.
  Result CheckOwner() const;
  // The methods named …Locked run with namespace_mutex_ held for writing.
  Result CheckWritableLocked() const;
  Result ApplyLocked(const std::vector<MetadataOp>& ops, Lsn* lsn);
  void NoteNamesLocked(const MetadataOp& op, Lsn lsn);
  // Calls `attempt` once, and again where it said ENOSPC and blocks of deleted
  // files could be had meanwhile.
  Result WithReclaim(const std::function<Result(bool last_attempt)>& attempt);
  // Shares of a journal region, in percent, that the metadata's snapshot may
  // take: what needs no more than the first of them leaves room for the others,
  // and none reaches what a switch of regions can carry. What frees space is
  // never refused.
  static constexpr uint64_t kRoomForNew = 40;
  static constexpr uint64_t kRoomForRename = 44;
  static constexpr uint64_t kRoomForLogs = 48;
  Result CheckRoomLocked(uint64_t more_bytes, uint64_t percent) const;
  Result ExtendLogLocked(const InodePtr& inode, uint64_t need_blocks,
                         uint64_t want_blocks, const LogPosition& known,
                         SpacePriority priority, bool last_attempt, Lsn* lsn);
  // What was given to the journal is committed soon, whoever asks.
  void CommitSoon();
  Result SizeUnopenedLog(const InodePtr& inode);
  Result BeginSegment(const InodePtr& inode, LogSegment* segment);
  Result ReopenLog(const InodePtr& inode);
  Result MarkClean();
  // Any error of the journal or of a flush ends all changes of this mount.
  Result Stop(Result error);
  std::shared_ptr<OpenFile> OpenLocked(const InodePtr& inode);
  void DropLocked(const InodePtr& inode);
  void TrimExcessLocked(const InodePtr& inode);
  Lsn ShrinkJournaledLocked(Inode* inode, uint64_t size_bytes);

  // Runs the journal's leader; see Journal::SnapshotFn.
  Lsn EncodeSnapshot(std::vector<std::string>* chunks);
  // Commits what pending frees wait for and makes them allocatable.
  Result ReclaimFrees();
  void ReleaseFrees();
  // Makes allocatable what waits for a discard.
  void TakeBackDiscards();
  FileStat StatOf(const Inode& inode) const;
  void Log(const std::string& line) const;

  const ForkGuard fork_guard_;
  const std::unique_ptr<BlockDevice> device_;
  const MountOptions options_;
  Superblock superblock_;
  bool write_through_ = false;
  Journal::RecoveryReport recovery_;
  std::unique_ptr<Journal> journal_;
  // Null where nothing is committed by time.
  std::unique_ptr<CommitTimer> commit_timer_;
  std::function<void(Volume*)> unmount_hook_;
  std::mutex unmount_mutex_;  // rank 0: one Unmount at a time

  WriterGate writer_gate_;
  mutable std::shared_mutex namespace_mutex_;
  // Guarded by namespace_mutex_.
  Namespace namespace_;
  FreeSpace free_space_;
  std::set<uint64_t> locked_inos_;
  // Why no change is possible; empty while it is.
  std::string read_only_reason_;

  // Null where nothing is discarded; guarded by namespace_mutex_, which its
  // calls back take.
  std::shared_ptr<Discarder> discarder_;
  std::mutex take_back_mutex_;  // before namespace_mutex_

  // Why changes have stopped; set once, before stopped_.
  Result stop_error_;
  std::mutex stop_mutex_;  // a leaf
  std::atomic<bool> stopped_{false};

  // Of the last rename of a directory, which moves the names of all below it.
  std::atomic<Lsn> directories_lsn_{0};

  // A hint, so that a sync need not take the namespace lock to find no frees.
  std::atomic<bool> frees_pending_{false};
  // Until it is mounted, too: nothing is owed to an unmount.
  std::atomic<bool> unmounted_{true};
};

// Where a volume's journal lies.
Journal::Layout JournalLayoutOf(const Superblock& superblock);
// What a superblock says of the journal's end. Whether this boot wrote it is
// the caller's to add.
Journal::RecoveryInput RecoveryInputOf(const Superblock& superblock);

// Which blocks hold superblocks and journal; none twice.
std::vector<Extent> MetadataExtents(const Superblock& superblock);

// The operations that rebuild `names`, in pieces of at most kMaxSnapshotPayload
// bytes.
void EncodeSnapshotOf(const Namespace& names, std::vector<std::string>* chunks);

uint64_t NowMicros();

}  // namespace diofs

#endif  // DIOFS_ENV_VOLUME_H_
