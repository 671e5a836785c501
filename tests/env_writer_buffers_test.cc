// ctest: one-thread

// A writer that fails keeps its buffers until the device has done with them:
// what is handed out again meanwhile must not reach the blocks of its file.

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "dio/buffer_pool.h"
#include "env/file_writer.h"
#include "env/plain_writer.h"
#include "env/volume.h"
#include "tests/allocation_faults.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 32 << 20;
constexpr char kForeign = 'X';

class WriterBuffersTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(
        MountSim(FormattedSim(kVolumeBytes), MountOptions(), &volume_, &sim_)
            .ok());
  }

  void Create() {
    OpenFilePtr file;
    ASSERT_TRUE(volume_->CreateFile("/1.sst", &file).ok());
    ASSERT_TRUE(FileWriter::Open(file, &writer_).ok());
    writer_->SetPreallocation(8 << 20);
  }
  Result Append(size_t bytes) {
    const std::string text(bytes, 'a');
    return writer_->Append(text.data(), text.size());
  }
  void AppendBlocks(int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(Append(kBlockBytes).ok());
      ASSERT_TRUE(writer_->StartWriteback().ok());
    }
  }
  // Writes stay under way until they are waited for, and end in any order, or
  // in that in which they began.
  void Delay(uint64_t seed, bool in_order = false) {
    SimBehavior behavior;
    behavior.delayed = behavior.unpolled = true;
    behavior.reordered = !in_order;
    behavior.seed = seed;
    sim_->Behave(behavior);
  }
  // From now on somebody else takes all the buffers there are, whenever a write
  // is about to be carried out.
  void TakeBuffers() {
    sim_->on_write = [this] {
      const AllocationScope not_counted(false);
      for (const size_t bytes :
           {PlainWriter::kFirstBufferBytes, PlainWriter::kBufferBytes}) {
        taken_.push_back(BufferPool::Get(bytes));
        std::memset(taken_.back().data(), kForeign, bytes);
      }
    };
  }
  bool ForeignBytesWritten() {
    sim_->Behave(SimBehavior());
    while (sim_->pending() > 0) sim_->Poll();
    sim_->on_write = nullptr;
    taken_.clear();
    return sim_->Image().find(std::string(kBlockBytes, kForeign)) !=
           std::string::npos;
  }

  SimDevice* sim_ = nullptr;
  std::vector<AlignedBuffer> taken_;
  std::shared_ptr<Volume> volume_;
  std::shared_ptr<FileWriter> writer_;
};

// Wherever among its allocations memory runs out, after any number of writes
// before: what those are kept in grows now and then.
TEST_F(WriterBuffersTest, AnAllocationThatFails) {
  const AllocationScope not_counted(false);
  const uint64_t seed = TestSeed();
  uint64_t failed = 0;
  for (int before = 0; before < 64; ++before) {
    bool met = true;
    for (uint64_t n = 1; met; ++n) {
      Create();
      ASSERT_TRUE(Append(5000).ok());
      ASSERT_TRUE(writer_->Sync().ok());
      AppendBlocks(before);
      ASSERT_TRUE(writer_->WriteOut().ok());
      Delay(seed + n);
      AppendBlocks(6);
      TakeBuffers();
      const std::string text(PlainWriter::kBufferBytes, 'a');
      const Result result = AllocationFaults::WithoutNth(
          n, &met, [&] { return writer_->Append(text.data(), text.size()); });
      failed += !result.ok();
      ASSERT_EQ(result.ok(), writer_->Flush().ok()) << result.ToString();
      writer_.reset();
      ASSERT_FALSE(ForeignBytesWritten())
          << "DIOFS_TEST_SEED=" << seed << ", " << before
          << " writes before, allocation " << n;
      ASSERT_TRUE(volume_->CheckWritable().ok());
    }
  }
  EXPECT_GT(failed, 0u);
}

// More writes than one piece of the queue that holds them takes.
TEST_F(WriterBuffersTest, AnErrorWithManyWritesUnderWay) {
  const uint64_t seed = TestSeed();
  for (uint64_t round = 0; round < 10; ++round) {
    Create();
    Delay(seed, /*in_order=*/true);
    sim_->FailNth(SimOp::kWrite, 1, EIO);
    AppendBlocks(400);
    ASSERT_EQ(writer_->WriteOut().error(), EIO);
    ASSERT_GT(sim_->pending(), 300u);
    Delay(seed + round);
    TakeBuffers();
    writer_.reset();
    ASSERT_FALSE(ForeignBytesWritten()) << "DIOFS_TEST_SEED=" << seed;
  }
}

}  // namespace
}  // namespace diofs
