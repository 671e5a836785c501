// What the engine does where the kernel refuses, is interrupted, answers oddly,
// or has no memory left: probing a device, flushing and discarding, and reads
// through buffers.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/geometry.h"
#include "dio/open_device.h"
#include "dio/read_batch.h"
#include "dio/sync_device.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/libc_faults.h"
#include "tests/loop_device.h"
#include "tests/sim_device.h"
#include "tests/temp_dir.h"
#include "tests/test_mapper.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = 1 << 20;

std::string Because(const std::string& where, int error) {
  return where + ": " + std::strerror(error);
}

// No buffer is to be had while it lives.
class NoBuffers {
 public:
  NoBuffers() {
    // Large ones first, so that the pool's own memory is taken whole.
    for (size_t bytes = BufferArena::kMaxBytes; bytes >= BufferArena::kMinBytes;
         bytes /= 2) {
      while (AlignedBuffer buffer = BufferPool::Get(bytes)) {
        taken_.push_back(std::move(buffer));
      }
    }
  }

 private:
  const FailCall fault_{"aligned_alloc", ENOMEM, 1, kEveryCall};
  std::vector<AlignedBuffer> taken_;
};

class SystemErrors : public testing::Test {
 protected:
  SystemErrors() : path_(dir_.File("image")) {
    EXPECT_TRUE(CreateImageFile(path_, kImageBytes, false).ok());
  }

  Result Probe(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    EXPECT_GE(fd, 0) << path;
    Result result = Geometry::Probe(fd, &geometry_);
    close(fd);
    return result;
  }
  CheckedDevice OpenSync(const std::string& path) {
    OpenDeviceOptions options;
    options.backend = Backend::kSync;
    std::unique_ptr<BlockDevice> device;
    const Result result = OpenBlockDevice(path, options, &device);
    EXPECT_TRUE(result.ok()) << result.ToString();
    return device;
  }

  TempDir dir_;
  const std::string path_;
  Geometry geometry_;
};

// ---- Probing ---------------------------------------------------------------

#ifdef STATX_DIOALIGN

// A file system that has O_DIRECT in name only, and a device of the kind.
TEST_F(SystemErrors, StatxTellsThatThereIsNoDirectIo) {
  const LoopDevice loop(path_);
  std::vector<std::string> paths = {path_};
  if (loop.ok()) paths.push_back(loop.path());
  const std::function<void(struct statx*)> edits[] = {
      [](struct statx* info) { info->stx_dio_mem_align = 0; },
      [](struct statx* info) { info->stx_dio_offset_align = 0; }};
  for (const std::string& path : paths) {
    for (const auto& edit : edits) {
      const EditAnswer<struct statx> fault("statx", [&](struct statx* info) {
        info->stx_mask |= STATX_DIOALIGN;
        info->stx_dio_mem_align = 512;
        info->stx_dio_offset_align = 512;
        edit(info);
      });
      std::unique_ptr<BlockDevice> device;
      const Result result = OpenBlockDevice(path, OpenDeviceOptions(), &device);
      EXPECT_EQ(Because(path + ": does not support direct I/O", EOPNOTSUPP),
                result.ToString());
      EXPECT_EQ(nullptr, device);
    }
  }
  // It is not locked either.
  EXPECT_NE(nullptr, OpenSync(path_));
}

TEST_F(SystemErrors, StatxTellsAnAlignmentThatIsNone) {
  const EditAnswer<struct statx> fault("statx", [](struct statx* info) {
    info->stx_mask |= STATX_DIOALIGN;
    info->stx_dio_mem_align = 3;
    info->stx_dio_offset_align = 512;
  });
  EXPECT_EQ(Because("a memory alignment of 3 bytes", EINVAL),
            Probe(path_).ToString());
}

// A kernel that knows statx, but not what it says of direct I/O.
TEST_F(SystemErrors, AnImageOfWhichStatxDoesNotTellIsTried) {
  const EditAnswer<struct statx> edit("statx", [](struct statx* info) {
    info->stx_mask &= ~static_cast<uint32_t>(STATX_DIOALIGN);
    // Not to be looked at.
    info->stx_dio_mem_align = 0;
    info->stx_dio_offset_align = 64;
  });
  for (const int error : {EINVAL, EIO}) {
    const FailCall fault("preadv2", error);
    const uint32_t expected = error == EINVAL ? 4096 : 512;
    ASSERT_TRUE(Probe(path_).ok());
    EXPECT_EQ(expected, geometry_.memory_align_bytes);
    EXPECT_EQ(expected, geometry_.offset_align_bytes);
    EXPECT_EQ(expected, geometry_.logical_block_bytes);
    EXPECT_EQ(2, fault.calls());
  }
}

// Other than by a kernel without it, which the C library makes up for.
TEST_F(SystemErrors, ADeviceOfWhichStatxFails) {
  const LoopDevice loop(path_, 4096);
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  const FailCall fault("statx", EPERM);
  ASSERT_TRUE(Probe(loop.path()).ok());
  EXPECT_EQ(4096u, geometry_.memory_align_bytes);
  EXPECT_EQ(4096u, geometry_.offset_align_bytes);
  EXPECT_EQ(1, fault.calls());
}

#endif  // STATX_DIOALIGN

TEST_F(SystemErrors, RequestsThatWouldHaveToWaitJustNow) {
  for (const int error : {EAGAIN, EOPNOTSUPP, EIO}) {
    const FailCall fault("preadv2", error, 2);
    ASSERT_TRUE(Probe(path_).ok());
    EXPECT_EQ(error == EAGAIN, geometry_.nowait) << error;
  }
}

// What cannot be tried for want of memory is not taken to be there.
TEST_F(SystemErrors, ProbingWithoutMemory) {
  ASSERT_TRUE(Probe(path_).ok());
  const uint32_t logical = geometry_.logical_block_bytes;
  const NoBuffers no_buffers;
  ASSERT_TRUE(Probe(path_).ok());
  EXPECT_FALSE(geometry_.nowait);
  EXPECT_EQ(logical, geometry_.logical_block_bytes);
}

class LoopErrors : public SystemErrors {
 protected:
  LoopErrors() : loop_(path_) {}
  void SetUp() override {
    if (!loop_.ok()) GTEST_SKIP() << "no loop device to be had";
  }
  // What is probed where the kernel answers `request` with `value`.
  template <typename Value>
  Result ProbeAnswered(const char* request, Value value) {
    const EditAnswer<Value> edit(request,
                                 [value](Value* answer) { *answer = value; });
    return Probe(loop_.path());
  }

  const LoopDevice loop_;
};

TEST_F(LoopErrors, ADeviceThatDoesNotTellItsSizes) {
  for (const char* request : {"BLKGETSIZE64", "BLKSSZGET", "BLKPBSZGET"}) {
    const FailCall fault(request, ENOTTY);
    EXPECT_EQ(Because("block device geometry", ENOTTY),
              Probe(loop_.path()).ToString())
        << request;
    EXPECT_EQ(1, fault.calls()) << request;
  }
}

// Its size only matters for speed: what is none is replaced.
TEST_F(LoopErrors, OddPhysicalBlocks) {
  const struct {
    unsigned told;
    uint32_t taken;
  } blocks[] = {{0, 512},       {256, 512},     {512, 512},     {520, 4096},
                {16384, 16384}, {65536, 65536}, {131072, 4096}, {~0U, 4096}};
  for (const auto& block : blocks) {
    ASSERT_TRUE(ProbeAnswered<unsigned>("BLKPBSZGET", block.told).ok());
    EXPECT_EQ(block.taken, geometry_.physical_block_bytes) << block.told;
    EXPECT_EQ(512u, geometry_.logical_block_bytes);
    EXPECT_EQ(0u, geometry_.max_bio_bytes % block.taken);
  }
}

// A logical block that is none is the device's end.
TEST_F(LoopErrors, OddLogicalBlocks) {
  for (const int told : {0, 256, 520, 131072, -1}) {
    const Result result = ProbeAnswered<int>("BLKSSZGET", told);
    EXPECT_EQ(EINVAL, result.error()) << told;
    EXPECT_EQ("a logical block of " +
                  std::to_string(static_cast<uint32_t>(told)) + " bytes",
              result.context());
  }
}

TEST_F(LoopErrors, OddSizes) {
  ASSERT_TRUE(ProbeAnswered<uint64_t>("BLKGETSIZE64", 8192 + 300).ok());
  EXPECT_EQ(8192u, geometry_.device_bytes);
  for (const uint64_t told : {0, 511}) {
    const Result result = ProbeAnswered<uint64_t>("BLKGETSIZE64", told);
    EXPECT_EQ(Because("a size of 0 bytes", EINVAL), result.ToString());
  }
}

// sysfs is not mounted, or does not know the device: the cautious defaults.
TEST_F(LoopErrors, WithoutQueueAttributes) {
  const EditAnswer<struct stat> edit(
      "fstat", [](struct stat* info) { info->st_rdev = makedev(4095, 4095); });
  ASSERT_TRUE(Probe(loop_.path()).ok());
  const Geometry defaults;
  EXPECT_EQ(defaults.max_bio_segments, geometry_.max_bio_segments);
  EXPECT_EQ(64u * 4096, geometry_.max_bio_bytes);
  EXPECT_TRUE(geometry_.write_cache);
  EXPECT_FALSE(geometry_.fua);
  EXPECT_FALSE(geometry_.discard);
  EXPECT_FALSE(geometry_.rotational);
}

// An attribute that is there but no number counts as one that is missing.
TEST_F(LoopErrors, AnAttributeThatIsNoNumber) {
  struct stat info = {};
  ASSERT_EQ(0, stat(loop_.path().c_str(), &info));
  const std::string queue = "/sys/dev/block/" +
                            std::to_string(major(info.st_rdev)) + ":" +
                            std::to_string(minor(info.st_rdev)) + "/queue/";
  const ReplaceFile replace(queue + "discard_max_bytes", "/proc/version");
  ASSERT_TRUE(Probe(loop_.path()).ok());
  EXPECT_FALSE(geometry_.discard);
}

// ---- Flush and discard -----------------------------------------------------

TEST_F(SystemErrors, AFlushThatIsInterruptedGoesOn) {
  const auto device = OpenSync(path_);
  const AlignedBuffer memory = FilledBuffer(4096, 'm');
  ASSERT_TRUE(device->Write(0, memory.data(), 4096, 0).ok());
  const FailCall fault("fdatasync", EINTR, 1, 2);
  const Result result = device->Flush();
  EXPECT_TRUE(result.ok()) << result.ToString();
  EXPECT_EQ(3, fault.calls());
}

// What was in the cache may be lost, so no later flush makes up for it.
TEST_F(SystemErrors, AFlushThatFailedStaysFailed) {
  const auto device = OpenSync(path_);
  const AlignedBuffer memory = FilledBuffer(4096, 'm');
  ASSERT_TRUE(device->Write(0, memory.data(), 4096, 0).ok());
  const FailCall fault("fdatasync", ENOSPC);
  EXPECT_EQ(ENOSPC, device->Flush().error());
  EXPECT_EQ(ENOSPC, device->Flush().error());
  EXPECT_EQ(1, fault.calls());
}

TEST_F(SystemErrors, DiscardsAreRetriedWhenInterruptedAndFailAlone) {
  const LoopDevice loop(path_);
  std::vector<std::string> paths = {path_};
  if (loop.ok()) paths.push_back(loop.path());
  for (const std::string& path : paths) {
    const char* const call = path == path_ ? "fallocate" : "BLKDISCARD";
    const auto device = OpenSync(path);
    if (!device->geometry().discard) continue;
    AlignedBuffer memory = BufferPool::Get(8192);
    std::memset(memory.data(), 'd', 8192);
    ASSERT_TRUE(device->Write(0, memory.data(), 8192, 0).ok());
    {
      const FailCall fault(call, EIO);
      EXPECT_EQ(EIO, device->Discard(0, 4096).error()) << call;
      EXPECT_EQ(1, fault.calls());
    }
    ASSERT_TRUE(device->Read(0, memory.data(), 8192, 0).ok());
    EXPECT_EQ(8192, std::count(memory.data(), memory.data() + 8192, 'd'));
    const FailCall fault(call, EINTR);
    const Result result = device->Discard(0, 4096);
    EXPECT_TRUE(result.ok()) << call << ": " << result.ToString();
    EXPECT_EQ(2, fault.calls());
    ASSERT_TRUE(device->Read(0, memory.data(), 8192, 0).ok());
    EXPECT_EQ(4096, std::count(memory.data(), memory.data() + 8192, 'd'));
    EXPECT_EQ('d', memory.data()[4096]);
  }
}

// ---- Reads through buffers -------------------------------------------------

TEST(BounceErrors, WithoutBuffersOnlyUnalignedReadsFail) {
  SimDevice device(SimDevice::MakeGeometry(kImageBytes));
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, 16));
  ReadBatch::File file;
  file.device = &device;
  file.mapper = &mapper;
  file.file_size = uint64_t{16} * 4096;
  AlignedBuffer memory = BufferPool::Get(16384);
  std::memset(memory.data(), 'x', memory.size());
  ReadRange ranges[3];
  for (size_t i = 0; i < 3; ++i) {
    ranges[i].offset = i * 8192 + (i == 1 ? 1 : 0);
    ranges[i].length = 4096;
    ranges[i].memory = memory.data() + i * 4096;
  }
  const NoBuffers no_buffers;
  ReadBatch batch;
  batch.Submit(file, ranges, 3, false);
  batch.Wait();
  for (const size_t i : {0, 2}) {
    EXPECT_EQ(4096u, ranges[i].result.bytes()) << i;
    EXPECT_EQ(SimDevice::Poison(ranges[i].offset, 512), ranges[i].memory[0]);
  }
  EXPECT_EQ(Because("sim", ENOMEM), ranges[1].result.ToString());
  EXPECT_EQ(Because("sim", ENOMEM),
            ReadRangeNow(file, 1, 4096, memory.data() + 4096).ToString());
  EXPECT_EQ(4096, std::count(memory.data() + 4096, memory.data() + 8192, 'x'));
  EXPECT_EQ(0, device.stats().bounces);
  EXPECT_EQ(0u, device.stats().bounced_bytes);
}

}  // namespace
}  // namespace diofs
