// ctest: TIMEOUT=600
// ctest: one-thread

// The n-th allocation fails beneath RocksDB, for every n there is: no exception
// reaches it, nothing hangs, and what was acknowledged is there.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "dio/open_device.h"
#include "env/fsck.h"
#include "env/rocksdb_file_system.h"
#include "env/volume_options.h"
#include "rocksdb/convenience.h"
#include "tests/allocation_faults.h"
#include "tests/rocksdb_test_volume.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

using rocksdb::FSReadRequest;
using rocksdb::IOStatus;
using rocksdb::Slice;

constexpr uint64_t kVolumeBytes = 32 << 20;

// Calls as RocksDB makes them, each of which may fail.
class Calls {
 public:
  explicit Calls(std::shared_ptr<DioFileSystem> fs) : fs_(std::move(fs)) {}

  // All of them. What was synced last is under kSynced, if synced() says so.
  void Run() {
    Try([&] { return fs_->CreateDirIfMissing("/m", io_, nullptr); });
    WriteFile("/m/000001.log", 3000, 70000);
    WriteFile("/m/000002.sst", 300000, 10000);
    ReadFile("/m/000002.sst");
    ReadFile("/m/000001.log");
    Overwrite("/m/000002.sst");
    Names();
    Lock();
    synced_ = WriteFile(kSynced, 5000, 5000);
  }

  static constexpr const char* kSynced = "/m/MANIFEST-000003";
  bool synced() const { return synced_; }
  std::string content() const {
    return TestBytes(1, 5000) + TestBytes(2, 5000);
  }
  int failed() const { return failed_; }

 private:
  bool Try(const std::function<IOStatus()>& call) {
    IOStatus status;
    try {
      const AllocationScope counted(true);
      status = call();
    } catch (const std::exception& error) {
      ADD_FAILURE() << "an exception: " << error.what();
    }
    if (!status.ok()) ++failed_;
    return status.ok();
  }
  template <typename File>
  void Drop(std::unique_ptr<File>* file) {
    Try([&] {
      file->reset();
      return IOStatus::OK();
    });
  }

  bool WriteFile(const std::string& path, size_t first, size_t second) {
    const std::string head = TestBytes(1, first);
    const std::string rest = TestBytes(2, second);
    std::unique_ptr<rocksdb::FSWritableFile> file;
    bool ok =
        Try([&] { return fs_->NewWritableFile(path, files_, &file, nullptr); });
    if (file == nullptr) return false;
    file->SetPreallocationBlockSize(1 << 20);
    ok = Try([&] { return file->Append(head, io_, nullptr); }) && ok;
    ok = Try([&] { return file->Flush(io_, nullptr); }) && ok;
    ok = Try([&] { return file->Append(rest, io_, nullptr); }) && ok;
    ok = Try([&] { return file->RangeSync(0, first, io_, nullptr); }) && ok;
    const bool synced = Try([&] { return file->Sync(io_, nullptr); }) && ok;
    Try([&] { return file->Close(io_, nullptr); });
    Drop(&file);
    return synced;
  }

  void ReadFile(const std::string& path) {
    std::unique_ptr<rocksdb::FSRandomAccessFile> file;
    std::string scratch(100000, '\0');
    Slice read;
    Try([&] { return fs_->NewRandomAccessFile(path, files_, &file, nullptr); });
    if (file != nullptr) {
      Try([&] {
        return file->Read(100, 5000, io_, &read, scratch.data(), nullptr);
      });
      std::array<FSReadRequest, 8> requests;
      for (size_t i = 0; i < requests.size(); ++i) {
        requests[i].offset = i * 8000;
        requests[i].len = 700;
        requests[i].scratch = scratch.data() + i * 1000;
      }
      Try([&] {
        return file->MultiRead(requests.data(), requests.size(), io_, nullptr);
      });
      ReadAsync(file.get(), scratch.data());
    }
    Drop(&file);
    std::unique_ptr<rocksdb::FSSequentialFile> sequential;
    Try([&] {
      return fs_->NewSequentialFile(path, files_, &sequential, nullptr);
    });
    if (sequential != nullptr) {
      Try([&] {
        return sequential->Read(5000, io_, &read, scratch.data(), nullptr);
      });
    }
    Drop(&sequential);
  }

  void ReadAsync(rocksdb::FSRandomAccessFile* file, char* scratch) {
    std::array<void*, 2> handles = {};
    rocksdb::IOHandleDeleter deleter;
    int calls = 0;
    int started = 0;
    const std::function<void(const FSReadRequest&, void*)> callback =
        [&](const FSReadRequest&, void*) { ++calls; };
    for (size_t i = 0; i < handles.size(); ++i) {
      FSReadRequest request;
      request.offset = 5000 * i;
      request.len = 3000;
      request.scratch = scratch + 5000 * i;
      started += Try([&] {
        return file->ReadAsync(request, io_, callback, nullptr, &handles[i],
                               &deleter, nullptr);
      });
    }
    std::vector<void*> polled(handles.begin(), handles.end());
    Try([&] { return fs_->Poll(polled, polled.size()); });
    EXPECT_EQ(calls, started);
    for (void* const handle : handles) {
      if (handle != nullptr) deleter(handle);
    }
  }

  void Overwrite(const std::string& path) {
    const std::string data = TestBytes(3, 6000);
    std::unique_ptr<rocksdb::FSRandomRWFile> file;
    Try([&] { return fs_->NewRandomRWFile(path, files_, &file, nullptr); });
    if (file != nullptr) {
      Try([&] { return file->Write(777, data, io_, nullptr); });
      Try([&] { return file->Sync(io_, nullptr); });
      Try([&] { return file->Close(io_, nullptr); });
    }
    Drop(&file);
    Try([&] { return fs_->Truncate(path, 10000, io_, nullptr); });
  }

  void Names() {
    std::vector<std::string> names;
    std::vector<rocksdb::FileAttributes> attributes;
    std::string path;
    uint64_t number = 0;
    std::unique_ptr<rocksdb::FSWritableFile> file;
    std::unique_ptr<rocksdb::FSDirectory> directory;
    Try([&] { return fs_->GetChildren("/m", io_, &names, nullptr); });
    Try([&] {
      return fs_->GetChildrenFileAttributes("/m", io_, &attributes, nullptr);
    });
    Try([&] { return fs_->LinkFile("/m/000002.sst", "/m/2", io_, nullptr); });
    Try([&] { return fs_->RenameFile("/m/2", "/m/3", io_, nullptr); });
    Try([&] { return fs_->GetFileSize("/m/3", io_, &number, nullptr); });
    Try([&] { return fs_->DeleteFile("/m/3", io_, nullptr); });
    Try([&] { return fs_->NewDirectory("/m", io_, &directory, nullptr); });
    if (directory != nullptr) {
      Try([&] { return directory->Fsync(io_, nullptr); });
    }
    Try([&] {
      return fs_->ReuseWritableFile("/m/000004.log", "/m/000001.log", files_,
                                    &file, nullptr);
    });
    Drop(&file);
    Try([&] { return fs_->DeleteFile("/m/000004.log", io_, nullptr); });
    const std::string relative = "some/path/of/a/database";
    Try([&] { return fs_->GetAbsolutePath(relative, io_, &path, nullptr); });
    Try([&] { return fs_->GetTestDirectory(io_, &path, nullptr); });
    Try([&] { return fs_->GetFreeSpace("/m", io_, &number, nullptr); });
  }

  void Lock() {
    rocksdb::FileLock* lock = nullptr;
    Try([&] { return fs_->LockFile("/m/LOCK", io_, &lock, nullptr); });
    if (lock == nullptr) return;
    Try([&] { return fs_->UnlockFile(lock, io_, nullptr); });
  }

  const std::shared_ptr<DioFileSystem> fs_;
  const rocksdb::FileOptions files_;
  const rocksdb::IOOptions io_;
  bool synced_ = false;
  int failed_ = 0;
};

struct Case {
  const char* backend;
  bool forever;
};

void PrintTo(const Case& wanted, std::ostream* out) {
  *out << wanted.backend << (wanted.forever ? " forever" : " once");
}

class MemoryTest : public testing::TestWithParam<Case> {
 protected:
  // Of a volume that nobody has mounted.
  std::string FsckProblem() {
    std::unique_ptr<BlockDevice> device;
    OpenDeviceOptions options;
    options.read_only = true;
    if (Result r = OpenBlockDevice(volume_.path(), options, &device); !r.ok()) {
      return r.ToString();
    }
    FsckReport report;
    if (Result r = Fsck(std::move(device), &report); !r.ok()) {
      return r.ToString();
    }
    return report.problems.empty() ? "" : report.problems[0];
  }

  std::string ReadSynced() {
    const auto fs = volume_.Mount();
    std::unique_ptr<rocksdb::FSSequentialFile> file;
    if (!fs->NewSequentialFile(Calls::kSynced, rocksdb::FileOptions(), &file,
                               nullptr)
             .ok()) {
      return "no such file";
    }
    std::string scratch(20000, '\0');
    Slice read;
    const IOStatus status = file->Read(scratch.size(), rocksdb::IOOptions(),
                                       &read, scratch.data(), nullptr);
    return status.ok() ? read.ToString() : status.ToString();
  }

  TestVolume volume_{Medium::kImage, kVolumeBytes};
};

TEST_P(MemoryTest, OfTheNthAllocation) {
  const AllocationScope not_counted(false);
  const std::string options =
      std::string("backend=") + GetParam().backend + "&checksums=1";
  const uint64_t stride = 1000 / ScaledRounds(1000);
  bool met = true;
  int failed = 0;
  uint64_t n = 1 + TestSeed() % stride;
  for (; met; n += stride) {
    SCOPED_TRACE("n = " + std::to_string(n));
    bool synced = false;
    std::string content;
    {
      Calls calls(volume_.Mount(options));
      AllocationFaults::FailNth(n, GetParam().forever);
      calls.Run();
      met = AllocationFaults::Stop();
      synced = calls.synced();
      content = calls.content();
      failed += calls.failed() > 0;
    }
    EXPECT_EQ(FsckProblem(), "");
    if (synced) {
      EXPECT_EQ(ReadSynced(), content);
    }
    if (HasFailure()) break;
  }
  std::printf("%llu allocations, %d runs with errors\n",
              static_cast<unsigned long long>(n), failed);
  EXPECT_GT(failed, 0);
}

// A mount that failed leaves nothing behind: the next one need not wait.
TEST_P(MemoryTest, AMountThatFailedMayBeTriedAgain) {
  const AllocationScope not_counted(false);
  VolumeOptions options;
  options.path = volume_.path();
  options.lock_wait_ms = 0;
  ASSERT_TRUE(SetVolumeOption("backend", GetParam().backend, &options).ok());
  const uint64_t stride = 1000 / ScaledRounds(1000);
  bool met = true;
  int failed = 0;
  for (uint64_t n = 1 + TestSeed() % stride; met; n += stride) {
    SCOPED_TRACE("n = " + std::to_string(n));
    DioFileSystem fs(options);
    const rocksdb::ConfigOptions config;
    rocksdb::Status status;
    {
      const AllocationScope counted(true);
      AllocationFaults::FailNth(n, GetParam().forever);
      // The second half of it is RocksDB's own.
      try {
        status = fs.PrepareOptions(config);
      } catch (const std::bad_alloc&) {
        status = rocksdb::Status::MemoryLimit();
      }
      met = AllocationFaults::Stop();
    }
    failed += !status.ok();
    status = fs.PrepareOptions(config);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_TRUE(
        fs.FileExists("/x", rocksdb::IOOptions(), nullptr).IsNotFound());
    if (HasFailure()) break;
  }
  EXPECT_GT(failed, 0);
}

INSTANTIATE_TEST_SUITE_P(
    With, MemoryTest,
    testing::Values(Case{"uring", false}, Case{"threads", false},
                    Case{"sync", false}, Case{"uring", true},
                    Case{"threads", true}, Case{"sync", true}),
    [](const testing::TestParamInfo<Case>& param) {
      return std::string(param.param.backend) +
             (param.param.forever ? "Forever" : "Once");
    });

}  // namespace
}  // namespace diofs
