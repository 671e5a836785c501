// Opening devices and making images where the system calls fail, are
// interrupted, or answer what nobody expects.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "dio/open_device.h"
#include "tests/child_process.h"
#include "tests/gauges.h"
#include "tests/libc_faults.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = 1 << 20;

size_t OpenFds() {
  using Entries = std::filesystem::directory_iterator;
  return static_cast<size_t>(
      std::distance(Entries("/proc/self/fd"), Entries()));
}

bool Exists(const std::string& path) {
  struct stat info = {};
  return lstat(path.c_str(), &info) == 0;
}

// The flags of this process's descriptor of `path`; 0 without one.
int FlagsOfOpen(const std::string& path) {
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) == path) {
      return fcntl(std::stoi(entry.path().filename()), F_GETFL);
    }
  }
  return 0;
}

// Of a device that nobody has locked, or that does not exist.
bool Unlocked(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return true;
  const bool unlocked = flock(fd, LOCK_EX | LOCK_NB) == 0;
  close(fd);
  return unlocked;
}

std::string Because(const std::string& where, int error) {
  return where + ": " + std::strerror(error);
}

class OpenErrors : public testing::Test {
 protected:
  OpenErrors() : path_(dir_.File("image")), other_(dir_.File("other")) {
    EXPECT_TRUE(CreateImageFile(path_, kImageBytes, false).ok());
    options_.lock_wait_ms = 0;
    options_.backend = Backend::kSync;
  }
  ~OpenErrors() override { ExpectNothingHeld(device_.get()); }

  Result Open(const std::string& path) {
    return OpenBlockDevice(path, options_, &device_);
  }
  // Opening fails, says so in these words, and leaves nothing open or locked.
  void ExpectRefused(const std::string& path, int error,
                     const std::string& words) {
    const size_t fds = OpenFds();
    const Result result = Open(path);
    EXPECT_EQ(error, result.error()) << words;
    EXPECT_EQ(Because(words, error), result.ToString());
    EXPECT_EQ(nullptr, device_);
    EXPECT_EQ(fds, OpenFds()) << words;
    EXPECT_TRUE(Unlocked(path)) << words;
  }

  TempDir dir_;
  const std::string path_;
  const std::string other_;
  OpenDeviceOptions options_;
  std::unique_ptr<BlockDevice> device_;
};

// ---- Opening ---------------------------------------------------------------

TEST_F(OpenErrors, SignalsDoNotKeepAnybodyOut) {
  const FailCall open_fault("open", EINTR, 1, 2);
  const FailCall lock_fault("flock", EINTR, 1, 3);
  const Result result = Open(path_);
  EXPECT_TRUE(result.ok()) << result.ToString();
  EXPECT_EQ(3, open_fault.calls());
  EXPECT_EQ(4, lock_fault.calls());
}

TEST_F(OpenErrors, EveryStepIsToldByItsErrno) {
  const struct {
    const char* function;
    int nth;
    int error;
    const char* where;
  } steps[] = {
      {"stat", 1, EACCES, ""},         {"open", 1, EMFILE, ": open"},
      {"open", 1, EBUSY, ": open"},    {"open", 1, ENXIO, ": open"},
      {"flock", 1, ENOLCK, ": flock"}, {"fstat", 1, EIO, ""},
      {"stat", 2, ENOENT, ""},         {"fstat", 2, EIO, ": fstat"},
  };
  for (const auto& step : steps) {
    const FailCall fault(step.function, step.error, step.nth);
    ExpectRefused(path_, step.error, path_ + step.where);
    EXPECT_GE(fault.calls(), step.nth);
  }
  EXPECT_TRUE(Open(path_).ok());
}

TEST_F(OpenErrors, WhatMayNotBeOpened) {
  for (const int error : {EACCES, EPERM, EROFS}) {
    for (const bool read_only : {false, true}) {
      options_.read_only = read_only;
      // Without O_NOATIME it is tried once more.
      const FailCall fault("open", error, 1, 2);
      ExpectRefused(path_, error,
                    path_ + ": may not be opened for " +
                        (read_only ? "reading" : "reading and writing"));
    }
  }
}

// Whether reads touch the time of last access is up to the owner of the node.
TEST_F(OpenErrors, SomebodyElsesDeviceKeepsItsTimes) {
  for (const bool owned : {true, false}) {
    const FailCall fault("open", EPERM, 1, owned ? 0 : 1);
    std::unique_ptr<BlockDevice> device;
    ASSERT_TRUE(OpenBlockDevice(path_, options_, &device).ok());
    const int flags = FlagsOfOpen(path_);
    EXPECT_NE(0, flags & O_DIRECT);
    EXPECT_EQ(owned, (flags & O_NOATIME) != 0);
  }
}

TEST_F(OpenErrors, NoDirectIoAtOpen) {
  const FailCall fault("open", EINVAL);
  ExpectRefused(path_, EINVAL,
                path_ +
                    ": does not support direct I/O; use a block device, "
                    "or a file system that does (ext4, xfs)");
}

TEST_F(OpenErrors, AnImageThatIsReplacedMeanwhile) {
  const auto replace = [this] {
    EXPECT_TRUE(CreateImageFile(other_, 2 * kImageBytes, false).ok());
    EXPECT_EQ(0, std::rename(other_.c_str(), path_.c_str()));
  };
  {
    const BeforeCall hook("flock", replace);
    ExpectRefused(path_, EBUSY, path_ + ": is being replaced");
  }
  // With time to try again, the one that is there in the end.
  options_.lock_wait_ms = 60000;
  const BeforeCall hook("flock", replace);
  const Result result = Open(path_);
  ASSERT_TRUE(result.ok()) << result.ToString();
  EXPECT_EQ(2 * kImageBytes, device_->size_bytes());
  EXPECT_EQ(2, hook.calls());
}

// A number of its own is not enough: what was opened is another file system's
// file of the same number, or another device under the same name.
TEST_F(OpenErrors, WhatWasOpenedIsSomethingElse) {
  {
    const EditAnswer<struct stat> edit(
        "fstat", [](struct stat* info) { ++info->st_dev; });
    ExpectRefused(path_, EBUSY, path_ + ": is being replaced");
  }
  const EditAnswer<struct stat> edit(
      "fstat", [](struct stat* info) { ++info->st_rdev; });
  ExpectRefused(path_, EBUSY, path_ + ": is being replaced");
}

// ---- Who holds it ----------------------------------------------------------

// An image that this process has locked, and what /proc/locks says of that.
class HeldErrors : public OpenErrors {
 protected:
  HeldErrors()
      : locks_(dir_.File("locks")),
        holder_(open(path_.c_str(), O_RDWR | O_CLOEXEC)) {
    EXPECT_EQ(0, flock(holder_, LOCK_EX));
    struct stat info = {};
    EXPECT_EQ(0, fstat(holder_, &info));
    char node[64];
    std::snprintf(node, sizeof(node), "%02x:%02x:%llu", major(info.st_dev),
                  minor(info.st_dev),
                  static_cast<unsigned long long>(info.st_ino));
    node_ = node;
  }
  ~HeldErrors() override { close(holder_); }

  void ExpectHeld(const std::string& by) {
    const ReplaceFile replace("/proc/locks", locks_);
    const size_t fds = OpenFds();
    const Result result = Open(path_);
    EXPECT_EQ(EBUSY, result.error());
    EXPECT_EQ(Because(path_ + ": " + by, EBUSY), result.ToString());
    EXPECT_EQ(fds, OpenFds());
    EXPECT_GE(replace.calls(), 1);
  }

  const std::string locks_;
  std::string node_;

 private:
  const int holder_;
};

TEST_F(HeldErrors, OnlyTheLineOfItsLockTellsTheHolder) {
  // As in another pid namespace, or without /proc.
  ExpectHeld("held by another process; stop it or wait");
  // None is that of a lock of ours: another kind, another file, one who waits,
  // nobody, half a line.
  std::ofstream(locks_) << "1: POSIX  ADVISORY  WRITE 4711 " << node_
                        << " 0 EOF\n"
                        << "2: FLOCK  ADVISORY  WRITE 4712 ff:ff:1 0 EOF\n"
                        << "2: -> FLOCK  ADVISORY  WRITE 4713 " << node_
                        << " 0 EOF\n"
                        << "3: FLOCK  ADVISORY  WRITE 0 " << node_ << " 0 EOF\n"
                        << "4: FLOCK\n4:\n\n5: FLOCK ADVISORY WRITE 4714\n"
                        << "6: FLOCK ADVISORY\n7: FLOCK ADVISORY WRITE\n";
  ExpectHeld("held by another process; stop it or wait");
  // Above any pid there can be: gone by the time its name is asked for.
  std::ofstream(locks_, std::ios::app)
      << "8: FLOCK  ADVISORY  WRITE 4194305 " << node_ << " 0 EOF\n";
  ExpectHeld("held by process 4194305; stop it or wait");
}

// ---- Block devices ---------------------------------------------------------

class OpenLoopErrors : public OpenErrors {
 protected:
  OpenLoopErrors() : loop_(path_) {}
  // As a mount does, without a flock.
  void Claim() {
    claim_ = open(loop_.path().c_str(), O_RDONLY | O_EXCL | O_CLOEXEC);
    EXPECT_GE(claim_, 0);
  }
  ~OpenLoopErrors() override {
    if (claim_ >= 0) close(claim_);
  }

  const LoopDevice loop_;
  int claim_ = -1;
};

// Who has claimed a device is asked of its lock; not to learn it is no reason
// to say anything else.
TEST_F(OpenLoopErrors, AClaimWhoseLockCannotBeAskedFor) {
  if (!loop_.ok()) GTEST_SKIP() << "no loop device to be had";
  Claim();
  const std::string words =
      loop_.path() + ": is in use (mounted, or claimed by another program)";
  {
    const FailCall fault("open", EMFILE, 2);
    ExpectRefused(loop_.path(), EBUSY, words);
    EXPECT_EQ(3, fault.calls());  // the last one is the test's
  }
  {
    const FailCall fault("flock", ENOLCK);
    ExpectRefused(loop_.path(), EBUSY, words);
  }
  const FailCall fault("flock", EINTR);
  ExpectRefused(loop_.path(), EBUSY, words);
  EXPECT_EQ(3, fault.calls());
}

// Nothing is claimed for reading, so nobody's claim can be in the way.
TEST_F(OpenLoopErrors, BusyForReading) {
  if (!loop_.ok()) GTEST_SKIP() << "no loop device to be had";
  options_.read_only = true;
  const FailCall fault("open", EBUSY);
  ExpectRefused(loop_.path(), EBUSY, loop_.path() + ": open");
}

TEST_F(OpenLoopErrors, ADeviceIsItsNumber) {
  if (!loop_.ok()) GTEST_SKIP() << "no loop device to be had";
  ASSERT_EQ(0, symlink(loop_.path().c_str(), other_.c_str()));
  struct stat info = {};
  ASSERT_EQ(0, stat(loop_.path().c_str(), &info));
  DeviceIdentity loop, link, image;
  ASSERT_TRUE(IdentifyDevice(loop_.path(), &loop).ok());
  ASSERT_TRUE(IdentifyDevice(other_, &link).ok());
  ASSERT_TRUE(IdentifyDevice(path_, &image).ok());
  EXPECT_EQ(info.st_rdev, loop.device);
  EXPECT_EQ(0u, loop.inode);
  EXPECT_TRUE(loop == link);
  EXPECT_FALSE(loop == image);
}

// The lines are for who wants them.
TEST_F(OpenErrors, ALogIsNotNeeded) {
  options_.backend = Backend::kAuto;
  const FailCall fault("preadv2", EOPNOTSUPP, 1, kEveryCall);
  const Result result = Open(path_);
  ASSERT_TRUE(result.ok()) << result.ToString();
  EXPECT_STREQ("threads", device_->backend_name());
}

// ---- Making images ---------------------------------------------------------

TEST_F(OpenErrors, SignalsDoNotKeepAnImageFromBeingMade) {
  const size_t fds = OpenFds();
  for (const auto& [function, nth] :
       std::vector<std::pair<const char*, int>>{{"open", 1},
                                                {"ftruncate", 1},
                                                {"posix_fallocate", 1},
                                                {"fsync", 1},
                                                {"open", 2},
                                                {"fsync", 2}}) {
    const FailCall fault(function, EINTR, nth);
    const Result result = CreateImageFile(other_, kImageBytes, true);
    ASSERT_TRUE(result.ok()) << function << ": " << result.ToString();
    struct stat info = {};
    ASSERT_EQ(0, stat(other_.c_str(), &info));
    EXPECT_EQ(S_IFREG | 0600u, info.st_mode);
    EXPECT_EQ(kImageBytes, static_cast<uint64_t>(info.st_size));
    EXPECT_GE(static_cast<uint64_t>(info.st_blocks) * 512, kImageBytes);
    EXPECT_GT(fault.calls(), nth) << function;
    ASSERT_EQ(0, unlink(other_.c_str()));
  }
  EXPECT_EQ(fds, OpenFds());
}

TEST_F(OpenErrors, AnImageThatFailsIsGone) {
  const size_t fds = OpenFds();
  const struct {
    const char* function;
    int nth;
    int error;
    std::string where;
  } steps[] = {
      {"open", 1, EMFILE, other_},
      {"ftruncate", 1, EFBIG, other_ + ": size"},
      {"posix_fallocate", 1, ENOSPC, other_ + ": allocate"},
      {"fsync", 1, EIO, other_ + ": fsync"},
      {"open", 2, ENFILE, dir_.path()},
      {"fsync", 2, EDQUOT, dir_.path()},
  };
  for (const auto& step : steps) {
    const FailCall fault(step.function, step.error, step.nth);
    const Result result = CreateImageFile(other_, kImageBytes, true);
    EXPECT_EQ(Because(step.where, step.error), result.ToString());
    EXPECT_EQ(step.error, result.error());
    EXPECT_FALSE(Exists(other_)) << step.where;
    EXPECT_EQ(fds, OpenFds());
  }
}

TEST_F(OpenErrors, AnImageGetsItsName) {
  struct stat before = {};
  struct stat after = {};
  ASSERT_EQ(0, stat(path_.c_str(), &before));
  const FailCall fault("fsync", EINTR);
  const Result result = NameImageFile(path_, other_);
  EXPECT_TRUE(result.ok()) << result.ToString();
  EXPECT_EQ(2, fault.calls());  // the folder is synced
  EXPECT_FALSE(Exists(path_));
  ASSERT_EQ(0, stat(other_.c_str(), &after));
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(OpenErrors, ANameThatIsTakenStays) {
  std::ofstream(other_) << "mine";
  const Result result = NameImageFile(path_, other_);
  EXPECT_EQ(Because(other_, EEXIST), result.ToString());
  EXPECT_FALSE(Exists(path_));
  std::string content;
  std::ifstream(other_) >> content;
  EXPECT_EQ("mine", content);
}

TEST_F(OpenErrors, AnImageThatIsGoneGetsNoName) {
  const std::string missing = dir_.File("missing");
  const Result result = NameImageFile(missing, other_);
  EXPECT_EQ(Because(other_, ENOENT), result.ToString());
  EXPECT_FALSE(Exists(other_));
}

// From here on there is a whole image with that name; it stays.
TEST_F(OpenErrors, WhatFailsAfterAnImageHasItsName) {
  const size_t fds = OpenFds();
  {
    const FailCall fault("unlink", EIO);
    EXPECT_EQ(Because(path_, EIO), NameImageFile(path_, other_).ToString());
  }
  EXPECT_TRUE(Exists(path_));
  EXPECT_TRUE(Exists(other_));
  ASSERT_EQ(0, unlink(other_.c_str()));
  {
    const FailCall fault("fsync", EIO);
    EXPECT_EQ(Because(dir_.path(), EIO),
              NameImageFile(path_, other_).ToString());
  }
  EXPECT_FALSE(Exists(path_));
  EXPECT_TRUE(Exists(other_));
  EXPECT_EQ(fds, OpenFds());
}

// Neither name has a folder in front that could be cut off and be opened.
TEST_F(OpenErrors, NamesInTheWorkingFolderAndInTheRoot) {
  if (geteuid() != 0) GTEST_SKIP() << "only root may change its root";
  ChildProcess child([&](const ChildProcess::Parent&) {
    const int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || chroot(dir_.path().c_str()) != 0 || chdir("/") != 0 ||
        mkdir("deep", 0700) != 0 || chdir("deep") != 0) {
      return false;
    }
    bool ok = CreateImageFile("one", kImageBytes, false).ok() &&
              NameImageFile("one", "two").ok() && Exists("/deep/two") &&
              CreateImageFile("/three", kImageBytes, false).ok() &&
              NameImageFile("/three", "/four").ok() && Exists("../four");
    for (const auto& [path, folder] :
         {std::pair("five", "."), std::pair("/five", "/")}) {
      const FailCall fault("fsync", EIO, 2);
      ok = ok && CreateImageFile(path, kImageBytes, false).ToString() ==
                     Because(folder, EIO);
    }
    // Back, so that a checking tool finds the files it writes at the end.
    return fchdir(root) == 0 && chroot(".") == 0 && ok;
  });
  EXPECT_EQ(0, child.Wait());
}

}  // namespace
}  // namespace diofs
