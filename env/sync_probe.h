#ifndef DIOFS_ENV_SYNC_PROBE_H_
#define DIOFS_ENV_SYNC_PROBE_H_

#include <cstdint>

#include "dio/block_device.h"
#include "dio/result.h"
#include "env/superblock.h"

namespace diofs {

// What it takes to make one rewritten block durable, as a sync does; medians,
// in microseconds.
struct SyncTimes {
  uint32_t rounds = 0;
  bool has_fua = false;  // else fua_us is 0
  double fua_us = 0;
  double flush_us = 0;

  bool flush_is_faster() const { return !has_fua || flush_us < fua_us; }
};

// Rewrites a block that belongs to nothing, the last one of the journal region
// that is not in use, `rounds` times each way in turn. The device is open for
// writing and nobody has mounted it.
Result MeasureSync(BlockDevice* device, const Superblock& superblock,
                   uint32_t rounds, SyncTimes* times);

// Remembers the faster way in the superblock, for sync=auto.
Result StorePreference(BlockDevice* device, const SyncTimes& times,
                       Superblock* superblock);

}  // namespace diofs

#endif  // DIOFS_ENV_SYNC_PROBE_H_
