// The names, locks, space and options of the FileSystem; its files are in
// rocksdb_files_test.cc.

#include "env/rocksdb_file_system.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "env/rocksdb_directory.h"
#include "env/rocksdb_file_lock.h"
#include "rocksdb/convenience.h"
#include "tests/child_process.h"
#include "tests/rocksdb_file_system_fixture.h"

namespace diofs {
namespace {

using rocksdb::FileOptions;
using rocksdb::IOStatus;

class RocksDBNames : public FileSystemTest {
 protected:
  IOStatus Rename(const std::string& from, const std::string& to) {
    return fs_->RenameFile(from, to, io_options_, nullptr);
  }
  IOStatus Link(const std::string& from, const std::string& to) {
    return fs_->LinkFile(from, to, io_options_, nullptr);
  }
  IOStatus Delete(const std::string& path) {
    return fs_->DeleteFile(path, io_options_, nullptr);
  }
  uint64_t FreeSpace() {
    uint64_t bytes = 0;
    EXPECT_TRUE(Ok(fs_->GetFreeSpace("/", io_options_, &bytes, nullptr)));
    return bytes;
  }
};
INSTANTIATE_TEST_SUITE_P(On, RocksDBNames, AllMedia(), NameOfMedium);

// RocksDB retries a table under another name, and goes on without a WAL, only
// after PathNotFound; it makes a database only after NotFound.
TEST_P(RocksDBNames, WhatIsMissingIsPathNotFoundOrNotFound) {
  const std::string path = "/no/such/file";
  uint64_t number = 1;
  bool flag = true;
  std::unique_ptr<rocksdb::FSSequentialFile> sequential;
  std::unique_ptr<rocksdb::FSRandomAccessFile> random;
  std::unique_ptr<rocksdb::FSRandomRWFile> random_rw;
  std::unique_ptr<rocksdb::FSWritableFile> writable;
  std::unique_ptr<rocksdb::FSDirectory> directory;
  const std::vector<std::pair<const char*, IOStatus>> path_not_found = {
      {"sequential",
       fs_->NewSequentialFile(path, file_options_, &sequential, nullptr)},
      {"random",
       fs_->NewRandomAccessFile(path, file_options_, &random, nullptr)},
      {"random rw",
       fs_->NewRandomRWFile(path, file_options_, &random_rw, nullptr)},
      {"writable",
       fs_->NewWritableFile(path, file_options_, &writable, nullptr)},
      {"reopen",
       fs_->ReopenWritableFile(path, file_options_, &writable, nullptr)},
      {"reuse",
       fs_->ReuseWritableFile("/new", path, file_options_, &writable, nullptr)},
      {"directory", fs_->NewDirectory(path, io_options_, &directory, nullptr)},
      {"delete", Delete(path)},
      {"truncate", fs_->Truncate(path, 0, io_options_, nullptr)},
      {"create dir", fs_->CreateDir(path, io_options_, nullptr)},
      {"delete dir", fs_->DeleteDir(path, io_options_, nullptr)},
      {"size", fs_->GetFileSize(path, io_options_, &number, nullptr)},
      {"mtime",
       fs_->GetFileModificationTime(path, io_options_, &number, nullptr)},
      {"rename", Rename(path, "/x")},
      {"link", Link(path, "/x")},
      {"links", fs_->NumFileLinks(path, io_options_, &number, nullptr)},
      {"same", fs_->AreFilesSame("/", path, io_options_, &flag, nullptr)},
      {"is directory", fs_->IsDirectory(path, io_options_, &flag, nullptr)},
  };
  for (const auto& [what, status] : path_not_found) {
    EXPECT_TRUE(status.IsPathNotFound()) << what << ": " << status.ToString();
    EXPECT_NE(status.ToString().find(path), std::string::npos)
        << what << ": " << status.ToString();
  }
  EXPECT_EQ(sequential, nullptr);
  EXPECT_EQ(random, nullptr);
  EXPECT_EQ(random_rw, nullptr);
  EXPECT_EQ(writable, nullptr);
  EXPECT_EQ(directory, nullptr);

  std::vector<std::string> names = {"old"};
  std::vector<rocksdb::FileAttributes> attributes(1);
  for (const IOStatus& status :
       {Exists(path), fs_->GetChildren(path, io_options_, &names, nullptr),
        fs_->GetChildrenFileAttributes(path, io_options_, &attributes,
                                       nullptr)}) {
    EXPECT_TRUE(status.IsNotFound()) << status.ToString();
  }
  EXPECT_TRUE(names.empty());
  EXPECT_TRUE(attributes.empty());
  EXPECT_TRUE(Children("/").empty());
}

TEST_P(RocksDBNames, Directories) {
  EXPECT_TRUE(Ok(fs_->CreateDir("/a", io_options_, nullptr)));
  EXPECT_TRUE(fs_->CreateDir("/a", io_options_, nullptr).IsIOError());
  MakeDir("/a");
  MakeDir("/a/b/c//d/");
  EXPECT_TRUE(Ok(Exists("/a/b/c/d")));
  EXPECT_TRUE(Ok(Exists("//a//b/")));
  EXPECT_TRUE(Ok(Exists("/")));
  Write("/a/file", "12345");
  EXPECT_FALSE(fs_->CreateDirIfMissing("/a/file", io_options_, nullptr).ok());
  EXPECT_FALSE(fs_->CreateDir("/a/file/x", io_options_, nullptr).ok());
  EXPECT_TRUE(Exists("/a/file/x").IsNotFound());

  std::vector<std::string> names = Children("/a/");
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"b", "file"}));
  IOStatus status = fs_->GetChildren("/a/file", io_options_, &names, nullptr);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(names.empty());
  std::vector<rocksdb::FileAttributes> attributes;
  EXPECT_TRUE(Ok(
      fs_->GetChildrenFileAttributes("/a", io_options_, &attributes, nullptr)));
  ASSERT_EQ(attributes.size(), 2U);
  if (attributes[0].name != "file") std::swap(attributes[0], attributes[1]);
  EXPECT_EQ(attributes[0].name, "file");
  EXPECT_EQ(attributes[0].size_bytes, 5U);
  EXPECT_EQ(attributes[1].name, "b");

  for (const auto& [path, expected] : std::vector<std::pair<std::string, bool>>{
           {"/a", true}, {"/a/file", false}}) {
    bool is_directory = !expected;
    EXPECT_TRUE(
        Ok(fs_->IsDirectory(path, io_options_, &is_directory, nullptr)));
    EXPECT_EQ(is_directory, expected) << path;
  }
  EXPECT_FALSE(Delete("/a").ok());
  EXPECT_FALSE(fs_->DeleteDir("/a/file", io_options_, nullptr).ok());
  EXPECT_TRUE(fs_->DeleteDir("/a", io_options_, nullptr).IsIOError());
  EXPECT_TRUE(Ok(fs_->DeleteDir("/a/b/c/d", io_options_, nullptr)));
  EXPECT_TRUE(Exists("/a/b/c/d").IsNotFound());
}

TEST_P(RocksDBNames, ADirectoryIsRenamedWithWhatIsInIt) {
  MakeDir("/checkpoint.tmp/inner");
  Write("/checkpoint.tmp/inner/file", "content");
  EXPECT_TRUE(Ok(Rename("/checkpoint.tmp", "/checkpoint")));
  EXPECT_TRUE(Exists("/checkpoint.tmp").IsNotFound());
  EXPECT_EQ(Read("/checkpoint/inner/file"), "content");
  // Not into itself, and not over one that holds something.
  EXPECT_FALSE(Rename("/checkpoint", "/checkpoint/inner/x").ok());
  MakeDir("/other/full");
  EXPECT_FALSE(Rename("/checkpoint", "/other").ok());
  EXPECT_EQ(Read("/checkpoint/inner/file"), "content");
}

TEST_P(RocksDBNames, DirectorySyncs) {
  MakeDir("/d");
  Write("/d/file", "");
  std::unique_ptr<rocksdb::FSDirectory> directory;
  EXPECT_FALSE(
      fs_->NewDirectory("/d/file", io_options_, &directory, nullptr).ok());
  EXPECT_EQ(directory, nullptr);
  ASSERT_TRUE(Ok(fs_->NewDirectory("/d", io_options_, &directory, nullptr)));
  EXPECT_TRUE(Ok(directory->Fsync(io_options_, nullptr)));
  using rocksdb::DirFsyncOptions;
  for (const DirFsyncOptions& why :
       {DirFsyncOptions(DirFsyncOptions::kNewFileSynced),
        DirFsyncOptions("/d/renamed"),
        DirFsyncOptions(DirFsyncOptions::kDirRenamed),
        DirFsyncOptions(DirFsyncOptions::kFileDeleted)}) {
    EXPECT_TRUE(Ok(directory->FsyncWithDirOptions(io_options_, nullptr, why)));
  }
  EXPECT_TRUE(Ok(directory->Close(io_options_, nullptr)));
  const uint64_t flushes = fs_->volume()->device()->stats().flushes;
  EXPECT_GT(flushes, 0U);
}

TEST_P(RocksDBNames, RenameReplacesAndReadersOfTheOldFileGoOn) {
  Write("/CURRENT", "MANIFEST-000001\n");
  Write("/CURRENT.tmp", "MANIFEST-000002\n");
  const auto old = OpenRandom("/CURRENT");
  EXPECT_TRUE(Ok(Rename("/CURRENT.tmp", "/CURRENT")));
  EXPECT_TRUE(Exists("/CURRENT.tmp").IsNotFound());
  EXPECT_EQ(Read("/CURRENT"), "MANIFEST-000002\n");
  EXPECT_EQ(ReadAt(*old, 0, 100), "MANIFEST-000001\n");
  EXPECT_TRUE(Ok(Rename("/CURRENT", "/CURRENT")));
  EXPECT_EQ(Read("/CURRENT"), "MANIFEST-000002\n");
}

TEST_P(RocksDBNames, HardLinks) {
  const auto writer = Create("/000001.log");
  ASSERT_TRUE(Ok(Append(writer.get(), "while open ")));
  // A checkpoint links WALs that nobody has closed yet.
  EXPECT_TRUE(Ok(Link("/000001.log", "/linked.log")));
  ASSERT_TRUE(Ok(Append(writer.get(), "and after")));
  ASSERT_TRUE(Ok(Close(writer.get())));
  EXPECT_EQ(Read("/linked.log"), "while open and after");
  EXPECT_FALSE(Link("/000001.log", "/linked.log").ok());
  MakeDir("/d");
  EXPECT_FALSE(Link("/d", "/e").ok());

  uint64_t links = 0;
  EXPECT_TRUE(
      Ok(fs_->NumFileLinks("/linked.log", io_options_, &links, nullptr)));
  EXPECT_EQ(links, 2U);
  Write("/stranger", "");
  for (const auto& [path, expected] : std::vector<std::pair<std::string, bool>>{
           {"/linked.log", true}, {"/stranger", false}, {"/d", false}}) {
    bool same = !expected;
    EXPECT_TRUE(Ok(
        fs_->AreFilesSame("/000001.log", path, io_options_, &same, nullptr)));
    EXPECT_EQ(same, expected) << path;
  }
  bool same = false;  // wal_dir against db_path
  EXPECT_TRUE(Ok(fs_->AreFilesSame("/d", "//d/", io_options_, &same, nullptr)));
  EXPECT_TRUE(same);

  EXPECT_TRUE(Ok(Delete("/000001.log")));
  EXPECT_EQ(Read("/linked.log"), "while open and after");
  EXPECT_TRUE(
      Ok(fs_->NumFileLinks("/linked.log", io_options_, &links, nullptr)));
  EXPECT_EQ(links, 1U);
}

TEST_P(RocksDBNames, ModificationTimes) {
  const auto before = static_cast<uint64_t>(time(nullptr));
  MakeDir("/d");
  Write("/file", "x");
  const auto after = static_cast<uint64_t>(time(nullptr));
  EXPECT_TRUE(Ok(Rename("/file", "/d/file")));
  for (const char* const path : {"/d", "/d/file"}) {
    uint64_t seconds = 0;
    EXPECT_TRUE(
        Ok(fs_->GetFileModificationTime(path, io_options_, &seconds, nullptr)));
    EXPECT_GE(seconds, before) << path;
    EXPECT_LE(seconds, after) << path;
  }
}

TEST_P(RocksDBNames, ALockIsHeldOncePerProcess) {
  rocksdb::FileLock* lock = nullptr;
  MakeDir("/db");
  ASSERT_TRUE(Ok(fs_->LockFile("/db/LOCK", io_options_, &lock, nullptr)));
  ASSERT_NE(lock, nullptr);
  EXPECT_TRUE(Ok(Exists("/db/LOCK")));
  const auto other = volume_.Mount();
  for (DioFileSystem* const fs : {fs_.get(), other.get()}) {
    for (const char* const path : {"/db/LOCK", "//db/LOCK"}) {
      rocksdb::FileLock* second = lock;
      const IOStatus status = fs->LockFile(path, io_options_, &second, nullptr);
      EXPECT_TRUE(status.IsIOError()) << status.ToString();
      EXPECT_NE(status.ToString().find("LOCK"), std::string::npos);
      EXPECT_EQ(second, nullptr);
    }
  }
  EXPECT_TRUE(Ok(fs_->UnlockFile(lock, io_options_, nullptr)));
  EXPECT_TRUE(Ok(other->LockFile("/db/LOCK", io_options_, &lock, nullptr)));
  EXPECT_TRUE(Ok(other->UnlockFile(lock, io_options_, nullptr)));
}

TEST_P(RocksDBNames, TestDirectoryAndAbsolutePaths) {
  const char* const given = getenv("TEST_TMPDIR");
  const std::string before = given == nullptr ? "" : given;
  std::string path;
  unsetenv("TEST_TMPDIR");
  EXPECT_TRUE(Ok(fs_->GetTestDirectory(io_options_, &path, nullptr)));
  EXPECT_EQ(path, "/tmp/rocksdbtest-" + std::to_string(geteuid()));
  EXPECT_TRUE(Ok(Exists(path)));
  setenv("TEST_TMPDIR", "/some/where", 1);
  EXPECT_TRUE(Ok(fs_->GetTestDirectory(io_options_, &path, nullptr)));
  EXPECT_EQ(path, "/some/where");
  EXPECT_TRUE(Ok(Exists(path)));
  if (given == nullptr) {
    unsetenv("TEST_TMPDIR");
  } else {
    setenv("TEST_TMPDIR", before.c_str(), 1);
  }

  EXPECT_TRUE(Ok(fs_->GetAbsolutePath("/a/b", io_options_, &path, nullptr)));
  EXPECT_EQ(path, "/a/b");
  EXPECT_TRUE(Ok(fs_->GetAbsolutePath("a/b", io_options_, &path, nullptr)));
  EXPECT_EQ(path, "/a/b");
}

TEST_P(RocksDBNames, AFullDeviceIsNoSpaceAndDeletingHelps) {
  const uint64_t at_first = FreeSpace();
  ASSERT_GT(at_first, TestVolume::kDefaultBytes / 2);
  ASSERT_LT(at_first, TestVolume::kDefaultBytes);
  const std::string piece(4 << 20, 'x');
  const auto file = Create("/000001.sst");
  IOStatus status;
  uint64_t appended = 0;
  for (int i = 0; status.ok() && i < 64; ++i) {
    status = Append(file.get(), piece);
    if (status.ok()) appended += piece.size();
  }
  EXPECT_TRUE(status.IsNoSpace()) << status.ToString();
  EXPECT_TRUE(status.GetRetryable());
  EXPECT_NE(status.ToString().find("/000001.sst"), std::string::npos);
  EXPECT_EQ(file->GetFileSize(io_options_, nullptr), appended);
  EXPECT_LT(FreeSpace(), piece.size());
  // The reserve lets RocksDB go on logging what it deletes.
  const auto manifest = Create("/MANIFEST-000002");
  EXPECT_TRUE(Ok(Append(manifest.get(), "record")));
  EXPECT_TRUE(Ok(Sync(manifest.get())));

  EXPECT_TRUE(Ok(Close(file.get())));
  EXPECT_TRUE(Ok(Delete("/000001.sst")));
  EXPECT_TRUE(Ok(Close(manifest.get())));
  EXPECT_LT(FreeSpace(), at_first / 2) << "freed while a handle was open";
}

TEST_P(RocksDBNames, FreedSpaceCanBeUsedAgain) {
  const uint64_t at_first = FreeSpace();
  const std::string piece(at_first / 2, 'x');
  for (int i = 0; i < 4; ++i) {
    Write("/000001.sst", piece);  // also over the one that is there
    EXPECT_LE(FreeSpace(), at_first - piece.size());
  }
  EXPECT_TRUE(Ok(Delete("/000001.sst")));
  EXPECT_EQ(FreeSpace(), at_first);
}

TEST_P(RocksDBNames, TheInfoLogIsOnTheVolume) {
  std::shared_ptr<rocksdb::Logger> logger;
  MakeDir("/db");
  ASSERT_TRUE(Ok(fs_->NewLogger("/db/LOG", io_options_, &logger, nullptr)));
  logger->SetInfoLogLevel(rocksdb::InfoLogLevel::INFO_LEVEL);
  rocksdb::Log(logger.get(), "seven is %d", 7);
  logger->Flush();
  const std::string log = Read("/db/LOG");
  EXPECT_NE(log.find("seven is 7"), std::string::npos) << log;
  EXPECT_TRUE(logger->Close().ok());
}

TEST_P(RocksDBNames, EverythingIsThereAfterAMount) {
  MakeDir("/a/b");
  const std::string data = TestBytes(7, 300001);
  Write("/a/b/000001.sst", data);
  Write("/a/000002.log", data.substr(5));
  EXPECT_TRUE(Ok(Link("/a/b/000001.sst", "/link.sst")));
  EXPECT_TRUE(Ok(Rename("/a/000002.log", "/a/000003.log")));
  Write("/deleted", data);
  EXPECT_TRUE(Ok(Delete("/deleted")));
  const uint64_t free_space = FreeSpace();
  Remount();
  EXPECT_EQ(Read("/a/b/000001.sst"), data);
  EXPECT_EQ(Read("/link.sst"), data);
  EXPECT_EQ(Read("/a/000003.log"), data.substr(5));
  EXPECT_TRUE(Exists("/a/000002.log").IsNotFound());
  EXPECT_TRUE(Exists("/deleted").IsNotFound());
  EXPECT_EQ(FreeSpace(), free_space);
  bool same = false;
  EXPECT_TRUE(Ok(fs_->AreFilesSame("/a/b/000001.sst", "/link.sst", io_options_,
                                   &same, nullptr)));
  EXPECT_TRUE(same);
}

TEST_P(RocksDBNames, AReadOnlyMountReadsAndRefusesChanges) {
  Write("/file", "content");
  Remount("ro=1");
  EXPECT_EQ(Read("/file"), "content");
  std::unique_ptr<rocksdb::FSWritableFile> file;
  std::unique_ptr<rocksdb::FSRandomRWFile> random_rw;
  for (const IOStatus& status :
       {fs_->NewWritableFile("/new", file_options_, &file, nullptr),
        fs_->NewWritableFile("/file", file_options_, &file, nullptr),
        fs_->ReopenWritableFile("/file", file_options_, &file, nullptr),
        fs_->NewRandomRWFile("/file", file_options_, &random_rw, nullptr),
        fs_->CreateDir("/d", io_options_, nullptr), Delete("/file"),
        Rename("/file", "/x"), Link("/file", "/x"),
        fs_->Truncate("/file", 1, io_options_, nullptr)}) {
    EXPECT_TRUE(status.IsIOError()) << status.ToString();
    EXPECT_NE(status.ToString().find("ead-only"), std::string::npos)
        << status.ToString();
  }
  Remount();
  EXPECT_EQ(Read("/file"), "content");
  EXPECT_EQ(Children("/"), std::vector<std::string>{"file"});
}

TEST_P(RocksDBNames, AForkedChildTouchesNothing) {
  Write("/file", "content");
  const auto reader = OpenRandom("/file");
  const auto writer = Create("/writer");
  EXPECT_TRUE(Ok(Append(writer.get(), "parent")));
  ChildProcess child([&](const ChildProcess::Parent&) {
    char memory[16];
    rocksdb::Slice slice;
    EXPECT_FALSE(Exists("/file").ok());
    EXPECT_FALSE(Delete("/file").ok());
    EXPECT_FALSE(reader->Read(0, 7, io_options_, &slice, memory, nullptr).ok());
    EXPECT_FALSE(Flush(writer.get()).ok());
    EXPECT_FALSE(Sync(writer.get()).ok());
    EXPECT_FALSE(Close(writer.get()).ok());
    return !HasFailure();
  });
  const int status = child.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(Ok(Close(writer.get())));
  EXPECT_EQ(Read("/writer"), "parent");
  EXPECT_EQ(Read("/file"), "content");
}

TEST_P(RocksDBNames, NothingIsMappedAndNothingIsDirect) {
  std::unique_ptr<rocksdb::MemoryMappedFileBuffer> buffer;
  Write("/file", "content");
  EXPECT_TRUE(
      fs_->NewMemoryMappedFileBuffer("/file", &buffer).IsNotSupported());

  FileOptions all;
  all.use_direct_reads = true;
  all.use_direct_writes = true;
  all.use_mmap_writes = true;
  all.use_mmap_reads = true;
  all.bytes_per_sync = 12345;
  const rocksdb::DBOptions db_options;
  // Only ever passed on; its definition is RocksDB's own.
  alignas(64) static const char immutable[8192] = {};
  const auto& immutable_options =
      reinterpret_cast<const rocksdb::ImmutableDBOptions&>(immutable);
  FileOptions sanitized = all;
  fs_->SanitizeFileOptions(&sanitized);
  for (const FileOptions& options :
       {sanitized, fs_->OptimizeForLogRead(all),
        fs_->OptimizeForManifestRead(all),
        fs_->OptimizeForLogWrite(all, db_options),
        fs_->OptimizeForManifestWrite(all),
        fs_->OptimizeForCompactionTableWrite(all, immutable_options),
        fs_->OptimizeForCompactionTableRead(all, immutable_options),
        fs_->OptimizeForBlobFileRead(all, immutable_options)}) {
    EXPECT_FALSE(options.use_direct_reads);
    EXPECT_FALSE(options.use_direct_writes);
    EXPECT_FALSE(options.use_mmap_writes);
    EXPECT_TRUE(options.use_mmap_reads);
  }
  EXPECT_EQ(sanitized.bytes_per_sync, 12345U);
  EXPECT_EQ(fs_->OptimizeForCompactionTableRead(all, immutable_options)
                .compaction_readahead_size,
            size_t{2} << 20);
  all.compaction_readahead_size = 4096;
  EXPECT_EQ(fs_->OptimizeForCompactionTableRead(all, immutable_options)
                .compaction_readahead_size,
            4096U);
}

}  // namespace
}  // namespace diofs
