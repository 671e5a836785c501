#include "env/rocksdb_io_priority.h"

#include <gtest/gtest.h>
#include <linux/ioprio.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "env/rocksdb_random_access_file.h"
#include "env/rocksdb_random_rw_file.h"
#include "env/rocksdb_sequential_file.h"
#include "env/rocksdb_writable_file.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

using rocksdb::Env;
using rocksdb::FSReadRequest;
using rocksdb::IOOptions;
using rocksdb::Slice;

constexpr size_t kFileBytes = 256 << 10;

constexpr uint16_t BestEffort(int level) {
  return static_cast<uint16_t>(IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, level));
}

struct Expectation {
  Env::IOPriority asked;
  uint16_t ioprio;
};
constexpr Expectation kExpected[] = {{Env::IO_LOW, BestEffort(7)},
                                     {Env::IO_MID, BestEffort(6)},
                                     {Env::IO_HIGH, BestEffort(5)},
                                     {Env::IO_USER, 0},
                                     {Env::IO_TOTAL, 0}};

IOOptions With(Env::IOPriority priority) {
  IOOptions options;
  options.rate_limiter_priority = priority;
  return options;
}

// What RocksDB asks of the files at the edge, seen from the device.
class RocksDBIoPriority : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(
        MountSim(FormattedSim(32 << 20), MountOptions(), &volume_, &sim_).ok());
    content_ = Pattern(TestSeed(), kFileBytes);
    ASSERT_TRUE(WriteFile(volume_.get(), "/1.sst", content_, true).ok());
    ASSERT_TRUE(volume_->Open("/1.sst", &file_).ok());
    memory_.resize(kFileBytes);
    sim_->ClearEvents();
  }

  // The data that went by since the last call, all with one priority.
  void ExpectPriority(uint16_t ioprio) {
    size_t transfers = 0;
    for (const SimEvent& event : sim_->Submissions()) {
      if (event.io_class != IoClassOf(FileKind::kSst)) continue;
      EXPECT_EQ(ioprio, event.ioprio);
      ++transfers;
    }
    EXPECT_LT(0u, transfers);
    sim_->ClearEvents();
  }

  SimDevice* sim_ = nullptr;
  std::shared_ptr<Volume> volume_;
  OpenFilePtr file_;
  std::string content_;
  std::string memory_;
};

TEST_F(RocksDBIoPriority, OfReads) {
  DioRandomAccessFile random(file_, "/1.sst");
  Slice result;
  for (const Expectation& expected : kExpected) {
    SCOPED_TRACE(expected.asked);
    const IOOptions options = With(expected.asked);
    ASSERT_TRUE(
        random.Read(5, 9000, options, &result, memory_.data(), nullptr).ok());
    ExpectPriority(expected.ioprio);

    FSReadRequest requests[2];
    requests[0].offset = 1;
    requests[1].offset = 100'000;
    requests[0].len = requests[1].len = 5000;
    requests[0].scratch = memory_.data();
    requests[1].scratch = memory_.data() + 5000;
    ASSERT_TRUE(random.MultiRead(requests, 2, options, nullptr).ok());
    ExpectPriority(expected.ioprio);

    void* handle = nullptr;
    rocksdb::IOHandleDeleter deleter;
    ASSERT_TRUE(random
                    .ReadAsync(
                        requests[0], options,
                        [](const FSReadRequest&, void*) {}, nullptr, &handle,
                        &deleter, nullptr)
                    .ok());
    deleter(handle);
    ExpectPriority(expected.ioprio);

    DioSequentialFile sequential(file_, "/1.sst");
    ASSERT_TRUE(
        sequential.Read(100, options, &result, memory_.data(), nullptr).ok());
    ExpectPriority(expected.ioprio);
    ASSERT_TRUE(sequential
                    .PositionedRead(8192, 100, options, &result, memory_.data(),
                                    nullptr)
                    .ok());
    ExpectPriority(expected.ioprio);
  }
}

TEST_F(RocksDBIoPriority, OfAppends) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/2.sst", &writer).ok());
  DioWritableFile file(writer, "/2.sst", rocksdb::FileOptions());
  for (const Expectation& expected : kExpected) {
    SCOPED_TRACE(expected.asked);
    ASSERT_TRUE(file.Append(content_, With(expected.asked), nullptr).ok());
    ASSERT_TRUE(file.Sync(IOOptions(), nullptr).ok());
    ExpectPriority(expected.ioprio);
    ASSERT_TRUE(
        file.PositionedAppend("x", 0, With(expected.asked), nullptr).ok());
    ExpectPriority(expected.ioprio);
  }
}

// As compaction_job.cc and builder.cc have it: once for the whole file.
TEST_F(RocksDBIoPriority, OfAFileCountsWhereAnAppendHasNone) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/2.sst", &writer).ok());
  DioWritableFile file(writer, "/2.sst", rocksdb::FileOptions());
  file.SetIOPriority(Env::IO_LOW);
  const rocksdb::DataVerificationInfo unverified;
  ASSERT_TRUE(file.Append(content_, IOOptions(), unverified, nullptr).ok());
  ASSERT_TRUE(file.Sync(IOOptions(), nullptr).ok());
  ExpectPriority(BestEffort(7));
  ASSERT_TRUE(
      file.Append(content_, With(Env::IO_USER), unverified, nullptr).ok());
  ASSERT_TRUE(file.Sync(IOOptions(), nullptr).ok());
  ExpectPriority(0);
}

TEST_F(RocksDBIoPriority, OfAFileChangedInPlace) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/1.sst", &writer).ok());
  DioRandomRWFile file(file_, writer, "/1.sst");
  Slice result;
  for (const Expectation& expected : kExpected) {
    SCOPED_TRACE(expected.asked);
    const IOOptions options = With(expected.asked);
    ASSERT_TRUE(file.Write(100, "xyz", options, nullptr).ok());
    ExpectPriority(expected.ioprio);
    ASSERT_TRUE(
        file.Read(50'000, 10, options, &result, memory_.data(), nullptr).ok());
    ExpectPriority(expected.ioprio);
  }
}

}  // namespace
}  // namespace diofs
