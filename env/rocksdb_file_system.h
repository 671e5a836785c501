#ifndef DIOFS_ENV_ROCKSDB_FILE_SYSTEM_H_
#define DIOFS_ENV_ROCKSDB_FILE_SYSTEM_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "env/mount_table.h"
#include "env/rocksdb_status.h"
#include "env/volume.h"
#include "rocksdb/file_system.h"

namespace diofs {

// A volume as RocksDB sees it: every file, LOCK and LOG too, is on it. Shared
// by whoever opens databases on it; thread-safe. Several of them on one device
// share one mounted volume.
//
// Options are set from a URI at construction or by name through Customizable;
// PrepareOptions mounts. Before that every call that needs the volume fails.
class DioFileSystem : public rocksdb::FileSystem {
 public:
  explicit DioFileSystem(const VolumeOptions& options);
  // On a volume that the caller has mounted.
  explicit DioFileSystem(std::shared_ptr<Volume> volume);

  static const char* kClassName() { return "DioFileSystem"; }
  const char* Name() const override { return kClassName(); }
  std::string GetId() const override { return "dio://" + options_.path; }
  // Null before the mount.
  std::shared_ptr<Volume> volume() const;

  // Mounts. Nothing the second time: RocksDB calls it often.
  rocksdb::Status PrepareOptions(
      const rocksdb::ConfigOptions& config_options) override;

  rocksdb::IOStatus NewSequentialFile(
      const std::string& path, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSSequentialFile>* result,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewRandomAccessFile(
      const std::string& path, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewWritableFile(
      const std::string& path, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* result,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus ReopenWritableFile(
      const std::string& path, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* result,
      rocksdb::IODebugContext* dbg) override;
  // The old file's blocks are let go; the new one starts empty.
  rocksdb::IOStatus ReuseWritableFile(
      const std::string& path, const std::string& old_path,
      const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* result,
      rocksdb::IODebugContext* dbg) override;
  // Does not create.
  rocksdb::IOStatus NewRandomRWFile(
      const std::string& path, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSRandomRWFile>* result,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewMemoryMappedFileBuffer(
      const std::string& path,
      std::unique_ptr<rocksdb::MemoryMappedFileBuffer>* result) override;
  rocksdb::IOStatus NewDirectory(const std::string& path,
                                 const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* dbg) override;

  rocksdb::IOStatus FileExists(const std::string& path,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetChildren(const std::string& path,
                                const rocksdb::IOOptions& options,
                                std::vector<std::string>* result,
                                rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetChildrenFileAttributes(
      const std::string& path, const rocksdb::IOOptions& options,
      std::vector<rocksdb::FileAttributes>* result,
      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus DeleteFile(const std::string& path,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Truncate(const std::string& path, size_t size,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus CreateDir(const std::string& path,
                              const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  // With all missing parents, for RocksDB makes only the last one itself.
  rocksdb::IOStatus CreateDirIfMissing(const std::string& path,
                                       const rocksdb::IOOptions& options,
                                       rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus DeleteDir(const std::string& path,
                              const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFileSize(const std::string& path,
                                const rocksdb::IOOptions& options,
                                uint64_t* bytes,
                                rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFileModificationTime(
      const std::string& path, const rocksdb::IOOptions& options,
      uint64_t* seconds, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus LinkFile(const std::string& from, const std::string& to,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NumFileLinks(const std::string& path,
                                 const rocksdb::IOOptions& options,
                                 uint64_t* count,
                                 rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus AreFilesSame(const std::string& first,
                                 const std::string& second,
                                 const rocksdb::IOOptions& options, bool* same,
                                 rocksdb::IODebugContext* dbg) override;
  // IOError where this process holds it already; no other one can have the
  // volume open.
  rocksdb::IOStatus LockFile(const std::string& path,
                             const rocksdb::IOOptions& options,
                             rocksdb::FileLock** lock,
                             rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus UnlockFile(rocksdb::FileLock* lock,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  // $TEST_TMPDIR or /tmp/rocksdbtest-UID, on the volume: the names that Posix
  // uses, so that tests which mix both keep working.
  rocksdb::IOStatus GetTestDirectory(const rocksdb::IOOptions& options,
                                     std::string* path,
                                     rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetAbsolutePath(const std::string& path,
                                    const rocksdb::IOOptions& options,
                                    std::string* absolute,
                                    rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFreeSpace(const std::string& path,
                                 const rocksdb::IOOptions& options,
                                 uint64_t* bytes,
                                 rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus IsDirectory(const std::string& path,
                                const rocksdb::IOOptions& options,
                                bool* is_directory,
                                rocksdb::IODebugContext* dbg) override;

  // Completes all of `handles`: RocksDB polls one at a time.
  rocksdb::IOStatus Poll(std::vector<void*>& handles,
                         size_t min_completions) override;
  rocksdb::IOStatus AbortIO(std::vector<void*>& handles) override;

  // These take the direct modes out, which the files do not report either, and
  // mapped writes. use_mmap_reads stays: who passes no memory to a read has set
  // it at open.
  void SanitizeFileOptions(rocksdb::FileOptions* options) const override;
  rocksdb::FileOptions OptimizeForLogRead(
      const rocksdb::FileOptions& options) const override;
  rocksdb::FileOptions OptimizeForManifestRead(
      const rocksdb::FileOptions& options) const override;
  rocksdb::FileOptions OptimizeForLogWrite(
      const rocksdb::FileOptions& options,
      const rocksdb::DBOptions& db_options) const override;
  rocksdb::FileOptions OptimizeForManifestWrite(
      const rocksdb::FileOptions& options) const override;
  rocksdb::FileOptions OptimizeForCompactionTableWrite(
      const rocksdb::FileOptions& options,
      const rocksdb::ImmutableDBOptions& db_options) const override;
  // Where the user has set no readahead, compaction gets 2 MiB: RocksDB 7.8
  // would read block by block.
  rocksdb::FileOptions OptimizeForCompactionTableRead(
      const rocksdb::FileOptions& options,
      const rocksdb::ImmutableDBOptions& db_options) const override;
  rocksdb::FileOptions OptimizeForBlobFileRead(
      const rocksdb::FileOptions& options,
      const rocksdb::ImmutableDBOptions& db_options) const override;

 protected:
  // InvalidArgument, naming the option and listing the valid ones, for a name
  // or value that is none, and for any change once the volume is mounted.
  rocksdb::Status ConfigureOptions(
      const rocksdb::ConfigOptions& config_options,
      const std::unordered_map<std::string, std::string>& values,
      std::unordered_map<std::string, std::string>* unused) override;

 private:
  // Runs body(volume), which returns a Result; `path` is what it is about.
  template <typename Body>
  rocksdb::IOStatus OnVolume(const std::string& path, Body&& body,
                             Missing missing = Missing::kPathNotFound) const;
  rocksdb::IOStatus Stat(const std::string& path, FileStat* stat) const;
  // Of ConfigureOptions all that does not change anything.
  rocksdb::Status CheckOptions(
      const std::unordered_map<std::string, std::string>& values,
      bool may_be_unknown) const;

  VolumeOptions options_;
  mutable std::mutex mount_mutex_;  // held while mounting
  std::shared_ptr<Volume> volume_;  // set once, under mount_mutex_
  // volume_.get(), for the calls that come while somebody mounts again.
  std::atomic<Volume*> mounted_{nullptr};
};

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_FILE_SYSTEM_H_
