#ifndef DIOFS_TESTS_CRASH_EXPLORER_H_
#define DIOFS_TESTS_CRASH_EXPLORER_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "dio/geometry.h"
#include "tests/crash_device.h"
#include "tests/crash_model.h"
#include "tests/crash_states.h"

namespace diofs {

// Looks at every state that a power cut may leave of what was recorded: it must
// pass fsck, mount, hold what the model of that moment allows, take new files
// and new bytes, and still hold all of it at the mount after the next cut. Each
// distinct state is mounted once, however often it comes up. Thread-safe.
class CrashExplorer {
 public:
  explicit CrashExplorer(const Geometry& geometry) : geometry_(geometry) {}

  // Goes through `recording`, which began at `start`, from the note number
  // `first` on; models[n] belongs to note n. Of one in `recovery_interval`
  // states (0: of none) the recovery is explored as well, for the power may
  // fail again. Returns what is wrong with the first bad state, or "".
  struct Plan {
    uint64_t first = 0;
    CrashStates::Choice choice;
    uint64_t recovery_interval = 0;
  };
  std::string Explore(const CowImage& start, const Recording& recording,
                      const std::vector<CrashModel>& models, const Plan& plan,
                      std::mt19937_64* rng);

  // One state alone; what is wrong with it, or "".
  std::string Check(const CowImage& image, const CrashModel& model);

  const Geometry& geometry() const { return geometry_; }
  uint64_t distinct_states() const;
  // States held against the model of their moment.
  uint64_t comparisons() const { return comparisons_; }

 private:
  struct Found {
    std::string error;
    std::shared_ptr<const Tree> tree;
  };

  std::string ExploreRecovery(const CowImage& image, const CrashModel& model,
                              const CrashStates::Choice& choice,
                              std::mt19937_64* rng);
  std::string CheckState(const CowImage& image, const CrashModel& model,
                         bool* is_new);
  Found Examine(const CowImage& image) const;
  std::shared_ptr<const Tree> Intern(Tree tree);

  const Geometry geometry_;

  mutable std::mutex mutex_;                   // guards all below
  std::unordered_map<uint64_t, Found> found_;  // by CowImage::Hash
  std::map<Tree, std::weak_ptr<const Tree>> trees_;
  std::atomic<uint64_t> comparisons_{0};
};

// A file that takes room and is never looked at.
inline constexpr const char* kCrashFiller = "/filler";

// A volume of that geometry that holds nothing.
CowImage FreshVolume(const Geometry& geometry);

// Geometry of a device on which states are explored.
Geometry CrashGeometry(uint64_t bytes, uint32_t logical_block_bytes, bool fua);

}  // namespace diofs

#endif  // DIOFS_TESTS_CRASH_EXPLORER_H_
