#ifndef DIOFS_ENV_ROCKSDB_RANDOM_RW_FILE_H_
#define DIOFS_ENV_ROCKSDB_RANDOM_RW_FILE_H_

#include <memory>
#include <string>

#include "env/file_reader.h"
#include "env/file_writer.h"
#include "rocksdb/file_system.h"

namespace diofs {

// A finished file that RocksDB changes in place: ingestion writes a sequence
// number into a table. Owned by RocksDB; one thread at a time. The destructor
// closes.
class DioRandomRWFile : public rocksdb::FSRandomRWFile {
 public:
  DioRandomRWFile(const OpenFilePtr& file, std::shared_ptr<FileWriter> writer,
                  std::string path);
  ~DioRandomRWFile() override;

  rocksdb::IOStatus Write(uint64_t offset, const rocksdb::Slice& data,
                          const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Read(uint64_t offset, size_t n,
                         const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* dbg) const override;
  rocksdb::IOStatus Flush(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* dbg) override;

 private:
  const FileReader reader_;
  const std::shared_ptr<FileWriter> writer_;
  const std::string path_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_RANDOM_RW_FILE_H_
