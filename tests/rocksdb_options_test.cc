// A string of options that is refused leaves no trace.

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "env/mount_table.h"
#include "env/rocksdb_file_system.h"
#include "rocksdb/convenience.h"
#include "rocksdb/file_system.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

rocksdb::Status Make(const std::string& options) {
  rocksdb::ConfigOptions config;
  config.ignore_unsupported_options = false;
  std::shared_ptr<rocksdb::FileSystem> file_system;
  return rocksdb::FileSystem::CreateFromString(config, options, &file_system);
}

TEST(OptionStringTest, ABadValueMountsNothing) {
  const TempDir dir;
  const std::string image = dir.File("image");
  FormatOptions format;
  format.write_every_block = false;
  ASSERT_TRUE(CreateImage(image, 16 << 20, format).ok());
  const std::string before = Content(image);
  for (const char* bad : {"flush=bogus", "ro=yes", "nonsense=1"}) {
    const rocksdb::Status status =
        Make("id=dio://" + image + ";backend=sync;" + bad);
    EXPECT_FALSE(status.ok()) << bad;
  }
  EXPECT_EQ(Content(image), before);
  ASSERT_TRUE(Make("id=dio://" + image + ";backend=sync").ok());
  EXPECT_NE(Content(image), before);
}

TEST(OptionStringTest, ABadValueMakesNoImage) {
  const TempDir dir;
  const std::string image = dir.File("image");
  EXPECT_FALSE(
      Make("id=dio://" + image + ";create=16M;prealloc=none;flush=bogus").ok());
  EXPECT_NE(access(image.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace diofs
