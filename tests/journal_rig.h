#ifndef DIOFS_TESTS_JOURNAL_RIG_H_
#define DIOFS_TESTS_JOURNAL_RIG_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "env/journal.h"
#include "tests/sim_device.h"

namespace diofs {

// The smallest volume a journal can serve: its whole metadata is one number,
// and every transaction adds 1 to it. A transaction that is lost, doubled or
// out of order fails the replay. Owned by a test; Add and the snapshot source
// may run on any thread.
class JournalRig {
 public:
  static constexpr uint64_t kDeviceBytes = 3 << 20;
  static Journal::Layout MakeLayout();

  // A fresh device with a formatted journal, not yet mounted.
  JournalRig();
  // What a power cut or a dead process left.
  explicit JournalRig(
      std::string image,
      const Geometry& geometry = SimDevice::MakeGeometry(kDeviceBytes));

  // Replaces the journal by a new one that recovers from the device.
  Result Mount(const Journal::RecoveryInput& input);
  // As after a power cut, the death of the process, a clean unmount.
  Result MountAfterPowerCut() { return Mount({}); }
  Result MountAfterKill();
  Result MountClean();

  // Appends the transaction value() + 1, followed by operations of about
  // `padding_bytes` that mean nothing. Returns its lsn, which is the value.
  Lsn Add(size_t padding_bytes = 0);
  Result AddAndCommit(CommitLevel level, size_t padding_bytes = 0);

  // Of the live region, as the device has it.
  uint64_t region_offset() const;
  void Poke(uint64_t device_offset, std::string_view bytes);
  std::string Peek(uint64_t device_offset, size_t bytes);

  SimDevice& device() { return device_; }
  Journal& journal() { return *journal_; }
  uint64_t value() const { return value_; }
  const Journal::RecoveryReport& report() const { return report_; }
  uint64_t commits() const { return commits_; }

  // What the snapshots are padded to, in bytes.
  size_t snapshot_padding_bytes = 0;
  // Called by the leader of a switch, around the moment at which the snapshot
  // is taken. May be empty.
  std::function<void()> before_snapshot;
  std::function<void()> after_snapshot;

 private:
  Lsn EncodeSnapshot(std::vector<std::string>* chunks);
  Result Apply(std::string_view operations);

  SimDevice device_;
  std::unique_ptr<Journal> journal_;
  std::mutex namespace_mutex_;
  uint64_t value_ = 0;  // guarded by namespace_mutex_ once threads run
  std::atomic<uint64_t> commits_{0};
  Journal::RecoveryReport report_;
};

// Encoded operations of about `bytes` that no replay minds.
std::string PaddingOperations(size_t bytes);

}  // namespace diofs

#endif  // DIOFS_TESTS_JOURNAL_RIG_H_
