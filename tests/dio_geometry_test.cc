#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "dio/align.h"
#include "dio/buffer_pool.h"
#include "dio/geometry.h"
#include "dio/open_device.h"
#include "tests/child_process.h"
#include "tests/deny_syscall.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

Geometry Valid() {
  Geometry geometry;
  geometry.device_bytes = 1 << 20;
  return geometry;
}

TEST(Geometry, RefusesWhatNoDeviceMayHave) {
  EXPECT_TRUE(Valid().Validate().ok());
  const std::vector<std::pair<std::string, std::function<void(Geometry*)>>>
      bad = {
          {"logical block", [](Geometry* g) { g->logical_block_bytes = 0; }},
          {"logical block", [](Geometry* g) { g->logical_block_bytes = 256; }},
          {"logical block", [](Geometry* g) { g->logical_block_bytes = 520; }},
          {"logical block",
           [](Geometry* g) { g->logical_block_bytes = 128 * 1024; }},
          {"physical block",
           [](Geometry* g) { g->physical_block_bytes = 256; }},
          {"physical block",
           [](Geometry* g) { g->physical_block_bytes = 5000; }},
          {"physical block",
           [](Geometry* g) {
             g->logical_block_bytes = 4096;
             g->physical_block_bytes = 512;
           }},
          {"memory alignment", [](Geometry* g) { g->memory_align_bytes = 0; }},
          {"memory alignment", [](Geometry* g) { g->memory_align_bytes = 3; }},
          {"memory alignment",
           [](Geometry* g) { g->memory_align_bytes = 1024; }},
          {"offset alignment",
           [](Geometry* g) { g->offset_align_bytes = 1024; }},
          {"offset alignment", [](Geometry* g) { g->offset_align_bytes = 0; }},
          {"requests", [](Geometry* g) { g->max_bio_bytes = 511; }},
          {"requests", [](Geometry* g) { g->max_bio_bytes = 1000; }},
          {"requests", [](Geometry* g) { g->max_bio_segments = 0; }},
          {"size", [](Geometry* g) { g->device_bytes = 0; }},
          {"size", [](Geometry* g) { g->device_bytes = 511; }},
          {"size", [](Geometry* g) { g->device_bytes = (1 << 20) + 1; }},
      };
  for (const auto& [what, spoil] : bad) {
    Geometry geometry = Valid();
    spoil(&geometry);
    const Result result = geometry.Validate();
    EXPECT_EQ(EINVAL, result.error()) << what;
    EXPECT_NE(std::string::npos, result.context().find(what))
        << result.ToString();
  }
}

TEST(Geometry, LongTransfersAreCutAtPhysicalBlocks) {
  Geometry geometry = Valid();
  geometry.max_bio_bytes = 64 * 1024;
  EXPECT_EQ(65536u, geometry.MaxBioBytesAt(0));
  EXPECT_EQ(65536u, geometry.MaxBioBytesAt(8192));
  EXPECT_EQ(65536u - 512, geometry.MaxBioBytesAt(4096 + 512));
  // No room for more than one: nothing is cut off.
  geometry.max_bio_bytes = 4096;
  EXPECT_EQ(4096u, geometry.MaxBioBytesAt(512));
  geometry.max_bio_bytes = 512;
  EXPECT_EQ(512u, geometry.MaxBioBytesAt(512));
}

TEST(Geometry, TellsItselfInOneLine) {
  Geometry geometry = Valid();
  geometry.device_bytes = uint64_t{4} << 30;
  geometry.is_block_device = true;
  geometry.discard = true;
  EXPECT_EQ(
      "4.0 GiB block device, 512/4096-byte blocks, requests of 512.0 KiB, "
      "write cache, no FUA, discard, no NOWAIT",
      geometry.ToString());
}

TEST(Geometry, SizesAreToldToATenthOfTheLargestUnit) {
  const std::vector<std::pair<uint64_t, std::string>> sizes = {
      {0, "0 B"},
      {512, "512 B"},
      {1023, "1023 B"},
      {1024, "1.0 KiB"},
      {1536, "1.5 KiB"},
      {(1 << 20) - 1, "1023.9 KiB"},
      {uint64_t{5} << 40, "5.0 TiB"},
      {uint64_t{1200} << 50, "1.1 EiB"},
      {INT64_MAX, "7.9 EiB"},
      {UINT64_MAX, "15.9 EiB"},
  };
  for (const auto& [bytes, text] : sizes) {
    Geometry geometry;
    geometry.device_bytes = bytes;
    EXPECT_EQ(0u, geometry.ToString().find(text + " image file, "))
        << geometry.ToString();
  }
}

TEST(Geometry, TellsEveryAbility) {
  Geometry geometry = Valid();
  geometry.write_cache = false;
  geometry.fua = true;
  geometry.nowait = true;
  geometry.rotational = true;
  EXPECT_EQ(
      "1.0 MiB image file, 512/4096-byte blocks, requests of 512.0 KiB, "
      "no write cache, FUA, no discard, NOWAIT, rotational",
      geometry.ToString());
}

TEST(GeometryProbe, Image) {
  const TempDir dir;
  const std::string path = dir.File("image");
  ASSERT_TRUE(CreateImageFile(path, (1 << 20) + 300, false).ok());
  const int fd = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  Geometry geometry;
  const Result result = Geometry::Probe(fd, &geometry);
  close(fd);
  ASSERT_TRUE(result.ok()) << result.ToString();
  // What does not fill a block is left out.
  EXPECT_EQ(1u << 20, geometry.device_bytes);
  EXPECT_FALSE(geometry.is_block_device);
  EXPECT_TRUE(geometry.write_cache);
  EXPECT_FALSE(geometry.fua);
  EXPECT_TRUE(geometry.discard);
  EXPECT_GE(geometry.physical_block_bytes, 4096u);
}

TEST(GeometryProbe, TooSmallAndOfTheWrongKind) {
  const TempDir dir;
  const std::string path = dir.File("image");
  std::ofstream(path) << "tiny";
  int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  Geometry geometry;
  EXPECT_EQ(EINVAL, Geometry::Probe(fd, &geometry).error());
  close(fd);
  fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  EXPECT_EQ(EINVAL, Geometry::Probe(fd, &geometry).error());
  close(fd);
  EXPECT_EQ(EBADF, Geometry::Probe(-1, &geometry).error());
}

class GeometryLoopTest : public testing::TestWithParam<uint32_t> {};

TEST_P(GeometryLoopTest, BlockDevice) {
  const TempDir dir;
  ASSERT_TRUE(CreateImageFile(dir.File("image"), 8 << 20, false).ok());
  const LoopDevice loop(dir.File("image"), GetParam());
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  const int fd = open(loop.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  Geometry geometry;
  const Result result = Geometry::Probe(fd, &geometry);
  close(fd);
  ASSERT_TRUE(result.ok()) << result.ToString();
  EXPECT_TRUE(geometry.is_block_device);
  EXPECT_EQ(8u << 20, geometry.device_bytes);
  EXPECT_EQ(GetParam(), geometry.logical_block_bytes);
  EXPECT_GE(geometry.physical_block_bytes, GetParam());
  EXPECT_LE(geometry.memory_align_bytes, GetParam());
  EXPECT_LE(geometry.max_bio_bytes, 512u * 1024);
  EXPECT_GE(geometry.max_bio_segments, 1u);
}

// What statx tells of direct I/O, where it does; memory and offset may differ.
TEST_P(GeometryLoopTest, AlignmentIsWhatStatxTells) {
  const TempDir dir;
  ASSERT_TRUE(CreateImageFile(dir.File("image"), 8 << 20, false).ok());
  const LoopDevice loop(dir.File("image"), GetParam());
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  for (const std::string& path : {loop.path(), dir.File("image")}) {
    const int fd = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    Geometry geometry;
    const Result result = Geometry::Probe(fd, &geometry);
    ASSERT_TRUE(result.ok()) << result.ToString();
#ifdef STATX_DIOALIGN
    struct statx told = {};
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &told) == 0 &&
        (told.stx_mask & STATX_DIOALIGN) != 0) {
      EXPECT_EQ(told.stx_dio_mem_align, geometry.memory_align_bytes) << path;
      EXPECT_EQ(told.stx_dio_offset_align, geometry.offset_align_bytes) << path;
    }
#endif
    close(fd);
  }
}

// A kernel that does not tell: the logical block size for both, on a device;
// of a file, what it takes.
TEST_P(GeometryLoopTest, WithoutStatxAlignmentIsTheLogicalBlock) {
  const TempDir dir;
  ASSERT_TRUE(CreateImageFile(dir.File("image"), 8 << 20, false).ok());
  const LoopDevice loop(dir.File("image"), GetParam());
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  ChildProcess child([&](const ChildProcess::Parent&) {
    if (!DenySyscall(SYS_statx, ENOSYS)) return false;
    Geometry geometry;
    int fd = open(loop.path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    bool good = Geometry::Probe(fd, &geometry).ok() &&
                geometry.logical_block_bytes == GetParam() &&
                geometry.memory_align_bytes == GetParam() &&
                geometry.offset_align_bytes == GetParam();
    close(fd);
    fd = open(dir.File("image").c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    AlignedBuffer memory = BufferPool::Get(4096);
    const bool takes_512 = pread(fd, memory.data() + 512, 512, 512) == 512;
    const uint32_t expected = takes_512 ? 512 : 4096;
    good = good && Geometry::Probe(fd, &geometry).ok() &&
           geometry.memory_align_bytes == expected &&
           geometry.offset_align_bytes == expected;
    close(fd);
    return good;
  });
  EXPECT_EQ(0, child.Wait());
}

INSTANTIATE_TEST_SUITE_P(SectorSizes, GeometryLoopTest,
                         testing::Values(512u, 4096u));

// A partition has no queue of its own in sysfs: its disk's counts.
TEST(GeometryProbe, Partition) {
  const TempDir dir;
  const std::string path = dir.File("image");
  ASSERT_TRUE(CreateImageFile(path, 8 << 20, false).ok());
  LoopDevice loop(path, 512, /*partitions=*/true);
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  const std::string partition = loop.AddPartition(8192, 4 << 20);
  ASSERT_EQ(0, access(partition.c_str(), F_OK)) << partition;
  Geometry of_disk;
  Geometry of_partition;
  for (const auto& [node, geometry] :
       {std::make_pair(loop.path(), &of_disk),
        std::make_pair(partition, &of_partition)}) {
    const int fd = open(node.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    ASSERT_GE(fd, 0) << node;
    const Result result = Geometry::Probe(fd, geometry);
    close(fd);
    ASSERT_TRUE(result.ok()) << result.ToString();
  }
  EXPECT_EQ(4u << 20, of_partition.device_bytes);
  of_partition.device_bytes = of_disk.device_bytes;
  EXPECT_EQ(of_disk.ToString(), of_partition.ToString());
  EXPECT_EQ(of_disk.max_bio_segments, of_partition.max_bio_segments);
}

}  // namespace
}  // namespace diofs
