#ifndef DIOFS_ENV_ROCKSDB_SEQUENTIAL_FILE_H_
#define DIOFS_ENV_ROCKSDB_SEQUENTIAL_FILE_H_

#include <string>
#include <utility>

#include "env/file_reader.h"
#include "rocksdb/file_system.h"

namespace diofs {

// A file that RocksDB reads from front to back: MANIFEST and WAL on recovery,
// CURRENT, OPTIONS, whatever is copied. Owned by RocksDB; one thread at a time.
class DioSequentialFile : public rocksdb::FSSequentialFile {
 public:
  DioSequentialFile(OpenFilePtr file, std::string path)
      : reader_(std::move(file)), path_(std::move(path)) {}

  rocksdb::IOStatus Read(size_t n, const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Skip(uint64_t n) override;
  rocksdb::IOStatus PositionedRead(uint64_t offset, size_t n,
                                   const rocksdb::IOOptions& options,
                                   rocksdb::Slice* result, char* scratch,
                                   rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus InvalidateCache(size_t offset, size_t length) override;

 private:
  SequentialReader reader_;
  const std::string path_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_SEQUENTIAL_FILE_H_
