#ifndef DIOFS_ENV_FSCK_H_
#define DIOFS_ENV_FSCK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/result.h"
#include "env/volume.h"

namespace diofs {

struct FsckReport {
  // What is wrong, one line each; empty for a sound volume.
  std::vector<std::string> problems;
  // What is worth knowing and no damage: an unclean unmount, a torn tail.
  std::vector<std::string> notes;
  uint64_t files = 0;
  uint64_t directories = 0;
  uint64_t extents = 0;
  VolumeUsage usage;
};

// Checks every structure of the volume on `device` without writing a byte:
// superblocks, journal, names and link counts, extents and their overlaps, the
// free-space sum. An error means that the device could not be read at all;
// damage is told in the report.
Result Fsck(std::unique_ptr<BlockDevice> device, FsckReport* report);

}  // namespace diofs

#endif  // DIOFS_ENV_FSCK_H_
