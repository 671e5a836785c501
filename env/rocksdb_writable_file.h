#ifndef DIOFS_ENV_ROCKSDB_WRITABLE_FILE_H_
#define DIOFS_ENV_ROCKSDB_WRITABLE_FILE_H_

#include <memory>
#include <string>

#include "env/file_writer.h"
#include "rocksdb/file_system.h"

namespace diofs {

// A file that RocksDB appends to. Owned by RocksDB, which often destroys it
// without Close: the destructor closes. One writing thread; Sync, Fsync and
// GetFileSize may run beside it.
//
// use_direct_io() stays false: with true RocksDB would never call Sync on a
// WAL.
class DioWritableFile : public rocksdb::FSWritableFile {
 public:
  DioWritableFile(std::shared_ptr<FileWriter> writer, std::string path,
                  const rocksdb::FileOptions& options);
  ~DioWritableFile() override;

  rocksdb::IOStatus Append(const rocksdb::Slice& data,
                           const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* dbg) override;
  // Corruption, nothing written, where the data do not match the checksum.
  rocksdb::IOStatus Append(const rocksdb::Slice& data,
                           const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& verification,
                           rocksdb::IODebugContext* dbg) override;
  // Overwrites in place what lies below the end.
  rocksdb::IOStatus PositionedAppend(const rocksdb::Slice& data,
                                     uint64_t offset,
                                     const rocksdb::IOOptions& options,
                                     rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus PositionedAppend(
      const rocksdb::Slice& data, uint64_t offset,
      const rocksdb::IOOptions& options,
      const rocksdb::DataVerificationInfo& verification,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Truncate(uint64_t size, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Flush(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* dbg) override;
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const rocksdb::IOOptions& options,
                       rocksdb::IODebugContext* dbg) override;
  void SetPreallocationBlockSize(size_t size) override;
  rocksdb::IOStatus InvalidateCache(size_t offset, size_t length) override;
  rocksdb::IOStatus RangeSync(uint64_t offset, uint64_t nbytes,
                              const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  // Called for every append. The writer allocates by itself, with
  // SetPreallocationBlockSize as its hint.
  void PrepareWrite(size_t, size_t, const rocksdb::IOOptions&,
                    rocksdb::IODebugContext*) override {}

 private:
  // The file's priority counts where the request has none, as RocksDB itself
  // has it.
  void Prioritize(const rocksdb::IOOptions& options);
  Result Verify(const rocksdb::Slice& data,
                const rocksdb::DataVerificationInfo& verification) const;

  const std::shared_ptr<FileWriter> writer_;
  const std::string path_;
  const bool crc32c_handoff_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_WRITABLE_FILE_H_
