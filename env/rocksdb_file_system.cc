#include "env/rocksdb_file_system.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <utility>

#include "dio/out_of_memory.h"
#include "env/format.h"
#include "env/rocksdb_async_read.h"
#include "env/rocksdb_directory.h"
#include "env/rocksdb_file_lock.h"
#include "env/rocksdb_loaded_file.h"
#include "env/rocksdb_random_access_file.h"
#include "env/rocksdb_random_rw_file.h"
#include "env/rocksdb_sequential_file.h"
#include "env/rocksdb_writable_file.h"

namespace diofs {

using rocksdb::FileOptions;
using rocksdb::FSDirectory;
using rocksdb::FSRandomAccessFile;
using rocksdb::FSRandomRWFile;
using rocksdb::FSSequentialFile;
using rocksdb::FSWritableFile;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

namespace {

constexpr uint64_t kMicrosPerSecond = 1000000;

// Outside of what is guarded: without memory the message names no path.
std::string Arrow(const std::string& from, const std::string& to) noexcept {
  try {
    return from + " -> " + to;
  } catch (const std::bad_alloc&) {
    return std::string();
  }
}

Result OpenForWriting(const OpenFilePtr& file, const std::string& path,
                      const FileOptions& options,
                      std::unique_ptr<FSWritableFile>* result) {
  std::shared_ptr<FileWriter> writer;
  Result opened = FileWriter::Open(file, &writer);
  if (opened.ok()) {
    *result =
        std::make_unique<DioWritableFile>(std::move(writer), path, options);
  }
  return opened;
}

Result CreateForWriting(Volume* volume, const std::string& path,
                        const FileOptions& options,
                        std::unique_ptr<FSWritableFile>* result) {
  OpenFilePtr file;
  if (Result r = volume->CreateFile(path, &file); !r.ok()) return r;
  return OpenForWriting(file, path, options, result);
}

}  // namespace

template <typename Body>
IOStatus DioFileSystem::OnVolume(const std::string& path, Body&& body,
                                 Missing missing) const {
  return Guarded(
      path,
      [&] {
        Volume* const volume = mounted_.load(std::memory_order_acquire);
        if (volume == nullptr) {
          return Result::Error(
              ENODEV, "the volume " + options_.path +
                          " is not mounted (PrepareOptions does that)");
        }
        return body(volume);
      },
      missing);
}

IOStatus DioFileSystem::Stat(const std::string& path, FileStat* stat) const {
  return OnVolume(path,
                  [&](Volume* volume) { return volume->Stat(path, stat); });
}

// ---- Files -----------------------------------------------------------------

IOStatus DioFileSystem::NewSequentialFile(
    const std::string& path, const FileOptions&,
    std::unique_ptr<FSSequentialFile>* result, IODebugContext*) {
  result->reset();
  return OnVolume(path, [&](Volume* volume) {
    OpenFilePtr file;
    Result opened = volume->Open(path, &file);
    if (opened.ok()) {
      *result = std::make_unique<DioSequentialFile>(std::move(file), path);
    }
    return opened;
  });
}

IOStatus DioFileSystem::NewRandomAccessFile(
    const std::string& path, const FileOptions& options,
    std::unique_ptr<FSRandomAccessFile>* result, IODebugContext*) {
  result->reset();
  return OnVolume(path, [&](Volume* volume) {
    OpenFilePtr file;
    Result opened = volume->Open(path, &file);
    if (!opened.ok()) return opened;
    if (options.use_mmap_reads) return DioLoadedFile::Load(file, result);
    *result = std::make_unique<DioRandomAccessFile>(std::move(file), path);
    return opened;
  });
}

IOStatus DioFileSystem::NewWritableFile(const std::string& path,
                                        const FileOptions& options,
                                        std::unique_ptr<FSWritableFile>* result,
                                        IODebugContext*) {
  result->reset();
  return OnVolume(path, [&](Volume* volume) {
    return CreateForWriting(volume, path, options, result);
  });
}

IOStatus DioFileSystem::ReopenWritableFile(
    const std::string& path, const FileOptions& options,
    std::unique_ptr<FSWritableFile>* result, IODebugContext*) {
  result->reset();
  return OnVolume(path, [&](Volume* volume) {
    OpenFilePtr file;
    Result opened = volume->Open(path, &file);
    if (opened.error() == ENOENT) opened = volume->CreateFile(path, &file);
    if (!opened.ok()) return opened;
    return OpenForWriting(file, path, options, result);
  });
}

IOStatus DioFileSystem::ReuseWritableFile(
    const std::string& path, const std::string& old_path,
    const FileOptions& options, std::unique_ptr<FSWritableFile>* result,
    IODebugContext*) {
  result->reset();
  return OnVolume(Arrow(old_path, path), [&](Volume* volume) {
    Result renamed = volume->Rename(old_path, path);
    if (!renamed.ok()) return renamed;
    return CreateForWriting(volume, path, options, result);
  });
}

IOStatus DioFileSystem::NewRandomRWFile(const std::string& path,
                                        const FileOptions&,
                                        std::unique_ptr<FSRandomRWFile>* result,
                                        IODebugContext*) {
  result->reset();
  return OnVolume(path, [&](Volume* volume) {
    OpenFilePtr file;
    if (Result r = volume->Open(path, &file); !r.ok()) return r;
    if (file->inode()->log != nullptr) {
      return Result::Error(ENOTSUP, "a log can only be appended to");
    }
    std::shared_ptr<FileWriter> writer;
    Result opened = FileWriter::Open(file, &writer);
    if (opened.ok()) {
      *result =
          std::make_unique<DioRandomRWFile>(file, std::move(writer), path);
    }
    return opened;
  });
}

IOStatus DioFileSystem::NewMemoryMappedFileBuffer(
    const std::string& path,
    std::unique_ptr<rocksdb::MemoryMappedFileBuffer>* result) {
  result->reset();
  return Guarded(path, [] {
    return Result::Error(EOPNOTSUPP, "there is nothing to map on a raw device");
  });
}

IOStatus DioFileSystem::NewDirectory(const std::string& path, const IOOptions&,
                                     std::unique_ptr<FSDirectory>* result,
                                     IODebugContext*) {
  result->reset();
  return OnVolume(path, [&](Volume* volume) {
    FileStat stat;
    Result found = volume->Stat(path, &stat);
    if (!found.ok()) return found;
    if (!stat.is_directory) return Result::Error(ENOTDIR, path);
    *result = std::make_unique<DioDirectory>(volume->shared_from_this(), path);
    return found;
  });
}

IOStatus DioFileSystem::Truncate(const std::string& path, size_t size,
                                 const IOOptions&, IODebugContext*) {
  return OnVolume(path, [&](Volume* volume) {
    OpenFilePtr file;
    if (Result r = volume->Open(path, &file); !r.ok()) return r;
    std::shared_ptr<FileWriter> writer;
    if (Result r = FileWriter::Open(file, &writer); !r.ok()) return r;
    if (Result r = writer->Truncate(size); !r.ok()) return r;
    return writer->Close();
  });
}

// ---- Names -----------------------------------------------------------------

IOStatus DioFileSystem::FileExists(const std::string& path, const IOOptions&,
                                   IODebugContext*) {
  FileStat stat;
  return OnVolume(
      path, [&](Volume* volume) { return volume->Stat(path, &stat); },
      Missing::kNotFound);
}

IOStatus DioFileSystem::GetChildren(const std::string& path, const IOOptions&,
                                    std::vector<std::string>* result,
                                    IODebugContext*) {
  result->clear();
  return OnVolume(
      path,
      [&](Volume* volume) {
        std::vector<DirectoryEntry> entries;
        Result listed = volume->List(path, &entries);
        if (!listed.ok()) return listed;
        result->reserve(entries.size());
        for (DirectoryEntry& entry : entries) {
          result->push_back(std::move(entry.name));
        }
        return listed;
      },
      Missing::kNotFound);
}

IOStatus DioFileSystem::GetChildrenFileAttributes(
    const std::string& path, const IOOptions&,
    std::vector<rocksdb::FileAttributes>* result, IODebugContext*) {
  result->clear();
  return OnVolume(
      path,
      [&](Volume* volume) {
        std::vector<DirectoryEntry> entries;
        Result listed = volume->List(path, &entries);
        if (!listed.ok()) return listed;
        result->reserve(entries.size());
        for (DirectoryEntry& entry : entries) {
          rocksdb::FileAttributes attributes;
          attributes.name = std::move(entry.name);
          attributes.size_bytes = entry.stat.size_bytes;
          result->push_back(std::move(attributes));
        }
        return listed;
      },
      Missing::kNotFound);
}

IOStatus DioFileSystem::DeleteFile(const std::string& path, const IOOptions&,
                                   IODebugContext*) {
  return OnVolume(path, [&](Volume* volume) { return volume->Unlink(path); });
}

IOStatus DioFileSystem::CreateDir(const std::string& path, const IOOptions&,
                                  IODebugContext*) {
  return OnVolume(path, [&](Volume* volume) { return volume->Mkdir(path); });
}

IOStatus DioFileSystem::CreateDirIfMissing(const std::string& path,
                                           const IOOptions&, IODebugContext*) {
  return OnVolume(path, [&](Volume* volume) { return volume->MkdirAll(path); });
}

IOStatus DioFileSystem::DeleteDir(const std::string& path, const IOOptions&,
                                  IODebugContext*) {
  return OnVolume(path, [&](Volume* volume) { return volume->Rmdir(path); });
}

IOStatus DioFileSystem::GetFileSize(const std::string& path, const IOOptions&,
                                    uint64_t* bytes, IODebugContext*) {
  FileStat stat;
  IOStatus status = Stat(path, &stat);
  *bytes = status.ok() ? stat.size_bytes : 0;
  return status;
}

IOStatus DioFileSystem::GetFileModificationTime(const std::string& path,
                                                const IOOptions&,
                                                uint64_t* seconds,
                                                IODebugContext*) {
  FileStat stat;
  IOStatus status = Stat(path, &stat);
  *seconds = status.ok() ? stat.mtime_us / kMicrosPerSecond : 0;
  return status;
}

IOStatus DioFileSystem::RenameFile(const std::string& from,
                                   const std::string& to, const IOOptions&,
                                   IODebugContext*) {
  return OnVolume(Arrow(from, to),
                  [&](Volume* volume) { return volume->Rename(from, to); });
}

IOStatus DioFileSystem::LinkFile(const std::string& from, const std::string& to,
                                 const IOOptions&, IODebugContext*) {
  return OnVolume(Arrow(from, to),
                  [&](Volume* volume) { return volume->Link(from, to); });
}

IOStatus DioFileSystem::NumFileLinks(const std::string& path, const IOOptions&,
                                     uint64_t* count, IODebugContext*) {
  FileStat stat;
  IOStatus status = Stat(path, &stat);
  *count = status.ok() ? stat.link_count : 0;
  return status;
}

IOStatus DioFileSystem::AreFilesSame(const std::string& first,
                                     const std::string& second,
                                     const IOOptions&, bool* same,
                                     IODebugContext*) {
  *same = false;
  FileStat first_stat;
  FileStat second_stat;
  IOStatus status = Stat(first, &first_stat);
  if (status.ok()) status = Stat(second, &second_stat);
  if (status.ok()) *same = first_stat.ino == second_stat.ino;
  return status;
}

IOStatus DioFileSystem::IsDirectory(const std::string& path, const IOOptions&,
                                    bool* is_directory, IODebugContext*) {
  FileStat stat;
  IOStatus status = Stat(path, &stat);
  *is_directory = status.ok() && stat.is_directory;
  return status;
}

// ---- Locks, paths, space ---------------------------------------------------

IOStatus DioFileSystem::LockFile(const std::string& path, const IOOptions&,
                                 rocksdb::FileLock** lock, IODebugContext*) {
  *lock = nullptr;
  return OnVolume(path, [&](Volume* volume) {
    uint64_t ino = 0;
    Result locked = volume->LockName(path, &ino);
    if (locked.error() == EBUSY) {
      return Result::Error(EBUSY, "lock " + path + ": held by this process");
    }
    if (!locked.ok()) return locked;
    const OnUnwind unlock([&] { volume->UnlockName(ino); });
    *lock = new DioFileLock(volume->shared_from_this(), ino);
    return locked;
  });
}

IOStatus DioFileSystem::UnlockFile(rocksdb::FileLock* lock, const IOOptions&,
                                   IODebugContext*) {
  delete lock;
  return IOStatus::OK();
}

IOStatus DioFileSystem::GetTestDirectory(const IOOptions& options,
                                         std::string* path,
                                         IODebugContext* dbg) {
  IOStatus status = Guarded("test directory", [&] {
    const char* const from_user = getenv("TEST_TMPDIR");
    if (from_user != nullptr && *from_user != '\0') {
      *path = from_user;
    } else {
      *path = "/tmp/rocksdbtest-" + std::to_string(geteuid());
    }
    return Result::Ok();
  });
  return status.ok() ? CreateDirIfMissing(*path, options, dbg) : status;
}

IOStatus DioFileSystem::GetAbsolutePath(const std::string& path,
                                        const IOOptions&, std::string* absolute,
                                        IODebugContext*) {
  return Guarded(path, [&] {
    const bool is_absolute = !path.empty() && path.front() == '/';
    *absolute = is_absolute ? path : "/" + path;
    return Result::Ok();
  });
}

IOStatus DioFileSystem::GetFreeSpace(const std::string& path, const IOOptions&,
                                     uint64_t* bytes, IODebugContext*) {
  *bytes = 0;
  return OnVolume(path, [&](Volume* volume) {
    VolumeUsage usage;
    Result used = volume->Usage(&usage);
    if (used.ok() && usage.free_blocks > usage.reserved_blocks) {
      *bytes = (usage.free_blocks - usage.reserved_blocks) * kBlockBytes;
    }
    return used;
  });
}

// ---- Asynchronous reads ----------------------------------------------------

IOStatus DioFileSystem::Poll(std::vector<void*>& handles, size_t) {
  for (void* const handle : handles) {
    if (handle != nullptr) static_cast<AsyncRead*>(handle)->Complete();
  }
  return IOStatus::OK();
}

IOStatus DioFileSystem::AbortIO(std::vector<void*>& handles) {
  for (void* const handle : handles) {
    if (handle != nullptr) static_cast<AsyncRead*>(handle)->Abort();
  }
  return IOStatus::OK();
}

}  // namespace diofs
