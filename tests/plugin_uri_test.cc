#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "env/rocksdb_file_system.h"
#include "env/volume_options.h"
#include "plugin/dio_uri.h"
#include "plugin/register.h"
#include "rocksdb/c.h"
#include "rocksdb/convenience.h"
#include "rocksdb/file_system.h"
#include "rocksdb/utilities/object_registry.h"
#include "rocksdb/version.h"
#include "tests/rocksdb_test_volume.h"

extern "C" rocksdb_env_t* dio_create_env(const char* uri, char** error);

namespace diofs {
namespace {

using rocksdb::ConfigOptions;
using rocksdb::Env;
using rocksdb::FileSystem;
using rocksdb::Status;

std::shared_ptr<FileSystem> Create(const std::string& value, Status* status) {
  std::shared_ptr<FileSystem> file_system;
  *status = FileSystem::CreateFromString(ConfigOptions(), value, &file_system);
  return file_system;
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// ---- Sizes -----------------------------------------------------------------

TEST(ParseSize, UnitsArePowersOf1024) {
  const std::vector<std::pair<std::string, uint64_t>> good = {
      {"0", 0},
      {"4096", 4096},
      {"1K", 1024},
      {"512M", uint64_t{512} << 20},
      {"4G", uint64_t{4} << 30},
      {"1T", uint64_t{1} << 40},
      {"18446744073709551615", UINT64_MAX},
      {"16777215T", uint64_t{16777215} << 40},
  };
  for (const auto& [text, expected] : good) {
    uint64_t bytes = 1;
    EXPECT_TRUE(ParseSize(text, &bytes)) << text;
    EXPECT_EQ(bytes, expected) << text;
  }
  for (const char* const text :
       {"", "G", "4g", "4 G", " 4G", "-1", "+1", "1.5G", "4GB", "4GiB", "0x10",
        "18446744073709551616", "16777216T"}) {
    uint64_t bytes = 7;
    EXPECT_FALSE(ParseSize(text, &bytes)) << text;
    EXPECT_EQ(bytes, 7U) << text;
  }
}

// ---- URIs ------------------------------------------------------------------

TEST(DioUri, PathAlone) {
  VolumeOptions options;
  ASSERT_TRUE(ParseDioUri("dio:///dev/nvme0n1", &options).ok());
  EXPECT_EQ(options.path, "/dev/nvme0n1");
  EXPECT_EQ(options.create_bytes, 0U);
  EXPECT_TRUE(options.prealloc);
  EXPECT_FALSE(options.read_only);
  EXPECT_EQ(options.flush_mode, FlushMode::kDevice);
  EXPECT_EQ(options.backend, Backend::kAuto);
  EXPECT_EQ(options.lock_wait_ms, 30000U);
  EXPECT_EQ(options.stats_file, "");
}

TEST(DioUri, EveryOption) {
  VolumeOptions options;
  const Result parsed = ParseDioUri(
      "dio:///a/b?create=4G&prealloc=none&ro=1&flush=memory&backend=sync&"
      "sync=flush&checksums=1&discard=async&discard_rate=64M&lock_wait=5&"
      "stats_file=/tmp/s",
      &options);
  ASSERT_TRUE(parsed.ok()) << parsed.ToString();
  EXPECT_EQ(options.path, "/a/b");
  EXPECT_EQ(options.create_bytes, uint64_t{4} << 30);
  EXPECT_FALSE(options.prealloc);
  EXPECT_TRUE(options.read_only);
  EXPECT_EQ(options.flush_mode, FlushMode::kMemory);
  EXPECT_EQ(options.sync_mode, SyncMode::kFlush);
  EXPECT_TRUE(options.checksums);
  EXPECT_EQ(options.backend, Backend::kSync);
  EXPECT_EQ(options.discard, DiscardMode::kAsync);
  EXPECT_EQ(options.discard_bytes_per_second, uint64_t{64} << 20);
  EXPECT_EQ(options.lock_wait_ms, 5000U);
  EXPECT_EQ(options.stats_file, "/tmp/s");
}

TEST(DioUri, PercentDecoding) {
  VolumeOptions options;
  ASSERT_TRUE(
      ParseDioUri("dio:///a%20b%3Fc%23d?stats_file=%2ftmp/x%26y", &options)
          .ok());
  EXPECT_EQ(options.path, "/a b?c#d");
  EXPECT_EQ(options.stats_file, "/tmp/x&y");
}

TEST(DioUri, MalformedOnesSayWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"", "dio://"},
      {"dio", "dio://"},
      {"dio:/x", "dio://"},
      {"posix:///x", "dio://"},
      {"dio://", "empty path"},
      {"dio://?ro=1", "empty path"},
      {"dio://host/x", "relative path"},
      {"dio:///x#f", "fragment"},
      {"dio:///x?ro=1#f", "fragment"},
      {"dio:///x%", "hexadecimal"},
      {"dio:///x%4", "hexadecimal"},
      {"dio:///x%4g", "hexadecimal"},
      {"dio:///x%00", "NUL"},
      {"dio:///x?", "name=value"},
      {"dio:///x?ro", "name=value"},
      {"dio:///x?=1", "name=value"},
      {"dio:///x?ro=1&", "name=value"},
      {"dio:///x?ro=1&ro=1", "twice"},
  };
  for (const auto& [uri, reason] : bad) {
    VolumeOptions options;
    options.path = "untouched";
    const Result parsed = ParseDioUri(uri, &options);
    EXPECT_EQ(parsed.error(), EINVAL) << uri;
    EXPECT_TRUE(Contains(parsed.context(), reason))
        << uri << ": " << parsed.context();
    EXPECT_EQ(options.path, "untouched") << uri;
  }
}

TEST(DioUri, BadOptionsAreNamedAndTheValidOnesListed) {
  VolumeOptions options;
  const Result unknown = ParseDioUri("dio:///x?craete=4G", &options);
  EXPECT_EQ(unknown.error(), EINVAL);
  EXPECT_TRUE(Contains(unknown.context(), "craete"));
  for (const VolumeOption& option : AllVolumeOptions()) {
    EXPECT_TRUE(Contains(unknown.context(), option.name)) << option.name;
  }

  const std::vector<std::pair<std::string, std::string>> bad = {
      {"create=0", "SIZE"},
      {"create=4X", "SIZE"},
      {"create=", "SIZE"},
      {"prealloc=1", "full|none"},
      {"ro=yes", "0|1"},
      {"flush=shared", "device|memory"},
      {"backend=aio", "auto|uring|threads|sync"},
      {"sync=on", "auto|fua|flush|none"},
      {"discard=on", "auto|none|async"},
      {"discard_rate=fast", "SIZE a second"},
      {"lock_wait=-1", "SECONDS"},
      {"lock_wait=86401", "86400"},
      {"stats_file=relative", "/PATH"},
      {"stats_file=", "/PATH"},
  };
  for (const auto& [option, values] : bad) {
    const Result parsed = ParseDioUri("dio:///x?" + option, &options);
    EXPECT_EQ(parsed.error(), EINVAL) << option;
    EXPECT_TRUE(Contains(parsed.context(), option)) << parsed.context();
    EXPECT_TRUE(Contains(parsed.context(), values)) << parsed.context();
  }
}

TEST(VolumeOptions, PrintedValuesAreParsedAgain) {
  VolumeOptions options;
  ASSERT_TRUE(ParseDioUri("dio:///a?create=1G&prealloc=none&ro=1&flush=memory&"
                          "checksums=1&backend=threads&discard=none&"
                          "discard_rate=0&"
                          "lock_wait=7&stats_file=/s",
                          &options)
                  .ok());
  VolumeOptions again;
  for (const VolumeOption& option : AllVolumeOptions()) {
    ASSERT_TRUE(option.parse(option.print(options), &again)) << option.name;
  }
  for (const VolumeOption& option : AllVolumeOptions()) {
    EXPECT_EQ(option.print(again), option.print(options)) << option.name;
  }
}

// ---- The registry ----------------------------------------------------------

TEST(Register, OnlyTheSameMinorVersion) {
  const std::string minor =
      std::to_string(ROCKSDB_MAJOR) + "." + std::to_string(ROCKSDB_MINOR);
  const std::vector<std::string> others = {
      minor + "0.1", std::to_string(ROCKSDB_MAJOR) + ".0.0", "99.1.0", ""};
  for (const std::string& other : others) {
    rocksdb::ObjectLibrary library("test");
    std::string refusal;
    EXPECT_EQ(RegisterDio(&library, other, &refusal), 0) << other;
    EXPECT_TRUE(Contains(refusal, minor)) << refusal;
    EXPECT_TRUE(Contains(refusal, other)) << refusal;
    EXPECT_EQ(library.GetFactoryCount(FileSystem::Type()), 0U);
  }
  rocksdb::ObjectLibrary library("test");
  std::string refusal;
  EXPECT_EQ(RegisterDio(&library, minor + ".99", &refusal), 2);
  EXPECT_EQ(refusal, "");
  EXPECT_EQ(library.GetFactoryCount(FileSystem::Type()), 1U);
  EXPECT_EQ(library.GetFactoryCount(Env::Type()), 1U);
}

TEST(Register, InTreeEntry) {
  rocksdb::ObjectLibrary library("test");
  EXPECT_EQ(register_dio_plugin(library, ""), 2);
  EXPECT_NE(library.FindFactory<FileSystem>("dio:///x"), nullptr);
  EXPECT_NE(library.FindFactory<Env>("dio:///x"), nullptr);
  // A malformed URI is ours to answer; another scheme is not.
  EXPECT_NE(library.FindFactory<FileSystem>("dio"), nullptr);
  EXPECT_NE(library.FindFactory<FileSystem>("dio:/x"), nullptr);
  EXPECT_EQ(library.FindFactory<FileSystem>("diode:///x"), nullptr);
  EXPECT_EQ(library.FindFactory<FileSystem>("posix://x"), nullptr);
}

TEST(Register, BadUrisAreInvalidArgumentForBothFactories) {
  for (const char* const uri :
       {"dio", "dio:/x", "dio://x", "dio:///x?foo=1", "dio:///x?flush=maybe"}) {
    Status status;
    EXPECT_EQ(Create(uri, &status), nullptr);
    EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
    EXPECT_TRUE(Contains(status.ToString(), uri)) << status.ToString();

    Env* env = Env::Default();
    std::shared_ptr<Env> guard;
    // A bare '=' would be taken for an option of the Env that is there.
    status = Env::CreateFromString(ConfigOptions(), std::string("id=") + uri,
                                   &env, &guard);
    EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
    EXPECT_TRUE(Contains(status.ToString(), uri)) << status.ToString();
  }
}

TEST(Register, TheFactoryAloneDoesNotMount) {
  rocksdb::ObjectLibrary library("test");
  register_dio_plugin(library, "");
  std::unique_ptr<FileSystem> guard;
  std::string error;
  FileSystem* const file_system = library.FindFactory<FileSystem>(
      "dio:///no/such/image")("dio:///no/such/image", &guard, &error);
  ASSERT_NE(file_system, nullptr) << error;
  EXPECT_EQ(file_system, guard.get());
  // Nothing works before the mount, and nothing crashes.
  const rocksdb::IOStatus status =
      file_system->FileExists("/x", rocksdb::IOOptions(), nullptr);
  EXPECT_TRUE(status.IsIOError()) << status.ToString();
  EXPECT_TRUE(Contains(status.ToString(), "not mounted")) << status.ToString();
  EXPECT_TRUE(Contains(status.ToString(), "/x")) << status.ToString();
  const Status prepared = file_system->PrepareOptions(ConfigOptions());
  EXPECT_TRUE(prepared.IsPathNotFound()) << prepared.ToString();
  EXPECT_TRUE(Contains(prepared.ToString(), "/no/such/image"));
}

TEST(Register, OptionsBehindTheIdAreSetBeforeTheMount) {
  TempDir directory;
  const std::string id = "id=dio://" + directory.File("image");
  Status status;
  Create(id + ";foo=1", &status);
  EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
  EXPECT_TRUE(Contains(status.ToString(), "foo")) << status.ToString();
  EXPECT_TRUE(Contains(status.ToString(), "lock_wait")) << status.ToString();
  Create(id + ";create=17Q", &status);
  EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
  EXPECT_TRUE(Contains(status.ToString(), "create")) << status.ToString();
  EXPECT_NE(access(directory.File("image").c_str(), F_OK), 0);

  const std::shared_ptr<FileSystem> file_system =
      Create(id + ";create=32M;prealloc=none;flush=memory", &status);
  ASSERT_TRUE(status.ok()) << status.ToString();
  auto* const dio = file_system->CheckedCast<DioFileSystem>();
  ASSERT_NE(dio, nullptr);
  ASSERT_NE(dio->volume(), nullptr);
  EXPECT_EQ(dio->volume()->flush_mode(), FlushMode::kMemory);
  std::string value;
  EXPECT_TRUE(dio->GetOption(ConfigOptions(), "flush", &value).ok());
  EXPECT_EQ(value, "memory");

  // Idempotent, and closed to changes from now on.
  EXPECT_TRUE(dio->PrepareOptions(ConfigOptions()).ok());
  status = dio->ConfigureFromString(ConfigOptions(), "flush=device");
  EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
  EXPECT_TRUE(Contains(status.ToString(), "flush")) << status.ToString();
}

TEST(Register, TwoOpensOfOneDeviceShareAVolume) {
  TestVolume volume;
  const auto first = volume.Mount();
  const auto second = volume.Mount();
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  EXPECT_NE(first.get(), second.get());
  EXPECT_EQ(first->volume(), second->volume());

  Status status;
  Create(volume.Uri("flush=memory"), &status);
  EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
  EXPECT_TRUE(Contains(status.ToString(), "flush")) << status.ToString();
  EXPECT_TRUE(Contains(status.ToString(), volume.path()));
}

TEST(Register, TheEnvIsOnePerUriAndMounted) {
  TestVolume volume;
  std::vector<Env*> envs;
  for (int i = 0; i < 2; ++i) {
    Env* env = Env::Default();
    std::shared_ptr<Env> guard;
    const Status status =
        Env::CreateFromUri(ConfigOptions(), volume.Uri(), "", &env, &guard);
    ASSERT_TRUE(status.ok()) << status.ToString();
    EXPECT_EQ(guard, nullptr);
    envs.push_back(env);
  }
  EXPECT_EQ(envs[0], envs[1]);
  EXPECT_NE(envs[0], Env::Default());
  EXPECT_TRUE(envs[0]->CreateDirIfMissing("/d").ok());
  EXPECT_TRUE(
      volume.Mount()->FileExists("/d", rocksdb::IOOptions(), nullptr).ok());

  // As bindings name it.
  rocksdb::Options base;
  rocksdb::Options options;
  const Status status = rocksdb::GetOptionsFromString(
      base, "env={id=" + volume.Uri() + "}", &options);
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(options.env, envs[0]);
}

TEST(Register, AnEnvThatCannotBeMountedSaysWhy) {
  Env* env = Env::Default();
  std::shared_ptr<Env> guard;
  const Status status = Env::CreateFromString(
      ConfigOptions(), "dio:///no/such/image", &env, &guard);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(Contains(status.ToString(), "/no/such/image"));
  EXPECT_EQ(env, Env::Default());
}

// ---- C ---------------------------------------------------------------------

TEST(CreateEnvForC, ADatabaseThroughTheCApi) {
  TestVolume volume;
  char* error = nullptr;
  rocksdb_env_t* const env = dio_create_env(volume.Uri().c_str(), &error);
  ASSERT_NE(env, nullptr) << error;

  rocksdb_options_t* const options = rocksdb_options_create();
  rocksdb_options_set_create_if_missing(options, 1);
  rocksdb_options_set_env(options, env);
  rocksdb_t* const db = rocksdb_open(options, "/from/c", &error);
  ASSERT_EQ(error, nullptr) << error;
  rocksdb_writeoptions_t* const write = rocksdb_writeoptions_create();
  rocksdb_put(db, write, "key", 3, "value", 5, &error);
  EXPECT_EQ(error, nullptr);
  rocksdb_readoptions_t* const read = rocksdb_readoptions_create();
  size_t bytes = 0;
  char* const value = rocksdb_get(db, read, "key", 3, &bytes, &error);
  EXPECT_EQ(error, nullptr);
  EXPECT_EQ(std::string(value, bytes), "value");
  rocksdb_free(value);
  rocksdb_readoptions_destroy(read);
  rocksdb_writeoptions_destroy(write);
  rocksdb_close(db);
  rocksdb_options_destroy(options);
  rocksdb_env_destroy(env);

  EXPECT_TRUE(volume.Mount()
                  ->FileExists("/from/c/CURRENT", rocksdb::IOOptions(), nullptr)
                  .ok());
}

TEST(CreateEnvForC, ErrorsNameTheUri) {
  char* error = nullptr;
  EXPECT_EQ(dio_create_env("dio:///x?foo=1", &error), nullptr);
  ASSERT_NE(error, nullptr);
  EXPECT_TRUE(Contains(error, "dio:///x?foo=1")) << error;
  // The old message is freed, as RocksDB's own functions do.
  EXPECT_EQ(dio_create_env("dio:///no/such/image", &error), nullptr);
  EXPECT_TRUE(Contains(error, "/no/such/image")) << error;
  free(error);
}

}  // namespace
}  // namespace diofs
