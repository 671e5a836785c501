#ifndef DIOFS_ENV_ROCKSDB_LOADED_FILE_H_
#define DIOFS_ENV_ROCKSDB_LOADED_FILE_H_

#include <memory>
#include <string>

#include "dio/buffer_pool.h"
#include "dio/result.h"
#include "env/open_file.h"
#include "rocksdb/file_system.h"

namespace diofs {

// A file opened with use_mmap_reads: read into memory as a whole, as it was
// then. Owned by RocksDB, which may point into that memory for as long as the
// file object lives; thread-safe.
class DioLoadedFile : public rocksdb::FSRandomAccessFile {
 public:
  static Result Load(const OpenFilePtr& file,
                     std::unique_ptr<rocksdb::FSRandomAccessFile>* loaded);

  // Copies to `scratch`. Without one the result lies in the file's own memory,
  // as PlainTable and CuckooTable expect of a mapped file.
  rocksdb::IOStatus Read(uint64_t offset, size_t n,
                         const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* dbg) const override;
  rocksdb::IOStatus InvalidateCache(size_t offset, size_t length) override;

 private:
  DioLoadedFile(AlignedBuffer memory, size_t size_bytes);

  const AlignedBuffer memory_;
  const size_t size_bytes_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_LOADED_FILE_H_
