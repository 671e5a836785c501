#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "env/mount_table.h"
#include "tests/child_process.h"
#include "tests/temp_dir.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

class MountTableTest : public testing::Test {
 protected:
  VolumeOptions Options() const {
    VolumeOptions options;
    options.path = dir_.File("image");
    options.create_bytes = 16 << 20;
    options.prealloc = false;
    options.lock_wait_ms = 0;
    return options;
  }
  Result Open(const VolumeOptions& options, std::shared_ptr<Volume>* volume) {
    return MountTable::Open(
        options, [this](const std::string& line) { log_.push_back(line); },
        volume);
  }

  TempDir dir_;
  std::vector<std::string> log_;
};

TEST_F(MountTableTest, CreatesAnImageThatIsMissingAndKeepsOneThatIsThere) {
  std::shared_ptr<Volume> volume;
  Result r = Open(Options(), &volume);
  ASSERT_TRUE(r.ok()) << r.ToString();
  ASSERT_TRUE(WriteFile(volume.get(), "/f", "kept", true).ok());
  volume = nullptr;
  struct stat status;
  ASSERT_EQ(stat(Options().path.c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 16 << 20);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ASSERT_TRUE(Open(Options(), &volume).ok());
  std::string content;
  ASSERT_TRUE(ReadFile(volume.get(), "/f", &content).ok());
  EXPECT_EQ(content, "kept");
  // Nothing else was left in the directory.
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_.path())) {
    files += entry.exists() ? 1 : 0;
  }
  EXPECT_EQ(files, 1u);
}

TEST_F(MountTableTest, OneVolumePerDevice) {
  std::shared_ptr<Volume> first;
  std::shared_ptr<Volume> second;
  ASSERT_TRUE(Open(Options(), &first).ok());
  // Another path to the same file is the same device.
  VolumeOptions other = Options();
  other.path = dir_.path() + "/./image";
  ASSERT_TRUE(Open(other, &second).ok());
  EXPECT_EQ(first, second);
}

TEST_F(MountTableTest, AnotherValueOfAnOptionIsRefusedByName) {
  std::shared_ptr<Volume> first;
  std::shared_ptr<Volume> second;
  ASSERT_TRUE(Open(Options(), &first).ok());
  VolumeOptions other = Options();
  other.flush_mode = FlushMode::kMemory;
  const Result r = Open(other, &second);
  EXPECT_EQ(r.error(), EINVAL);
  EXPECT_NE(r.ToString().find("'flush'"), std::string::npos) << r.ToString();
  EXPECT_NE(r.ToString().find(other.path), std::string::npos);
  other = Options();
  other.sync_mode = SyncMode::kNone;
  EXPECT_NE(Open(other, &second).ToString().find("'sync'"), std::string::npos);
  other = Options();
  other.checksums = true;
  EXPECT_NE(Open(other, &second).ToString().find("'checksums'"),
            std::string::npos);
}

TEST_F(MountTableTest, ErrorsNameThePathAndWhatToDo) {
  std::shared_ptr<Volume> volume;
  VolumeOptions options = Options();
  options.create_bytes = 0;
  Result r = Open(options, &volume);
  EXPECT_EQ(r.error(), ENOENT);
  EXPECT_NE(r.ToString().find("create="), std::string::npos) << r.ToString();
  EXPECT_NE(r.ToString().find(options.path), std::string::npos);

  std::ofstream(options.path) << std::string(16 << 20, 'x');
  r = Open(options, &volume);
  EXPECT_EQ(r.error(), ENODATA);
  EXPECT_NE(r.ToString().find("diofs mkfs"), std::string::npos) << r.ToString();
  // With `create` what is there is not formatted either.
  r = Open(Options(), &volume);
  EXPECT_EQ(r.error(), ENODATA);

  VolumeOptions small = Options();
  small.path = dir_.File("small");
  small.create_bytes = 1 << 20;
  r = Open(small, &volume);
  EXPECT_EQ(r.error(), EINVAL);
  EXPECT_NE(r.ToString().find("too small"), std::string::npos) << r.ToString();
  EXPECT_NE(access(small.path.c_str(), F_OK), 0);

  VolumeOptions dangling = Options();
  dangling.path = dir_.File("dangling");
  ASSERT_EQ(symlink(dir_.File("nothing").c_str(), dangling.path.c_str()), 0);
  r = Open(dangling, &volume);
  EXPECT_EQ(r.error(), ENOENT);
  EXPECT_NE(r.ToString().find("symbolic link"), std::string::npos);

  VolumeOptions read_only = Options();
  read_only.path = dir_.File("read_only");
  read_only.read_only = true;
  EXPECT_EQ(Open(read_only, &volume).error(), EINVAL);
  EXPECT_NE(access(read_only.path.c_str(), F_OK), 0);

  options.path = dir_.path();
  EXPECT_EQ(Open(options, &volume).error(), EINVAL);
}

TEST_F(MountTableTest, AVolumeHeldByAnotherProcessNamesItsPid) {
  const VolumeOptions options = Options();
  ChildProcess child([&](const ChildProcess::Parent& parent) {
    std::shared_ptr<Volume> volume;
    if (!MountTable::Open(options, nullptr, &volume).ok()) return false;
    parent.Ready();
    pause();
    return true;
  });
  child.WaitUntilReady();
  std::shared_ptr<Volume> volume;
  const Result r = Open(options, &volume);
  EXPECT_EQ(r.error(), EBUSY);
  EXPECT_NE(r.ToString().find(std::to_string(child.pid())), std::string::npos)
      << r.ToString();
}

// A fork's copy of the descriptor must not keep the lock.
TEST_F(MountTableTest, AForkedChildDoesNotKeepTheVolumeHeld) {
  std::shared_ptr<Volume> volume;
  ASSERT_TRUE(Open(Options(), &volume).ok());
  ChildProcess child([&](const ChildProcess::Parent& parent) {
    parent.Ready();
    pause();
    return true;
  });
  child.WaitUntilReady();
  volume = nullptr;
  const Result r = Open(Options(), &volume);
  EXPECT_TRUE(r.ok()) << r.ToString();
}

// exit() with the volume still referenced, as RocksDB's static Env does.
TEST_F(MountTableTest, ExitUnmountsCleanly) {
  const VolumeOptions options = Options();
  std::shared_ptr<Volume> volume;
  {
    ChildProcess child([&](const ChildProcess::Parent&) {
      static std::shared_ptr<Volume> kept;
      if (!MountTable::Open(options, nullptr, &kept).ok()) return false;
      if (!WriteFile(kept.get(), "/f", "x", false).ok()) return false;
      std::exit(0);
    });
    EXPECT_EQ(child.Wait(), 0);
  }
  VolumeOptions read_only = options;
  read_only.read_only = true;
  ASSERT_TRUE(Open(read_only, &volume).ok());
  EXPECT_FALSE(volume->superblock().dirty());
}

TEST_F(MountTableTest, StatisticsAreAppendedAtUnmount) {
  VolumeOptions options = Options();
  options.stats_file = dir_.File("stats \"quoted\"");
  for (int i = 0; i < 2; ++i) {
    std::shared_ptr<Volume> volume;
    ASSERT_TRUE(Open(options, &volume).ok());
    ASSERT_TRUE(
        WriteFile(volume.get(), "/000001.sst", Pattern(1, 10000), true).ok());
  }
  std::ifstream file(options.stats_file);
  std::string line;
  int lines = 0;
  while (std::getline(file, line)) {
    const nlohmann::json stats = nlohmann::json::parse(line);
    EXPECT_EQ(stats["device"], options.path);
    EXPECT_EQ(stats["io"]["sst"]["writes"], 1);
    EXPECT_EQ(stats["io"]["sst"]["write_bytes"], 12288);
    EXPECT_GT(stats["flushes"], 0);
    ++lines;
  }
  EXPECT_EQ(lines, 2);
}

TEST_F(MountTableTest, ThreadsThatOpenTogetherShare) {
  std::vector<std::shared_ptr<Volume>> volumes(8);
  std::vector<std::thread> threads;
  threads.reserve(volumes.size());
  for (std::shared_ptr<Volume>& volume : volumes) {
    threads.emplace_back([this, &volume] {
      EXPECT_TRUE(MountTable::Open(Options(), nullptr, &volume).ok());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::shared_ptr<Volume>& volume : volumes) {
    EXPECT_EQ(volume, volumes[0]);
  }
}

}  // namespace
}  // namespace diofs
