#ifndef DIOFS_ENV_ROCKSDB_FILE_LOCK_H_
#define DIOFS_ENV_ROCKSDB_FILE_LOCK_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "env/volume.h"
#include "rocksdb/env.h"

namespace diofs {

// A LOCK file that is held. Owned by RocksDB until UnlockFile, keeps the volume
// mounted; the destructor gives the lock up.
class DioFileLock : public rocksdb::FileLock {
 public:
  DioFileLock(std::shared_ptr<Volume> volume, uint64_t ino)
      : volume_(std::move(volume)), ino_(ino) {}
  ~DioFileLock() override { volume_->UnlockName(ino_); }

 private:
  const std::shared_ptr<Volume> volume_;
  const uint64_t ino_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_FILE_LOCK_H_
