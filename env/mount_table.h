#ifndef DIOFS_ENV_MOUNT_TABLE_H_
#define DIOFS_ENV_MOUNT_TABLE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "dio/open_device.h"
#include "dio/result.h"
#include "env/volume.h"

namespace diofs {

// Whether the device is told what has become free.
enum class DiscardMode : uint8_t {
  kAuto,  // a block device is; an image keeps the space it has
  kNone,
  kAsync,  // in the background
};

// How to open a volume: the options of a dio:// URI, parsed.
struct VolumeOptions {
  std::string path;
  // Makes and formats an image file of this size if there is none. 0: don't.
  uint64_t create_bytes = 0;
  // Of `create`: write every block once.
  bool prealloc = true;
  bool read_only = false;
  FlushMode flush_mode = FlushMode::kDevice;
  SyncMode sync_mode = SyncMode::kAuto;
  bool checksums = false;
  Backend backend = Backend::kAuto;
  DiscardMode discard = DiscardMode::kAuto;
  uint64_t discard_bytes_per_second = MountOptions().discard_bytes_per_second;
  uint32_t lock_wait_ms = 30000;
  // A host file to which one line of JSON is appended at unmount: requests and
  // bytes by file kind, flushes. Empty: none.
  std::string stats_file;
};

// The volumes this process has mounted: two opens of one device share one
// volume, the last reference unmounts it. Volumes still open at exit() are
// unmounted cleanly then. Thread-safe.
class MountTable {
 public:
  using LogFn = std::function<void(const std::string&)>;

  // The mounted volume of options.path, mounted if need be. EINVAL, naming the
  // option, where it is mounted already with other options. Each error carries
  // the path and what to do next.
  static Result Open(const VolumeOptions& options, const LogFn& log,
                     std::shared_ptr<Volume>* volume);
};

// One line: {"device": …, "io": {"sst": {"reads": n, "read_bytes": n, "writes":
// n, "write_bytes": n}, …}, "flushes": n, …}.
std::string StatsJson(Volume* volume);

// Makes an image file at `path` and formats it; nothing is left behind on
// failure. EEXIST where there is a file already.
Result CreateImage(const std::string& path, uint64_t bytes,
                   const FormatOptions& options);

}  // namespace diofs

#endif  // DIOFS_ENV_MOUNT_TABLE_H_
