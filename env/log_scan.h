#ifndef DIOFS_ENV_LOG_SCAN_H_
#define DIOFS_ENV_LOG_SCAN_H_

#include <cstdint>
#include <string>

#include "dio/block_device.h"
#include "dio/result.h"
#include "env/inode.h"

namespace diofs {

// What a walk over the frames of a log has found.
struct LogScan {
  LogPosition end;  // behind the last whole frame
  // The log's size in bytes: as far as is known that there was something.
  // Behind a frame that cannot be read that is one byte at least: who reads on
  // must not find an end.
  uint64_t length = 0;
  uint64_t frames = 0;
  // What proves that a frame behind `end` is lost; empty for a torn tail.
  std::string damage;
};

// Walks the frames of `inode`, a log that nobody writes to, from the last place
// that the journal knows, or all of them from the start. Notes on the way where
// frames begin. An error means that there was no memory.
Result ScanLog(BlockDevice* device, const Inode& inode, bool from_start,
               LogScan* scan);

}  // namespace diofs

#endif  // DIOFS_ENV_LOG_SCAN_H_
