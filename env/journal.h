#ifndef DIOFS_ENV_JOURNAL_H_
#define DIOFS_ENV_JOURNAL_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dio/block_device.h"
#include "dio/fork_guard.h"
#include "dio/result.h"
#include "env/format.h"
#include "env/journal_frame.h"
#include "env/region_header.h"
#include "env/staging.h"

namespace diofs {

// Log sequence number: counts transactions given to the journal, from 1, over
// all mounts of a volume.
using Lsn = uint64_t;

// How far a commit must have come before it returns.
enum class CommitLevel : uint8_t {
  kWritten,  // its frame is on the device: survives the process
  kDurable,  // and flushed, with all data written before: survives power loss
};

// The metadata journal: two regions used in turn, each a snapshot of all
// metadata followed by frames of operations. Owned by the volume. Thread-safe,
// with one rule: Append runs under the volume's namespace lock, which also
// orders it against the snapshot.
//
// One frame is in flight at a time. Whoever needs a commit and finds none under
// way leads: it takes all that has gathered, writes it as one frame and wakes
// those it carried. A frame counts as soon as it is whole, so nothing is
// appended before the data that it names are stable. A durable commit writes
// the frame through, or shares a flush that begins when it is written; any
// other flush of the device does as well (NoteFlushed).
//
// A region that fills up is left for the other one, which begins with a
// snapshot. SwitchAhead writes that while commits go on, which then pause for
// the header alone; a leader that finds the region three quarters full, or left
// behind by a crash, does it all itself:
//
//   old region  | snapshot | frame | frame | frame | tombstone at last
//   new region                  | snapshot ...     | kept | header
//                               ^ TakeForSnapshot: from here on what is
//                                 appended is kept for the new region as well
//
// With a Staging what is appended survives the process at once, as long as
// there is room for it.
class Journal {
 public:
  struct Layout {
    Uuid uuid{};
    std::array<uint64_t, 2> region_offset{};
    uint64_t region_bytes = 0;
  };

  // Encodes all metadata into `chunks` (each at most kMaxSnapshotPayload bytes
  // of whole operations) and returns journal->TakeForSnapshot(), all of it
  // while no Append can run. 0 where the metadata must not be written.
  using SnapshotFn = std::function<Lsn(std::vector<std::string>* chunks)>;
  using ApplyFn = std::function<Result(std::string_view operations)>;

  Journal(BlockDevice* device, const Layout& layout)
      : device_(device), layout_(layout) {}
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // mkfs: region 0 holds the snapshot, region 1 nothing. Durable on return.
  Result Format(const std::vector<std::string>& snapshot);

  struct RecoveryInput {
    // The boot that wrote the volume is this one: no power was lost, and a
    // frame was only ever written behind one that had been.
    bool same_boot = false;
    // A clean unmount said where the journal ends; 0 after a crash.
    uint64_t clean_sequence = 0;
    uint64_t clean_region_nonce = 0;
    // Places that the journal is to have come past, one of them at least.
    std::vector<StagedBase> bases;
  };
  struct RecoveryReport {
    uint32_t region = 0;
    uint64_t snapshot_frames = 0;
    uint64_t delta_frames = 0;
    uint64_t operations = 0;
    uint64_t region_used_bytes = 0;
    // Why the journal must not be written: what proves corruption. Empty when
    // all is well; a torn tail is no corruption.
    std::string corruption;
    // It has come past one of RecoveryInput::bases.
    bool base_found = false;
  };
  // Finds the live region, gives the operations of each of its frames to
  // `apply` in order and sets up the journal to go on behind them. EUCLEAN
  // where not even a snapshot can be read. Writes nothing.
  Result Recover(const RecoveryInput& input, const ApplyFn& apply,
                 RecoveryReport* report);

  void SetSnapshotSource(SnapshotFn source) { snapshot_ = std::move(source); }

  // Make frames that must be durable leave as writes through, where nothing
  // else waits for a flush. Before the first commit.
  void SetWriteThrough(bool through) { write_through_ = through; }

  // From now on what is appended is staged, and `staging`, which must live
  // longer, knows where the journal ends. Null: no longer. While there is no
  // commit.
  void SetStaging(Staging* staging);
  // Does `lsn` survive the process already?
  bool Safe(Lsn lsn) const {
    return safe_lsn_.load(std::memory_order_acquire) >= lsn;
  }

  // Adds one transaction (whole encoded operations); it reaches the device in
  // one frame. Returns its number. Data of plain files that it names are
  // durable already.
  Lsn Append(std::string_view operations);
  // Called by the snapshot source. Returns the last number given, up to which
  // the snapshot contains everything.
  Lsn TakeForSnapshot();

  // Returns when everything up to `lsn` has come as far as `level`. The first
  // error is kept and returned to every later caller. Not to be called with the
  // namespace lock held: the caller may come to lead, and to take a snapshot.
  Result Commit(Lsn lsn, CommitLevel level);
  // A flush of the device that somebody else had reason for makes the frames
  // before it durable: ask what is written, flush, and tell.
  struct Mark {
    Lsn lsn = 0;
    uint64_t sequence = 0;
  };
  Mark written() const;
  void NoteFlushed(const Mark& mark);
  // Writes a snapshot into the other region and goes on there.
  Result SwitchRegion();
  // The same where the region is half used, else nothing, and commits go on
  // meanwhile.
  Result SwitchAhead();
  bool half_used() const;

  Lsn tail_lsn() const;
  Lsn durable_lsn() const;
  uint64_t region_bytes() const { return layout_.region_bytes; }
  // What a clean unmount stores.
  uint64_t next_sequence() const;
  uint64_t region_nonce() const;
  // Frames written since mount, for tests.
  uint64_t frames_written() const { return frames_written_; }

 private:
  // Where the next frame goes and what it continues. The leader works on a copy
  // and puts it back when it is done.
  struct State {
    uint32_t region = 0;
    RegionHeader header;        // of that region; nonce 0 before Recover
    uint64_t write_offset = 0;  // of the next frame, in the region
    uint64_t sequence = 1;      // of the next frame
    uint32_t chain = 0;         // checksum of the frame before
    // What lies behind the last frame may be left from before a crash.
    bool must_switch = false;
  };
  // What one turn of the leader carries.
  struct Batch {
    std::string operations;
    Lsn first_lsn = 1;
    Lsn last_lsn = 0;
    uint64_t durable_sequence = 0;
    // What was staged before is carried by it.
    uint64_t staged_mark = 0;
    // The frame leaves as a write through: all before it is durable.
    bool through = false;
    // Set where all that was carried is durable.
    bool durable = false;
  };
  // One that was written into the region that does not count yet.
  struct Snapshot {
    Lsn lsn = 0;  // the last that it contains
    State state;  // behind it
  };
  // What recovery found out about the live region before it applies a frame.
  struct Survey;

  using Lock = std::unique_lock<std::mutex>;
  // Carries what is pending to the device as the one leader; `lock` holds
  // mutex_ and is released meanwhile. Keeps the error, if any.
  void Lead(Lock* lock, bool switch_region);
  Batch TakePending();
  // The leader's turn, or a switch, is over; mutex_ is held.
  void NoteDone(Result result, const Batch& batch, const State& state);
  void NoteSwitched();
  // Makes durable what is written; `lock` as Lead has it.
  void FlushWritten(Lock* lock);
  void NoteDurable(const Mark& mark);
  // Tells the staging that the journal ends, or is about to end, there.
  void NoteEnd(const State& state, bool tentative);
  Result WriteBatch(Batch* batch, State* state);
  Result WriteFrame(FrameHeader header, std::string_view payload,
                    Durability durability, State* state);
  // A switch: a snapshot, which may be written ahead, and then what only the
  // leader may do. *batch becomes what has come since the snapshot.
  Result Switch(Batch* batch, State* state);
  Result WriteSnapshotBeside(const State& state, Snapshot* snapshot);
  Result FinishSwitch(Snapshot snapshot, Batch* batch, State* state);
  // False where it does not fit behind the snapshot.
  bool TakeKept(const Snapshot& snapshot, Batch* batch);
  // Into the region next->region, from next->sequence on. It does not count
  // yet.
  Result WriteSnapshot(const std::vector<std::string>& snapshot, Lsn lsn,
                       State* next);
  // Makes it count. Durable on return, with all that was written before.
  Result WriteRegionHeader(const State& next);
  Result WriteBlock(uint64_t offset, std::string_view block);
  // mutex_ is held.
  bool MustSwitch() const;
  bool HalfUsed() const;
  bool Used(uint64_t bytes, uint64_t frame_bytes) const;

  // Parts of Recover.
  Result ChooseRegion(uint32_t* region, RegionHeader* header);
  Result SurveyRegion(const RecoveryInput& input, const State& state,
                      Survey* survey, RecoveryReport* report);
  Result ApplyFrames(const Survey& survey, const State& state,
                     const ApplyFn& apply, RecoveryReport* report);

  BlockDevice* const device_;
  const Layout layout_;
  SnapshotFn snapshot_;
  bool write_through_ = false;
  std::atomic<uint64_t> frames_written_{0};

  mutable std::mutex mutex_;  // rank: below the namespace lock
  ForkSafeCondition committed_cv_;
  // Guarded by mutex_, never held during I/O.
  std::string pending_;  // of written_lsn_ + 1 … tail_lsn_, unless led
  Lsn tail_lsn_ = 0;     // last number given
  Lsn written_lsn_ = 0;  // last number on the device
  // Up to here all is on the device or staged. Changed with mutex_ held.
  std::atomic<Lsn> safe_lsn_{0};
  // Last number and frame known durable.
  Mark durable_;
  Lsn durable_wanted_lsn_ = 0;
  bool leading_ = false;
  // Somebody writes a snapshot into the other region, and once it has been
  // taken, what is appended is kept.
  bool switching_ = false;
  bool keeping_ = false;
  std::string kept_;
  Result error_;
  State state_;
  Staging* staging_ = nullptr;
  // Never null: without a staging it stages nothing.
  std::unique_ptr<Staging::Hold> staged_ =
      std::make_unique<Staging::Hold>(nullptr);
};

}  // namespace diofs

#endif  // DIOFS_ENV_JOURNAL_H_
