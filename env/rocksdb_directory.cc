#include "env/rocksdb_directory.h"

#include "env/rocksdb_status.h"

namespace diofs {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

IOStatus DioDirectory::Fsync(const IOOptions&, IODebugContext*) {
  return Guarded(path_, [&] { return volume_->SyncNames(); });
}

IOStatus DioDirectory::Close(const IOOptions&, IODebugContext*) {
  return IOStatus::OK();
}

}  // namespace diofs
