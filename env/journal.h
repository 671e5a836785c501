#ifndef DIOFS_ENV_JOURNAL_H_
#define DIOFS_ENV_JOURNAL_H_

#include <array>
#include <cstdint>
#include <functional>
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
// those it carried. A durable commit is flush, frame with the barrier flag,
// flush: the first makes the data stable that its operations (and all earlier
// frames) name, the second the frame itself. After a power cut recovery stops
// at the last barrier frame; after the death of the process alone every whole
// frame counts.
class Journal {
 public:
  struct Layout {
    Uuid uuid{};
    std::array<uint64_t, 2> region_offset{};
    uint64_t region_bytes = 0;
  };

  // Encodes all metadata into `chunks` (each at most kMaxSnapshotPayload bytes
  // of whole operations) and returns journal->TakeForSnapshot(), all of it
  // while no Append can run.
  using SnapshotFn = std::function<Lsn(std::vector<std::string>* chunks)>;
  using ApplyFn = std::function<Result(std::string_view operations)>;

  Journal(BlockDevice* device, const Layout& layout)
      : device_(device), layout_(layout) {}
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // mkfs: region 0 holds the snapshot, region 1 nothing. Durable on return.
  Result Format(const std::vector<std::string>& snapshot);

  struct RecoveryInput {
    // The boot that wrote the volume is this one: frames without a barrier
    // behind them count too.
    bool same_boot = false;
    // A clean unmount said where the journal ends; 0 after a crash.
    uint64_t clean_sequence = 0;
    uint64_t clean_region_nonce = 0;
  };
  struct RecoveryReport {
    uint32_t region = 0;
    uint64_t snapshot_frames = 0;
    uint64_t delta_frames = 0;
    uint64_t operations = 0;
    // Whole frames a power cut made void: no barrier followed them.
    uint64_t dropped_frames = 0;
    uint64_t region_used_bytes = 0;
    // Why the journal must not be written: what proves corruption. Empty when
    // all is well; a torn tail is no corruption.
    std::string corruption;
  };
  // Finds the live region, gives the operations of each of its frames to
  // `apply` in order and sets up the journal to go on behind them. EUCLEAN
  // where not even a snapshot can be read. Writes nothing.
  Result Recover(const RecoveryInput& input, const ApplyFn& apply,
                 RecoveryReport* report);

  void SetSnapshotSource(SnapshotFn source) { snapshot_ = std::move(source); }

  // Adds one transaction (whole encoded operations); it reaches the device in
  // one frame. Returns its number.
  Lsn Append(std::string_view operations);
  // Called by the snapshot source: forgets what is pending, for the snapshot
  // contains it. Returns the last number given.
  Lsn TakeForSnapshot();

  // Returns when everything up to `lsn` has come as far as `level`. The first
  // error is kept and returned to every later caller. Not to be called with the
  // namespace lock held: the caller may come to lead, and to take a snapshot.
  Result Commit(Lsn lsn, CommitLevel level);
  // Writes a snapshot into the other region and goes on there.
  Result SwitchRegion();

  Lsn tail_lsn() const;
  Lsn durable_lsn() const;
  uint64_t region_bytes() const { return layout_.region_bytes; }
  // What a clean unmount stores.
  uint64_t next_sequence() const;
  uint64_t region_nonce() const;
  // Frames written since mount, for tests.
  uint64_t frames_written() const;

 private:
  // Where the next frame goes and what it continues. The leader works on a copy
  // and puts it back when it is done.
  struct State {
    uint32_t region = 0;
    RegionHeader header;        // of that region; nonce 0 before Recover
    uint64_t write_offset = 0;  // of the next frame, in the region
    uint64_t sequence = 1;      // of the next frame
    uint64_t durable_sequence = 0;
    uint32_t chain = 0;  // checksum of the frame before
    // Frames were written since the last one with the barrier flag.
    bool unbarriered = false;
    // What lies behind the last frame may be left from before a crash.
    bool must_switch = false;
    uint64_t frames_written = 0;
  };
  // What one turn of the leader carries.
  struct Batch {
    std::string operations;
    Lsn first_lsn = 1;
    Lsn last_lsn = 0;
    bool barrier = false;
  };
  // What recovery found out about the live region before it applies a frame.
  struct Survey;

  // Carries what is pending to the device as the one leader; `lock` holds
  // mutex_ and is released meanwhile. Keeps the error, if any.
  void Lead(std::unique_lock<std::mutex>* lock, bool switch_region);
  Result CarryOut(bool switch_region, Batch* batch, State* state);
  Result WriteBatch(const Batch& batch, State* state);
  Result WriteFrame(FrameHeader header, std::string_view payload, State* state);
  // Takes a snapshot and moves to the other region; *batch becomes what the
  // snapshot contains.
  Result Switch(Batch* batch, State* state);
  Result WriteRegion(uint32_t region, std::vector<std::string> snapshot,
                     Lsn lsn, State* state);
  Result WriteBlock(uint64_t offset, std::string_view block);
  bool HasWork(const Batch& batch, const State& state) const;
  bool MustSwitch(const Batch& batch, const State& state) const;

  // Parts of Recover.
  Result ChooseRegion(uint32_t* region, RegionHeader* header);
  Result SurveyRegion(const RecoveryInput& input, const State& state,
                      Survey* survey, RecoveryReport* report);
  Result ApplyFrames(const Survey& survey, const State& state,
                     const ApplyFn& apply, RecoveryReport* report);

  BlockDevice* const device_;
  const Layout layout_;
  SnapshotFn snapshot_;

  mutable std::mutex mutex_;  // rank: below the namespace lock
  ForkSafeCondition committed_cv_;
  // Guarded by mutex_, never held during I/O.
  std::string pending_;  // of written_lsn_ + 1 … tail_lsn_, unless led
  Lsn tail_lsn_ = 0;     // last number given
  Lsn written_lsn_ = 0;  // last number on the device
  Lsn durable_lsn_ = 0;  // last number known durable
  Lsn durable_wanted_lsn_ = 0;
  bool leading_ = false;
  Result error_;
  State state_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_JOURNAL_H_
