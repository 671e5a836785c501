#include "env/rocksdb_random_access_file.h"

#include <memory>
#include <vector>

#include "env/rocksdb_async_read.h"
#include "env/rocksdb_io_priority.h"
#include "env/rocksdb_status.h"

namespace diofs {

using rocksdb::FSReadRequest;
using rocksdb::IODebugContext;
using rocksdb::IOHandleDeleter;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

namespace {

// RocksDB passes no memory only for a file it believes to be mapped.
Result CheckMemory(const char* memory, size_t length) {
  if (memory != nullptr || length == 0) return Result::Ok();
  return Result::Error(EINVAL, "read without memory to read into");
}

}  // namespace

IOStatus DioRandomAccessFile::Read(uint64_t offset, size_t n,
                                   const IOOptions& options, Slice* result,
                                   char* scratch, IODebugContext*) const {
  *result = Slice();
  return Guarded(path_, [&] {
    if (Result bad = CheckMemory(scratch, n); !bad.ok()) return bad;
    Result read = reader_.Read(offset, n, scratch,
                               IoPriorityOf(options.rate_limiter_priority));
    if (read.ok()) *result = Slice(scratch, read.bytes());
    return read;
  });
}

IOStatus DioRandomAccessFile::MultiRead(FSReadRequest* requests, size_t count,
                                        const IOOptions& options,
                                        IODebugContext*) {
  return Guarded(path_, [&] {
    std::vector<ReadRange> ranges(count);
    for (size_t i = 0; i < count; ++i) {
      FSReadRequest& request = requests[i];
      if (Result bad = CheckMemory(request.scratch, request.len); !bad.ok()) {
        return bad;
      }
      request.result = Slice();
      ranges[i].offset = request.offset;
      ranges[i].length = request.len;
      ranges[i].memory = request.scratch;
    }
    Result read = reader_.MultiRead(
        ranges.data(), count, IoPriorityOf(options.rate_limiter_priority));
    if (!read.ok()) return read;
    for (size_t i = 0; i < count; ++i) {
      const Result& part = ranges[i].result;
      requests[i].status = ToIOStatus(part, path_);
      if (part.ok()) {
        requests[i].result = Slice(requests[i].scratch, part.bytes());
      }
    }
    return Result::Ok();
  });
}

IOStatus DioRandomAccessFile::ReadAsync(
    FSReadRequest& request, const IOOptions& options,
    std::function<void(const FSReadRequest&, void*)> callback, void* argument,
    void** handle, IOHandleDeleter* deleter, IODebugContext*) {
  *handle = nullptr;
  return Guarded(path_, [&] {
    if (Result bad = CheckMemory(request.scratch, request.len); !bad.ok()) {
      return bad;
    }
    auto read = std::make_unique<AsyncRead>(reader_, path_, request,
                                            std::move(callback), argument);
    *deleter = AsyncRead::Delete;
    Result started = read->Start(IoPriorityOf(options.rate_limiter_priority));
    if (started.ok()) *handle = read.release();
    return started;
  });
}

IOStatus DioRandomAccessFile::InvalidateCache(size_t, size_t) {
  return IOStatus::OK();  // nothing is cached
}

}  // namespace diofs
