#ifndef DIOFS_TESTS_ROCKSDB_FILE_SYSTEM_FIXTURE_H_
#define DIOFS_TESTS_ROCKSDB_FILE_SYSTEM_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "rocksdb/file_system.h"
#include "tests/rocksdb_test_volume.h"

namespace diofs {

// EXPECT_TRUE(Ok(status)) tells what the status says.
inline testing::AssertionResult Ok(const rocksdb::Status& status) {
  if (status.ok()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << status.ToString();
}

// A mounted volume on each medium, and the calls of a FileSystem with the
// arguments left out that nobody varies.
class FileSystemTest : public testing::TestWithParam<Medium> {
 protected:
  FileSystemTest() : volume_(GetParam()) {}

  void SetUp() override {
    if (!volume_.missing().empty()) GTEST_SKIP() << volume_.missing();
    Remount();
  }

  // All files and locks have to be gone.
  void Remount(const std::string& options = std::string()) {
    fs_.reset();
    fs_ = volume_.Mount(options);
    ASSERT_NE(fs_, nullptr);
  }

  std::unique_ptr<rocksdb::FSWritableFile> Create(const std::string& path) {
    std::unique_ptr<rocksdb::FSWritableFile> file;
    EXPECT_TRUE(Ok(fs_->NewWritableFile(path, file_options_, &file, nullptr)));
    return file;
  }
  std::unique_ptr<rocksdb::FSWritableFile> Reopen(const std::string& path) {
    std::unique_ptr<rocksdb::FSWritableFile> file;
    EXPECT_TRUE(
        Ok(fs_->ReopenWritableFile(path, file_options_, &file, nullptr)));
    return file;
  }
  std::unique_ptr<rocksdb::FSSequentialFile> OpenSequential(
      const std::string& path) {
    std::unique_ptr<rocksdb::FSSequentialFile> file;
    EXPECT_TRUE(
        Ok(fs_->NewSequentialFile(path, file_options_, &file, nullptr)));
    return file;
  }
  std::unique_ptr<rocksdb::FSRandomAccessFile> OpenRandom(
      const std::string& path) {
    std::unique_ptr<rocksdb::FSRandomAccessFile> file;
    EXPECT_TRUE(
        Ok(fs_->NewRandomAccessFile(path, file_options_, &file, nullptr)));
    return file;
  }
  std::unique_ptr<rocksdb::FSRandomRWFile> OpenRandomRW(
      const std::string& path) {
    std::unique_ptr<rocksdb::FSRandomRWFile> file;
    EXPECT_TRUE(Ok(fs_->NewRandomRWFile(path, file_options_, &file, nullptr)));
    return file;
  }

  rocksdb::IOStatus Append(rocksdb::FSWritableFile* file,
                           const std::string& data) {
    return file->Append(data, io_options_, nullptr);
  }
  rocksdb::IOStatus Flush(rocksdb::FSWritableFile* file) {
    return file->Flush(io_options_, nullptr);
  }
  rocksdb::IOStatus Sync(rocksdb::FSWritableFile* file) {
    return file->Sync(io_options_, nullptr);
  }
  rocksdb::IOStatus Close(rocksdb::FSWritableFile* file) {
    return file->Close(io_options_, nullptr);
  }
  // A finished file.
  void Write(const std::string& path, const std::string& data) {
    const auto file = Create(path);
    ASSERT_NE(file, nullptr);
    EXPECT_TRUE(Ok(Append(file.get(), data)));
    EXPECT_TRUE(Ok(Close(file.get())));
  }

  // What a sequential file has left, `chunk` bytes at a time.
  std::string ReadOn(rocksdb::FSSequentialFile* file, size_t chunk = 100000) {
    std::string all;
    std::string scratch(chunk, '\0');
    while (true) {
      rocksdb::Slice part;
      EXPECT_TRUE(
          Ok(file->Read(chunk, io_options_, &part, scratch.data(), nullptr)));
      all.append(part.data(), part.size());
      if (part.size() < chunk) return all;
    }
  }
  std::string Read(const std::string& path) {
    const auto file = OpenSequential(path);
    return file == nullptr ? std::string() : ReadOn(file.get());
  }
  template <typename File>  // FSRandomAccessFile, FSRandomRWFile
  std::string ReadAt(const File& file, uint64_t offset, size_t length) {
    std::string scratch(length, '\0');
    rocksdb::Slice part;
    EXPECT_TRUE(Ok(file.Read(offset, length, io_options_, &part, scratch.data(),
                             nullptr)));
    EXPECT_TRUE(part.empty() || part.data() == scratch.data());
    return part.ToString();
  }

  rocksdb::IOStatus Exists(const std::string& path) {
    return fs_->FileExists(path, io_options_, nullptr);
  }
  uint64_t SizeOf(const std::string& path) {
    uint64_t bytes = 0;
    EXPECT_TRUE(Ok(fs_->GetFileSize(path, io_options_, &bytes, nullptr)));
    return bytes;
  }
  std::vector<std::string> Children(const std::string& path) {
    std::vector<std::string> names;
    EXPECT_TRUE(Ok(fs_->GetChildren(path, io_options_, &names, nullptr)));
    return names;
  }
  void MakeDir(const std::string& path) {
    EXPECT_TRUE(Ok(fs_->CreateDirIfMissing(path, io_options_, nullptr)));
  }

  const rocksdb::FileOptions file_options_;
  const rocksdb::IOOptions io_options_;
  TestVolume volume_;
  std::shared_ptr<DioFileSystem> fs_;
};

inline auto AllMedia() {
  return testing::Values(Medium::kImage, Medium::kLoop512, Medium::kLoop4096);
}
inline std::string NameOfMedium(const testing::TestParamInfo<Medium>& info) {
  return MediumName(info.param);
}

}  // namespace diofs

#endif  // DIOFS_TESTS_ROCKSDB_FILE_SYSTEM_FIXTURE_H_
