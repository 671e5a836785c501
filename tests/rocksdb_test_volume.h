#ifndef DIOFS_TESTS_ROCKSDB_TEST_VOLUME_H_
#define DIOFS_TESTS_ROCKSDB_TEST_VOLUME_H_

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>

#include "env/rocksdb_file_system.h"
#include "rocksdb/env.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"

namespace diofs {

// What a test's volume lies on.
enum class Medium { kImage, kLoop512, kLoop4096 };
// "Image", "Loop512", "Loop4096": names of parametrised tests.
const char* MediumName(Medium medium);
inline void PrintTo(Medium medium, std::ostream* out) {
  *out << MediumName(medium);
}

// A formatted volume of its own, gone when the test ends. It is mounted as
// users do it: through RocksDB's object registry, by URI.
class TestVolume {
 public:
  static constexpr uint64_t kDefaultBytes = 128 << 20;

  explicit TestVolume(Medium medium = Medium::kImage,
                      uint64_t bytes = kDefaultBytes);

  // Why there is no such volume on this machine; empty where there is.
  const std::string& missing() const { return missing_; }

  // The image or device.
  const std::string& path() const { return path_; }
  // A host file beside the image, not on the volume.
  std::string HostFile(const std::string& name) const {
    return directory_.File(name);
  }
  // `options` as in a URI: "ro=1&flush=memory".
  std::string Uri(const std::string& options = std::string()) const;

  // Null, and a failure of the test, where it cannot be mounted.
  std::shared_ptr<DioFileSystem> Mount(
      const std::string& options = std::string()) const;
  // The same as an Env, which keeps the volume mounted.
  std::unique_ptr<rocksdb::Env> MountEnv(
      const std::string& options = std::string()) const;

 private:
  void Make(Medium medium, uint64_t bytes);

  TempDir directory_;
  std::unique_ptr<LoopDevice> loop_;
  std::string path_;
  std::string missing_;
};

// Deterministic bytes of any length, different for each seed.
std::string TestBytes(uint64_t seed, size_t bytes);

}  // namespace diofs

#endif  // DIOFS_TESTS_ROCKSDB_TEST_VOLUME_H_
