#ifndef DIOFS_ENV_SCRUB_H_
#define DIOFS_ENV_SCRUB_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dio/result.h"
#include "env/volume.h"

namespace diofs {

struct ScrubReport {
  // What cannot be read or is not what was written, one line each, with path
  // and bytes, or what is wrong with the journal; empty where all is well.
  std::vector<std::string> problems;
  uint64_t files = 0;
  uint64_t bytes = 0;
  // Of these, plain files that were read and could be compared with nothing.
  uint64_t unverified_files = 0;
  uint64_t unverified_bytes = 0;
};

// `done` of `total` bytes have been read.
using ScrubProgress = std::function<void(uint64_t done, uint64_t total)>;

// Reads every byte of every file of a volume that is mounted read-only, and
// compares plain files with their checksum tables; frames of logs have
// checksums of their own. An error means that there was no memory.
Result Scrub(Volume* volume, const ScrubProgress& progress,
             ScrubReport* report);

}  // namespace diofs

#endif  // DIOFS_ENV_SCRUB_H_
