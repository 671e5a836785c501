#include "env/rocksdb_sequential_file.h"

#include "env/rocksdb_io_priority.h"
#include "env/rocksdb_status.h"

namespace diofs {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

IOStatus DioSequentialFile::Read(size_t n, const IOOptions& options,
                                 Slice* result, char* scratch,
                                 IODebugContext*) {
  *result = Slice();
  return Guarded(path_, [&] {
    Result read =
        reader_.Read(n, scratch, IoPriorityOf(options.rate_limiter_priority));
    if (read.ok()) *result = Slice(scratch, read.bytes());
    return read;
  });
}

IOStatus DioSequentialFile::Skip(uint64_t n) {
  reader_.Skip(n);
  return IOStatus::OK();
}

IOStatus DioSequentialFile::PositionedRead(uint64_t offset, size_t n,
                                           const IOOptions& options,
                                           Slice* result, char* scratch,
                                           IODebugContext*) {
  *result = Slice();
  return Guarded(path_, [&] {
    Result read = reader_.reader().Read(
        offset, n, scratch, IoPriorityOf(options.rate_limiter_priority));
    if (read.ok()) *result = Slice(scratch, read.bytes());
    return read;
  });
}

IOStatus DioSequentialFile::InvalidateCache(size_t, size_t) {
  reader_.InvalidateCache();
  return IOStatus::OK();
}

}  // namespace diofs
