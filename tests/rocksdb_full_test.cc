// ctest: TIMEOUT=600

// A database that fills its volume to the last block, and goes on by itself
// when somebody deletes something.

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "dio/open_device.h"
#include "env/fsck.h"
#include "rocksdb/db.h"
#include "rocksdb/sst_file_manager.h"
#include "tests/rocksdb_file_system_fixture.h"
#include "tests/rocksdb_test_volume.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

using rocksdb::DB;
using rocksdb::Options;
using rocksdb::Status;
using rocksdb::WriteOptions;

constexpr uint64_t kVolumeBytes = 64 << 20;
constexpr uint64_t kBallastBytes = 24 << 20;

std::string Key(uint64_t number) { return "key" + std::to_string(number); }

class FullVolume : public testing::TestWithParam<bool> {
 protected:
  FullVolume() : volume_(Medium::kImage, kVolumeBytes) {}

  void SetUp() override {
    fs_ = volume_.Mount();
    ASSERT_NE(fs_, nullptr);
    env_ = rocksdb::NewCompositeEnv(fs_);
    const Result ballast = WriteFile(fs_->volume().get(), "/ballast.sst",
                                     std::string(kBallastBytes, 'b'), true);
    ASSERT_TRUE(ballast.ok()) << ballast.ToString();
    Open();
  }
  void Open() {
    Options options;
    options.env = env_.get();
    options.create_if_missing = true;
    options.paranoid_checks = true;
    options.compression = rocksdb::kNoCompression;
    options.write_buffer_size = 1 << 20;
    options.target_file_size_base = 1 << 20;
    options.max_bytes_for_level_base = 4 << 20;
    // It watches the free space, and resumes when there is some.
    options.sst_file_manager.reset(rocksdb::NewSstFileManager(env_.get()));
    DB* db = nullptr;
    ASSERT_TRUE(Ok(DB::Open(options, "/db", &db)));
    db_.reset(db);
  }
  Status Put(uint64_t number) {
    WriteOptions options;
    options.sync = GetParam() && number % 16 == 0;
    return db_->Put(options, Key(number), Value(number));
  }
  static std::string Value(uint64_t number) {
    return Pattern(TestSeed() + number, 4000);
  }
  void ExpectKeys(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      std::string value;
      ASSERT_TRUE(Ok(db_->Get({}, Key(i), &value))) << i << " of " << count;
      ASSERT_TRUE(value == Value(i)) << i;
    }
  }

  TestVolume volume_;
  std::shared_ptr<DioFileSystem> fs_;
  std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<DB> db_;
};

TEST_P(FullVolume, RecoversWhenFilesAreDeleted) {
  uint64_t written = 0;
  Status status;
  while ((status = Put(written)).ok()) {
    ASSERT_LT(++written * 4000, kVolumeBytes) << "it never got full";
  }
  EXPECT_TRUE(status.IsNoSpace()) << status.ToString();
  EXPECT_GT(written * 4000, (kVolumeBytes - kBallastBytes) / 4);
  ExpectKeys(written);

  ASSERT_TRUE(Ok(fs_->DeleteFile("/ballast.sst", {}, nullptr)));
  // Nobody calls Resume.
  for (int tenths = 0; tenths < 600 && !(status = Put(written)).ok();
       ++tenths) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ASSERT_TRUE(Ok(status));
  ++written;
  for (int i = 0; i < 1000; ++i, ++written) ASSERT_TRUE(Ok(Put(written)));
  ExpectKeys(written);
  ASSERT_TRUE(Ok(db_->Flush({})));
  db_.reset();
  Open();
  ExpectKeys(written);
  db_.reset();
  env_.reset();
  fs_.reset();

  OpenDeviceOptions read_only;
  read_only.read_only = true;
  std::unique_ptr<BlockDevice> device;
  ASSERT_TRUE(OpenBlockDevice(volume_.path(), read_only, &device).ok());
  FsckReport report;
  ASSERT_TRUE(Fsck(std::move(device), &report).ok());
  for (const std::string& problem : report.problems) ADD_FAILURE() << problem;
}

INSTANTIATE_TEST_SUITE_P(Syncs, FullVolume, testing::Bool());

}  // namespace
}  // namespace diofs
