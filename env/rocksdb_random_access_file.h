#ifndef DIOFS_ENV_ROCKSDB_RANDOM_ACCESS_FILE_H_
#define DIOFS_ENV_ROCKSDB_RANDOM_ACCESS_FILE_H_

#include <functional>
#include <string>
#include <utility>

#include "env/file_reader.h"
#include "rocksdb/file_system.h"

namespace diofs {

// A table or blob file open for reading. Owned by RocksDB; thread-safe.
//
// Data always land at scratch[0]. use_direct_io() stays false, so that RocksDB
// neither aligns nor copies by itself; Prefetch stays NotSupported, so that it
// keeps its own readahead.
class DioRandomAccessFile : public rocksdb::FSRandomAccessFile {
 public:
  DioRandomAccessFile(OpenFilePtr file, std::string path)
      : reader_(std::move(file)), path_(std::move(path)) {}

  rocksdb::IOStatus Read(uint64_t offset, size_t n,
                         const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* dbg) const override;
  rocksdb::IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t count,
                              const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus ReadAsync(
      rocksdb::FSReadRequest& request, const rocksdb::IOOptions& options,
      std::function<void(const rocksdb::FSReadRequest&, void*)> callback,
      void* argument, void** handle, rocksdb::IOHandleDeleter* deleter,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus InvalidateCache(size_t offset, size_t length) override;

 private:
  const FileReader reader_;
  const std::string path_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_RANDOM_ACCESS_FILE_H_
