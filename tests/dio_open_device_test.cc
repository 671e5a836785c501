#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "dio/buffer_pool.h"
#include "dio/open_device.h"
#include "tests/child_process.h"
#include "tests/gauges.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = 1 << 20;

class OpenDeviceTest : public testing::Test {
 protected:
  OpenDeviceTest() : path_(dir_.File("image")) {
    EXPECT_TRUE(CreateImageFile(path_, kImageBytes, false).ok());
    options_.lock_wait_ms = 0;
    options_.log = [this](const std::string& line) { log_ += line + "\n"; };
  }
  ~OpenDeviceTest() override { ExpectNothingHeld(device_.get()); }

  Result Open(const std::string& path) {
    return OpenBlockDevice(path, options_, &device_);
  }
  bool Contains(const Result& result, const std::string& what) {
    return result.ToString().find(what) != std::string::npos;
  }
  // A process that holds the device until it is killed.
  std::unique_ptr<ChildProcess> Holder(bool read_only) {
    auto child =
        std::make_unique<ChildProcess>([&](const ChildProcess::Parent& parent) {
          options_.read_only = read_only;
          if (!Open(path_).ok()) return false;
          parent.Ready();
          while (true) pause();
        });
    EXPECT_TRUE(child->WaitUntilReady());
    return child;
  }

  TempDir dir_;
  const std::string path_;
  OpenDeviceOptions options_;
  std::string log_;
  std::unique_ptr<BlockDevice> device_;
};

TEST_F(OpenDeviceTest, OpensAnImage) {
  const Result result = Open(path_);
  ASSERT_TRUE(result.ok()) << result.ToString();
  EXPECT_EQ(path_, device_->name());
  EXPECT_EQ(kImageBytes, device_->size_bytes());
  // Either the fast backend, or one line that says why not.
  EXPECT_EQ(std::string("uring") != device_->backend_name(), !log_.empty());
}

TEST_F(OpenDeviceTest, TheBackendCanBeChosen) {
  options_.backend = Backend::kSync;
  ASSERT_TRUE(Open(path_).ok());
  EXPECT_STREQ("sync", device_->backend_name());
  EXPECT_EQ("", log_);
}

TEST_F(OpenDeviceTest, LinksAreResolved) {
  const std::string link = dir_.File("link");
  ASSERT_EQ(0, symlink("image", link.c_str()));
  ASSERT_TRUE(Open(link).ok());
  EXPECT_EQ(path_, device_->name());
}

TEST_F(OpenDeviceTest, IdentityIsOfTheDeviceNotOfThePath) {
  const std::string link = dir_.File("link");
  const std::string hard = dir_.File("hard");
  const std::string other = dir_.File("other");
  ASSERT_EQ(0, symlink("image", link.c_str()));
  ASSERT_EQ(0, ::link(path_.c_str(), hard.c_str()));
  ASSERT_TRUE(CreateImageFile(other, kImageBytes, false).ok());
  DeviceIdentity image_id, link_id, hard_id, other_id;
  ASSERT_TRUE(IdentifyDevice(path_, &image_id).ok());
  ASSERT_TRUE(IdentifyDevice(link, &link_id).ok());
  ASSERT_TRUE(IdentifyDevice(hard, &hard_id).ok());
  ASSERT_TRUE(IdentifyDevice(other, &other_id).ok());
  EXPECT_TRUE(image_id == link_id);
  EXPECT_TRUE(image_id == hard_id);
  EXPECT_FALSE(image_id == other_id);
}

TEST_F(OpenDeviceTest, WhatIsNoDevice) {
  DeviceIdentity identity;
  const std::string missing = dir_.File("missing");
  EXPECT_EQ(missing + ": No such file or directory", Open(missing).ToString());
  EXPECT_EQ(ENOENT, IdentifyDevice(missing, &identity).error());
  for (const std::string& path : {dir_.path(), std::string("/dev/null")}) {
    EXPECT_EQ(EINVAL, Open(path).error());
    EXPECT_TRUE(Contains(Open(path), path + ": neither a block device nor a "
                                            "regular file"));
    EXPECT_EQ(EINVAL, IdentifyDevice(path, &identity).error());
  }
  EXPECT_EQ(nullptr, device_);
}

TEST_F(OpenDeviceTest, TooSmall) {
  const std::string tiny = dir_.File("tiny");
  std::ofstream(tiny) << "tiny";
  EXPECT_EQ(EINVAL, Open(tiny).error());
  EXPECT_TRUE(Contains(Open(tiny), tiny + ": a size of 0 bytes"));
}

TEST_F(OpenDeviceTest, NoDirectIo) {
  options_.read_only = true;
  const Result result = Open("/proc/version");
  EXPECT_EQ(EINVAL, result.error());
  EXPECT_TRUE(Contains(result, "/proc/version: does not support direct I/O"))
      << result.ToString();
}

TEST_F(OpenDeviceTest, NoPermission) {
  ASSERT_EQ(0, chmod(dir_.path().c_str(), 0755));
  ASSERT_EQ(0, chmod(path_.c_str(), 0400));
  ChildProcess child([&](const ChildProcess::Parent&) {
    // Root may do anything; nobody owns nothing.
    if (geteuid() == 0 &&
        (chmod(path_.c_str(), 0444) != 0 || seteuid(65534) != 0)) {
      return false;
    }
    const Result result = Open(path_);
    if (result.error() != EACCES ||
        !Contains(result, path_ + ": may not be opened for reading and "
                                  "writing")) {
      return false;
    }
    options_.read_only = true;
    return Open(path_).ok();
  });
  EXPECT_EQ(0, child.Wait());
}

TEST_F(OpenDeviceTest, AReadOnlyDeviceTakesNoWrites) {
  options_.read_only = true;
  ASSERT_TRUE(Open(path_).ok());
  AlignedBuffer memory = BufferPool::Get(4096);
  EXPECT_TRUE(device_->Read(0, memory.data(), 4096, 0).ok());
  EXPECT_EQ(EBADF, device_->Write(0, memory.data(), 4096, 0).error());
}

// ---- Who holds it
// ------------------------------------------------------------

TEST_F(OpenDeviceTest, TheHolderIsNamed) {
  const auto holder = Holder(false);
  const Result result = Open(path_);
  EXPECT_EQ(EBUSY, result.error());
  EXPECT_TRUE(Contains(result, path_ + ": held by process " +
                                   std::to_string(holder->pid()) + " ("))
      << result.ToString();
  EXPECT_TRUE(Contains(result, "); stop it or wait")) << result.ToString();
  options_.read_only = true;
  EXPECT_EQ(EBUSY, Open(path_).error());
}

TEST_F(OpenDeviceTest, AKilledHolderIsWaitedFor) {
  const auto holder = Holder(false);
  ASSERT_EQ(EBUSY, Open(path_).error());
  options_.lock_wait_ms = 60000;
  Result result = Result::Error(EIO);
  std::thread opener([&] { result = Open(path_); });
  holder->Kill();
  opener.join();
  EXPECT_TRUE(result.ok()) << result.ToString();
}

TEST_F(OpenDeviceTest, OpenTwiceInOneProcess) {
  ASSERT_TRUE(Open(path_).ok());
  std::unique_ptr<BlockDevice> second;
  const Result result = OpenBlockDevice(path_, options_, &second);
  EXPECT_EQ(EBUSY, result.error());
  EXPECT_TRUE(Contains(result, path_ + ": already open in this process"))
      << result.ToString();
  device_.reset();
  EXPECT_TRUE(Open(path_).ok());
}

TEST_F(OpenDeviceTest, ReadersShareAndKeepWritersOut) {
  const auto reader = Holder(true);
  options_.read_only = true;
  EXPECT_TRUE(Open(path_).ok());
  device_.reset();
  options_.read_only = false;
  EXPECT_EQ(EBUSY, Open(path_).error());
}

// ---- Block devices
// -----------------------------------------------------------

TEST_F(OpenDeviceTest, BlockDevice) {
  for (const uint32_t block_bytes : {512u, 4096u}) {
    const LoopDevice loop(path_, block_bytes);
    if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
    const Result result = Open(loop.path());
    ASSERT_TRUE(result.ok()) << result.ToString();
    EXPECT_EQ(block_bytes, device_->geometry().logical_block_bytes);
    EXPECT_TRUE(device_->geometry().is_block_device);
    AlignedBuffer memory = BufferPool::Get(8192);
    std::fill_n(memory.data(), 8192, 'l');
    EXPECT_TRUE(device_->Write(4096, memory.data(), 8192, 0).ok());
    EXPECT_TRUE(device_->Flush().ok());
    EXPECT_EQ(EINVAL, device_->Write(256, memory.data(), 512, 0).error());
    if (device_->geometry().discard) {
      EXPECT_TRUE(device_->Discard(4096, 4096).ok());
    }
    std::fill_n(memory.data(), 8192, 'x');
    EXPECT_TRUE(device_->Read(8192, memory.data(), 4096, 0).ok());
    EXPECT_EQ(std::string(4096, 'l'), std::string(memory.data(), 4096));
    device_.reset();
  }
}

TEST_F(OpenDeviceTest, BlockDeviceHeldByAnotherProcess) {
  const LoopDevice loop(path_);
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  ChildProcess holder([&](const ChildProcess::Parent& parent) {
    if (!Open(loop.path()).ok()) return false;
    parent.Ready();
    while (true) pause();
  });
  ASSERT_TRUE(holder.WaitUntilReady());
  const Result result = Open(loop.path());
  EXPECT_EQ(EBUSY, result.error());
  EXPECT_TRUE(Contains(result, loop.path() + ": held by process " +
                                   std::to_string(holder.pid())))
      << result.ToString();
  holder.Kill();
  options_.lock_wait_ms = 60000;
  EXPECT_TRUE(Open(loop.path()).ok());
}

// Claimed exclusively by somebody who takes no flock, as a mount does.
TEST_F(OpenDeviceTest, BlockDeviceInUse) {
  const LoopDevice loop(path_);
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  const int claim = open(loop.path().c_str(), O_RDONLY | O_EXCL | O_CLOEXEC);
  ASSERT_GE(claim, 0);
  options_.lock_wait_ms = 600000;  // not waited for
  const Result result = Open(loop.path());
  EXPECT_EQ(EBUSY, result.error());
  EXPECT_TRUE(Contains(result, loop.path() + ": is in use (mounted, or "
                                             "claimed by another program)"))
      << result.ToString();
  close(claim);
}

// ---- Making images
// -----------------------------------------------------------

TEST_F(OpenDeviceTest, CreatesImages) {
  for (const bool allocate : {false, true}) {
    const std::string path = dir_.File(allocate ? "full" : "sparse");
    ASSERT_TRUE(CreateImageFile(path, 3 << 20, allocate).ok());
    struct stat info = {};
    ASSERT_EQ(0, stat(path.c_str(), &info));
    EXPECT_EQ(3 << 20, info.st_size);
    EXPECT_EQ(S_IFREG | 0600u, info.st_mode);
    EXPECT_EQ(allocate, info.st_blocks * 512 >= 3 << 20);
  }
}

TEST_F(OpenDeviceTest, NeverReplacesAFile) {
  std::ofstream(dir_.File("mine")) << "mine";
  const Result result = CreateImageFile(dir_.File("mine"), 1 << 20, true);
  EXPECT_EQ(EEXIST, result.error());
  EXPECT_TRUE(Contains(result, dir_.File("mine")));
  ASSERT_EQ(0, symlink("nowhere", dir_.File("dangling").c_str()));
  EXPECT_EQ(EEXIST,
            CreateImageFile(dir_.File("dangling"), 1 << 20, false).error());
  std::string content;
  std::ifstream(dir_.File("mine")) >> content;
  EXPECT_EQ("mine", content);
}

TEST_F(OpenDeviceTest, ImagesThatCannotBeMade) {
  EXPECT_EQ(EINVAL, CreateImageFile(dir_.File("a"), 0, false).error());
  EXPECT_EQ(EINVAL, CreateImageFile(dir_.File("a"), UINT64_MAX, false).error());
  EXPECT_EQ(ENOENT,
            CreateImageFile(dir_.File("no/such"), 1 << 20, false).error());
  // More than any file system takes; nothing is left behind.
  EXPECT_FALSE(CreateImageFile(dir_.File("a"), uint64_t{1} << 62, true).ok());
  EXPECT_NE(0, access(dir_.File("a").c_str(), F_OK));
}

}  // namespace
}  // namespace diofs
