#ifndef DIOFS_TESTS_FUZZ_TARGETS_H_
#define DIOFS_TESTS_FUZZ_TARGETS_H_

#include <string>
#include <string_view>
#include <vector>

namespace diofs {

// A reader of what lies on a device, to be given anything at all. Checksums are
// put right first where a random change would not get past them. A target ends
// the process where a rule of the format is broken; all else is for the
// sanitizers to see.
struct FuzzTarget {
  const char* name;
  void (*run)(std::string_view input);
  // Inputs to begin with.
  std::vector<std::string> (*seeds)();
};

// superblock, region, journal, log, image.
const std::vector<FuzzTarget>& FuzzTargets();
// Null where there is none.
const FuzzTarget* FindFuzzTarget(std::string_view name);

}  // namespace diofs

#endif  // DIOFS_TESTS_FUZZ_TARGETS_H_
