#ifndef DIOFS_ENV_ROCKSDB_IO_PRIORITY_H_
#define DIOFS_ENV_ROCKSDB_IO_PRIORITY_H_

#include <linux/ioprio.h>

#include <cstdint>

#include "rocksdb/env.h"

namespace diofs {

// What the kernel's I/O scheduler is told (ionice) where RocksDB says how
// urgent bytes are. Compaction is IO_LOW and a flush IO_HIGH, unless the one
// stalls writers; IO_USER and IO_TOTAL, which most requests carry, leave the
// thread's own priority in force, normally best-effort 4:
//   IO_LOW -> best-effort 7, IO_MID -> 6, IO_HIGH -> 5
// Requests that do not go through a ring have the thread's own in any case.
// Never the idle class: a compaction that starves stalls every writer.
inline uint16_t IoPriorityOf(rocksdb::Env::IOPriority priority) {
  if (priority >= rocksdb::Env::IO_USER) return 0;
  return static_cast<uint16_t>(
      IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7 - priority));
}

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_IO_PRIORITY_H_
