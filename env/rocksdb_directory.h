#ifndef DIOFS_ENV_ROCKSDB_DIRECTORY_H_
#define DIOFS_ENV_ROCKSDB_DIRECTORY_H_

#include <memory>
#include <string>
#include <utility>

#include "env/volume.h"
#include "rocksdb/file_system.h"

namespace diofs {

// A directory whose names RocksDB wants durable. Owned by RocksDB, keeps the
// volume mounted; thread-safe. The journal is one for all directories and keeps
// the order of changes, so that every reason to sync is the same.
class DioDirectory : public rocksdb::FSDirectory {
 public:
  DioDirectory(std::shared_ptr<Volume> volume, std::string path)
      : volume_(std::move(volume)), path_(std::move(path)) {}

  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* dbg) override;

 private:
  const std::shared_ptr<Volume> volume_;
  const std::string path_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_DIRECTORY_H_
