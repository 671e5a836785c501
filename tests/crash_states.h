#ifndef DIOFS_TESTS_CRASH_STATES_H_
#define DIOFS_TESTS_CRASH_STATES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "tests/cow_image.h"
#include "tests/crash_device.h"

namespace diofs {

// Walks a recording and knows, at each event, what a power cut right behind it
// may leave:
//
//   - every write that was seen to complete before the last flush that was
//     carried out had begun is there, and every write-through one that
//     completed, itself only;
//   - of all others that were submitted any subset is, each logical block of
//     each by itself; what was discarded is there or is poison;
//   - of two writes of one block that followed each other, the later one counts
//     if it is there.
class CrashStates {
 public:
  // Both outlive this.
  CrashStates(CowImage start, const Recording* recording,
              uint32_t logical_block_bytes);

  // Moves behind the next event. False at the end.
  bool Next();
  const CrashEvent& event() const { return recording_->events[at_ - 1]; }

  struct Choice {
    // States in which each volatile block is by itself there or not, where
    // there are at most so many blocks.
    uint64_t exhaustive_blocks = 0;
    // States drawn at random.
    uint64_t random_states = 0;
  };
  // What is certain alone; all there is; all but each one write; each write
  // alone; and what `choice` adds. Equal ones may come more than once.
  using Visit = std::function<void(const CowImage&)>;
  void ForEach(const Choice& choice, std::mt19937_64* rng,
               const Visit& visit) const;

  uint64_t volatile_blocks() const { return versions_.size(); }

 private:
  struct Version {
    uint64_t write = 0;
    const char* data = nullptr;
  };
  // Which of a block's versions is there: its index; -1 for none.
  using Pick =
      std::function<int64_t(uint64_t block, const std::vector<Version>&)>;

  CowImage With(const Pick& pick) const;
  void AddVersions(uint64_t id);
  void MakeDurable(const std::set<uint64_t>& writes);
  std::set<uint64_t> VolatileWrites() const;
  void ForEachSubset(const Visit& visit) const;

  const Recording* const recording_;
  const uint32_t block_bytes_;
  size_t at_ = 0;
  CowImage durable_;
  // By block number: what it may hold besides what is durable, in order.
  std::map<uint64_t, std::vector<Version>> versions_;
  std::set<uint64_t> completed_;  // of the volatile writes
  std::set<uint64_t> covered_;    // by the flush that is under way
};

}  // namespace diofs

#endif  // DIOFS_TESTS_CRASH_STATES_H_
