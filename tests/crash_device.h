#ifndef DIOFS_TESTS_CRASH_DEVICE_H_
#define DIOFS_TESTS_CRASH_DEVICE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "tests/cow_image.h"
#include "tests/sim_device.h"

namespace diofs {

// What went on at a device, in the order in which its user could see it.
struct CrashEvent {
  enum class Kind : uint8_t {
    kSubmit,    // of a write: number `id`
    kComplete,  // of write `id`
    kFlushBegin,
    kFlushEnd,  // successfully
    kDiscard,   // number `id`, as a write of poison
    kNote,      // of the test's own: number `id`
  };
  Kind kind = Kind::kNote;
  uint64_t id = 0;
};

struct CrashWrite {
  uint64_t offset = 0;
  std::string data;
  bool fua = false;
  bool discard = false;
};

struct Recording {
  std::vector<CrashEvent> events;
  std::vector<CrashWrite> writes;
};

// A device in memory that can write down what reaches it. What is submitted
// stays pending until somebody waits for it, so that a flush which comes too
// early leaves it out. Thread-safe, but for recordings that are to be the same
// every time.
class CrashDevice final : public BlockDevice {
 public:
  // `recording`, owned by the caller, may be null.
  CrashDevice(CowImage image, const Geometry& geometry, Recording* recording);

  void Wait(Dio* dio, uint32_t wait_nr) override;
  void Poll() override;
  const char* backend_name() const override { return "crash"; }

  // The `nth` operation of this kind from now fails with `error` and changes
  // nothing; with `forever` all that follow do so too.
  void FailNth(SimOp op, uint64_t nth, int error, bool forever);
  // Has it come to that?
  bool failed() const;

  void Note(uint64_t id);
  CowImage image() const;

 private:
  void DoSubmit(Bio* const* bios, size_t count) override;
  int64_t DoMove(Bio* bio) override;
  Result DoFlush() override;
  Result DoDiscard(uint64_t offset, uint64_t bytes) override;

  bool CompleteOldest();
  int Arrive(SimOp op);
  void RecordWrite(const Bio& bio);

  mutable std::mutex mutex_;  // guards all below
  CowImage image_;
  Recording* const recording_;
  std::deque<Bio*> pending_;
  // Numbers of the writes that have not succeeded yet.
  std::map<const Bio*, uint64_t> writes_;
  SimOp fault_op_ = SimOp::kRead;
  uint64_t until_fault_ = 0;  // operations of that kind; 0: none is planned
  int fault_error_ = 0;
  bool fault_forever_ = false;
  bool failed_ = false;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_CRASH_DEVICE_H_
