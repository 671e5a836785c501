#ifndef DIOFS_ENV_ROCKSDB_ASYNC_READ_H_
#define DIOFS_ENV_ROCKSDB_ASYNC_READ_H_

#include <functional>
#include <string>

#include "dio/read_batch.h"
#include "env/file_reader.h"
#include "rocksdb/file_system.h"

namespace diofs {

// One FSRandomAccessFile::ReadAsync in flight: RocksDB's io_handle. Owned by
// RocksDB, which deletes it through Delete(); keeps its file open, so that it
// may outlive the file object. One thread at a time, whichever that is: an
// iterator migrates.
//
// The callback runs exactly once, on the thread that completes or aborts: it
// changes RocksDB's prefetch buffer without a lock, and what waits for it is
// freed nowhere else.
class AsyncRead {
 public:
  using Callback = std::function<void(const rocksdb::FSReadRequest&, void*)>;

  // Copies the request: RocksDB's is gone when ReadAsync returns.
  AsyncRead(const FileReader& reader, const std::string& path,
            const rocksdb::FSReadRequest& request, Callback callback,
            void* argument);
  AsyncRead(const AsyncRead&) = delete;
  AsyncRead& operator=(const AsyncRead&) = delete;

  // On an error nothing is in flight, and the callback never runs.
  Result Start(uint16_t ioprio);
  // Waits and calls back with what was read. Nothing the second time.
  void Complete();
  // As Complete, but calls back with Aborted. Waits too: the device owns the
  // memory until the read is over.
  void Abort();

  // An IOHandleDeleter; waits for a read that nobody has waited for.
  static void Delete(void* handle);

 private:
  void CallBack();

  // Before batch_, which must not outlive the file.
  const FileReader reader_;
  const std::string path_;
  rocksdb::FSReadRequest request_;
  const Callback callback_;
  void* const argument_;
  bool called_back_ = false;
  ReadRange range_;
  ReadBatch batch_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_ASYNC_READ_H_
