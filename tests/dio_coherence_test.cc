// The engine beside others who look at the same device: buffered readers, and
// the kernel's own idea of what direct I/O may be asked for.

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "dio/align.h"
#include "dio/open_device.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 256;

// An image file or a loop device over one, opened by the engine.
struct CoherenceParam {
  const char* name;
  Backend backend;
  bool loop;
};

std::ostream& operator<<(std::ostream& out, const CoherenceParam& param) {
  return out << param.name;
}

class Coherence : public testing::TestWithParam<CoherenceParam> {
 protected:
  void SetUp() override {
    path_ = dir_.File("image");
    ASSERT_TRUE(CreateImageFile(path_, kBlocks * kBlock, true).ok());
    if (GetParam().loop) {
      loop_ = std::make_unique<LoopDevice>(path_);
      if (!loop_->ok()) GTEST_SKIP() << "no loop device to be had";
      path_ = loop_->path();
    }
    OpenDeviceOptions options;
    options.backend = GetParam().backend;
    const Result result = OpenBlockDevice(path_, options, &device_);
    ASSERT_TRUE(result.ok()) << result.ToString();
  }

  ~Coherence() override { ExpectNothingHeld(device_.get()); }

  // What a tool without direct I/O sees of block `block`.
  std::string ReadBuffered(int fd, uint64_t block) {
    std::string content(kBlock, '\0');
    EXPECT_EQ(
        static_cast<ssize_t>(kBlock),
        pread(fd, content.data(), kBlock, static_cast<off_t>(block * kBlock)));
    return content;
  }

  const TempDir dir_;
  std::string path_;
  std::unique_ptr<LoopDevice> loop_;
  std::unique_ptr<BlockDevice> device_;
};

std::string CoherenceName(const testing::TestParamInfo<CoherenceParam>& param) {
  return param.param.name;
}

INSTANTIATE_TEST_SUITE_P(
    All, Coherence,
    testing::Values(CoherenceParam{"image_sync", Backend::kSync, false},
                    CoherenceParam{"image_threads", Backend::kThreads, false},
                    CoherenceParam{"image_uring", Backend::kUring, false},
                    CoherenceParam{"loop_sync", Backend::kSync, true},
                    CoherenceParam{"loop_threads", Backend::kThreads, true},
                    CoherenceParam{"loop_uring", Backend::kUring, true}),
    CoherenceName);

// A tool has read a block into the page cache. It is freed, given to another
// file, and written: what the tool reads then is the new content, whole.
TEST_P(Coherence, ABufferedReaderSeesABlockThatWasAllocatedAnew) {
  AlignedBuffer old_content = PatternBuffer(8 * kBlock, 1);
  const TestMapper old_file(TestMapper::Run(BlockState::kMapped, 40, 8));
  IoRequest write(IoDirection::kWrite, old_file, 0, old_content.data(),
                  8 * kBlock, 8 * kBlock);
  ASSERT_TRUE(RunIo(device_.get(), &write).ok());
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0) << strerror(errno);
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(std::string(old_content.data() + i * kBlock, kBlock),
              ReadBuffered(fd, 40 + i));
  }
  const uint64_t sector = device_->geometry().logical_block_bytes;
  AlignedBuffer content = PatternBuffer(8 * kBlock, 2);
  for (uint64_t i = 0; i < 8; ++i) {
    // A part of each new block; the rest becomes zeros.
    const TestMapper new_file(TestMapper::Run(BlockState::kNew, 40 + i, 1));
    IoRequest part(IoDirection::kWrite, new_file, kBlock - sector,
                   content.data() + i * kBlock, sector, 0);
    part->async = i % 2 == 0;
    ASSERT_TRUE(RunIo(device_.get(), &part).ok());
    EXPECT_EQ(std::string(kBlock - sector, '\0') +
                  std::string(content.data() + i * kBlock, sector),
              ReadBuffered(fd, 40 + i))
        << i;
  }
  close(fd);
}

// Nothing of this process keeps the device's blocks: its one descriptor is
// for direct I/O.
TEST_P(Coherence, TheEnginesDescriptorIsForDirectIo) {
  DIR* const open_files = opendir("/proc/self/fd");
  ASSERT_NE(nullptr, open_files);
  int direct = 0;
  while (const dirent* const entry = readdir(open_files)) {
    char target[512];
    const ssize_t length =
        readlinkat(dirfd(open_files), entry->d_name, target, sizeof(target));
    if (length <= 0 ||
        std::string(target, static_cast<size_t>(length)) != path_) {
      continue;
    }
    const int flags = fcntl(std::atoi(entry->d_name), F_GETFL);
    // The loop device is also held open by the test that made it.
    if ((flags & O_DIRECT) != 0) {
      ++direct;
    } else {
      EXPECT_TRUE(GetParam().loop) << "fd " << entry->d_name;
    }
  }
  closedir(open_files);
  EXPECT_EQ(1, direct);
}

// ---- Alignment --------------------------------------------------------------

// Addresses, offsets and lengths to be tried with one another.
std::vector<uint64_t> Values() {
  std::vector<uint64_t> values;
  for (uint64_t value = 0; value <= 4096; value += 256) {
    values.push_back(value);
  }
  for (const uint64_t odd : {1, 3, 511, 513, 4095}) values.push_back(odd);
  return values;
}

class Alignment : public testing::TestWithParam<EngineParam> {};

INSTANTIATE_TEST_SUITE_P(All, Alignment, testing::ValuesIn(AllEngines()),
                         EngineTestName);

TEST_P(Alignment, ExactlyWhatIsAlignedIsAccepted) {
  EngineDevice device(GetParam(), 64 * kBlock);
  if (device.get() == nullptr) GTEST_SKIP() << "no such backend here";
  const uint64_t sector = GetParam().logical_block_bytes;
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 16));
  AlignedBuffer memory = FilledBuffer(4 * kBlock, 'm');
  for (const uint64_t address : Values()) {
    for (const uint64_t offset : Values()) {
      for (const uint64_t length : Values()) {
        const bool aligned =
            length == 0 || (address % 512 == 0 && offset % sector == 0 &&
                            length % sector == 0);
        for (const IoDirection direction :
             {IoDirection::kWrite, IoDirection::kRead}) {
          // What is accepted need not be written each time.
          if (aligned && direction == IoDirection::kWrite) continue;
          IoRequest io(direction, mapper, offset, memory.data() + address,
                       length, 16 * kBlock);
          const Result result = RunIo(device.get(), &io);
          ASSERT_EQ(aligned ? 0 : EINVAL, result.error())
              << address << " " << offset << " " << length;
          ASSERT_EQ(aligned ? length : 0, result.bytes());
        }
      }
    }
  }
  // The second segment counts as the first does.
  IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), sector,
               16 * kBlock);
  io.segments.push_back({memory.data() + 8192 + 256, sector});
  EXPECT_EQ(EINVAL, RunIo(device.get(), &io).error());
  EXPECT_EQ(0u, device->inner()->stats().by_class[0].writes);
}

class KernelsAlignment : public testing::TestWithParam<uint32_t> {};

INSTANTIATE_TEST_SUITE_P(SectorSizes, KernelsAlignment,
                         testing::Values(512u, 4096u));

// What the engine takes, the kernel takes on the same device; and what the
// engine refuses, the kernel refuses, with the same errno.
TEST_P(KernelsAlignment, TheKernelAgrees) {
  const TempDir dir;
  ASSERT_TRUE(CreateImageFile(dir.File("image"), kBlocks * kBlock, true).ok());
  const LoopDevice loop(dir.File("image"), GetParam());
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  std::unique_ptr<BlockDevice> device;
  ASSERT_TRUE(OpenBlockDevice(loop.path(), OpenDeviceOptions(), &device).ok());
  const int fd = open(loop.path().c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  ASSERT_GE(fd, 0) << strerror(errno);
  const Geometry& geometry = device->geometry();
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, kBlocks));
  AlignedBuffer memory = FilledBuffer(4 * kBlock, 'm');
  for (const uint64_t address : Values()) {
    for (const uint64_t offset : Values()) {
      for (const uint64_t length : Values()) {
        IoRequest io(IoDirection::kRead, mapper, offset,
                     memory.data() + address, length, kBlocks * kBlock);
        const Result ours = RunIo(device.get(), &io);
        const ssize_t kernels = pread(fd, memory.data() + address, length,
                                      static_cast<off_t>(offset));
        const int error = kernels < 0 ? errno : 0;
        // Memory alone that is not as aligned as statx demands goes unnoticed
        // by some kernels, as long as it is one segment.
        const bool lenient = error == 0 && length > 0 &&
                             !IsAligned(address, geometry.memory_align_bytes) &&
                             IsAligned(offset, GetParam()) &&
                             IsAligned(length, GetParam());
        ASSERT_EQ(lenient ? EINVAL : error, ours.error())
            << address << " " << offset << " " << length;
        if (ours.ok()) {
          ASSERT_EQ(kernels, static_cast<ssize_t>(ours.bytes()));
        }
      }
    }
  }
  close(fd);
  ExpectNothingHeld(device.get());
}

}  // namespace
}  // namespace diofs
