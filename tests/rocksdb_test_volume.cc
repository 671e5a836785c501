#include "tests/rocksdb_test_volume.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <random>
#include <utility>

#include "dio/open_device.h"
#include "env/volume.h"
#include "rocksdb/convenience.h"

namespace diofs {

const char* MediumName(Medium medium) {
  switch (medium) {
    case Medium::kLoop512:
      return "Loop512";
    case Medium::kLoop4096:
      return "Loop4096";
    default:
      return "Image";
  }
}

TestVolume::TestVolume(Medium medium, uint64_t bytes)
    : path_(directory_.File("image")) {
  Make(medium, bytes);
}

void TestVolume::Make(Medium medium, uint64_t bytes) {
  Result made = CreateImageFile(path_, bytes, /*allocate=*/false);
  ASSERT_TRUE(made.ok()) << made.ToString();
  if (medium != Medium::kImage) {
    if (geteuid() != 0) {
      missing_ = "loop devices need root";
      return;
    }
    loop_ = std::make_unique<LoopDevice>(
        path_, medium == Medium::kLoop512 ? 512 : 4096);
    if (!loop_->ok()) {
      missing_ = "no loop device to be had";
      return;
    }
    path_ = loop_->path();
  }
  std::unique_ptr<BlockDevice> device;
  Result opened = OpenBlockDevice(path_, OpenDeviceOptions(), &device);
  ASSERT_TRUE(opened.ok()) << opened.ToString();
  FormatOptions format;
  format.write_every_block = false;
  Result formatted = Volume::Format(device.get(), format);
  ASSERT_TRUE(formatted.ok()) << formatted.ToString();
}

std::string TestVolume::Uri(const std::string& options) const {
  return "dio://" + path_ + (options.empty() ? "" : "?" + options);
}

std::shared_ptr<DioFileSystem> TestVolume::Mount(
    const std::string& options) const {
  std::shared_ptr<rocksdb::FileSystem> file_system;
  const rocksdb::Status status = rocksdb::FileSystem::CreateFromString(
      rocksdb::ConfigOptions(), Uri(options), &file_system);
  EXPECT_TRUE(status.ok()) << status.ToString();
  if (!status.ok() || file_system == nullptr) return nullptr;
  EXPECT_STREQ(file_system->Name(), DioFileSystem::kClassName());
  return std::static_pointer_cast<DioFileSystem>(file_system);
}

std::unique_ptr<rocksdb::Env> TestVolume::MountEnv(
    const std::string& options) const {
  std::shared_ptr<DioFileSystem> file_system = Mount(options);
  if (file_system == nullptr) return nullptr;
  return rocksdb::NewCompositeEnv(file_system);
}

std::string TestBytes(uint64_t seed, size_t bytes) {
  std::mt19937_64 random(seed);
  std::string result(bytes, '\0');
  for (char& c : result) c = static_cast<char>(random() & 0xff);
  return result;
}

}  // namespace diofs
