#include "env/mount_table.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <utility>
#include <vector>

#include "dio/fork_guard.h"
#include "env/file_kind.h"

namespace diofs {
namespace {

// How often a long format says how far it is.
constexpr uint64_t kProgressIntervalUs = 2'000'000;

struct Mounted {
  DeviceIdentity identity;
  VolumeOptions options;
  std::weak_ptr<Volume> volume;
};

struct Table {
  const ForkGuard fork_guard;
  std::mutex mutex;  // held across mounts, so that two opens make one
  std::vector<Mounted> mounted;
};

void UnmountAll(Table* table) {
  // A forked child exits without touching what its parent has mounted.
  if (table->fork_guard.Crossed()) return;
  std::lock_guard<std::mutex> lock(table->mutex);
  for (const Mounted& entry : table->mounted) {
    if (const std::shared_ptr<Volume> volume = entry.volume.lock()) {
      (void)volume->Unmount();
    }
  }
}

// The table of this process: a forked child starts with an empty one, for the
// parent's may have been locked when it forked. Never destroyed, as volumes may
// be closed by other statics' destructors.
Table* TheTable() {
  static std::atomic<Table*> current{nullptr};
  Table* table = current.load();
  while (table == nullptr || table->fork_guard.Crossed()) {
    auto* const made = new Table;
    if (current.compare_exchange_strong(table, made)) {
      std::atexit([] { UnmountAll(current.load()); });
      return made;
    }
    delete made;
  }
  return table;
}

Result CheckSameOptions(const VolumeOptions& mounted,
                        const VolumeOptions& wanted) {
  const char* differs = nullptr;
  if (mounted.read_only != wanted.read_only) differs = "ro";
  if (mounted.flush_mode != wanted.flush_mode) differs = "flush";
  if (mounted.sync_mode != wanted.sync_mode) differs = "sync";
  if (mounted.checksums != wanted.checksums) differs = "checksums";
  if (mounted.backend != wanted.backend) differs = "backend";
  if (mounted.discard != wanted.discard) differs = "discard";
  if (mounted.discard_bytes_per_second != wanted.discard_bytes_per_second) {
    differs = "discard_rate";
  }
  if (mounted.stats_file != wanted.stats_file) differs = "stats_file";
  if (differs == nullptr) return Result::Ok();
  return Result::Error(EINVAL, std::string("already open in this process with "
                                           "another value of option '") +
                                   differs + "'");
}

void AppendStats(const std::string& path, Volume* volume) {
  std::ofstream file(path, std::ios::app);
  file << StatsJson(volume) << '\n';
}

Result CreateIfMissing(const VolumeOptions& options,
                       const MountTable::LogFn& log) {
  struct stat status;
  if (options.create_bytes == 0 || stat(options.path.c_str(), &status) == 0) {
    return Result::Ok();
  }
  // Before a byte is written.
  if (options.read_only) {
    return Result::Error(EINVAL, "with ro=1 no image is made");
  }
  if (options.create_bytes < kMinVolumeBytes) {
    return Result::Error(EINVAL, "too small: at least " +
                                     std::to_string(kMinVolumeBytes) +
                                     " bytes are needed");
  }
  if (lstat(options.path.c_str(), &status) == 0) {
    return Result::Error(ENOENT, "a symbolic link that leads nowhere");
  }
  FormatOptions format;
  format.write_every_block = options.prealloc;
  uint64_t told_us = NowMicros();
  format.progress = [&](uint64_t done, uint64_t total) {
    if (!log || NowMicros() - told_us < kProgressIntervalUs) return;
    told_us = NowMicros();
    log("creating " + options.path + ": " + std::to_string(done * 100 / total) +
        " %");
  };
  Result result = CreateImage(options.path, options.create_bytes, format);
  // Somebody else was faster: theirs is as good.
  if (result.error() == EEXIST) return Result::Ok();
  return result;
}

Result Explain(Result error, const VolumeOptions& options) {
  switch (error.error()) {
    case ENODATA:
      return std::move(error).With(
          options.path +
          ": holds no DioFS volume; format it with 'diofs mkfs " +
          options.path + "'");
    case ENOENT:
      return std::move(error).With(
          options.path +
          ": no such device or image; the option create=SIZE makes an image");
    case EROFS:
    case EACCES:
    case EPERM:
      if (options.read_only) return error;
      return std::move(error).With(
          options.path +
          ": no permission to write; option ro=1 mounts it "
          "read-only");
    default:
      return error;
  }
}

Result MountNew(const VolumeOptions& options, const MountTable::LogFn& log,
                std::shared_ptr<Volume>* volume) {
  OpenDeviceOptions open;
  open.read_only = options.read_only;
  open.lock_wait_ms = options.lock_wait_ms;
  open.backend = options.backend;
  open.log = log;
  std::unique_ptr<BlockDevice> device;
  if (Result r = OpenBlockDevice(options.path, open, &device); !r.ok()) {
    return r;
  }
  MountOptions mount;
  mount.read_only = options.read_only;
  mount.flush_mode = options.flush_mode;
  mount.sync_mode = options.sync_mode;
  mount.checksums = options.checksums;
  mount.discard = options.discard == DiscardMode::kAsync ||
                  (options.discard == DiscardMode::kAuto &&
                   device->geometry().is_block_device);
  mount.discard_bytes_per_second = options.discard_bytes_per_second;
  mount.log = log;
  if (Result r = Volume::Mount(std::move(device), mount, volume); !r.ok()) {
    return r.error() == ENODATA ? std::move(r)
                                : std::move(r).With(options.path);
  }
  if (!options.stats_file.empty()) {
    (*volume)->SetUnmountHook([path = options.stats_file](Volume* unmounted) {
      AppendStats(path, unmounted);
    });
  }
  return Result::Ok();
}

std::string JsonString(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", c);
      quoted += escaped;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

}  // namespace

Result MountTable::Open(const VolumeOptions& options, const LogFn& log,
                        std::shared_ptr<Volume>* volume) {
  Table* const table = TheTable();
  std::lock_guard<std::mutex> lock(table->mutex);
  if (Result r = CreateIfMissing(options, log); !r.ok()) {
    return std::move(r).With(options.path + ": create");
  }
  DeviceIdentity identity;
  if (Result r = IdentifyDevice(options.path, &identity); !r.ok()) {
    return Explain(std::move(r), options);
  }
  auto& mounted = table->mounted;
  for (auto entry = mounted.begin(); entry != mounted.end();) {
    std::shared_ptr<Volume> shared = entry->volume.lock();
    if (shared == nullptr) {
      entry = mounted.erase(entry);
      continue;
    }
    if (entry->identity == identity) {
      if (Result r = CheckSameOptions(entry->options, options); !r.ok()) {
        return std::move(r).With(options.path);
      }
      *volume = std::move(shared);
      return Result::Ok();
    }
    ++entry;
  }
  // What may fail comes before the mount.
  mounted.reserve(mounted.size() + 1);
  Mounted entry = {identity, options, {}};
  std::shared_ptr<Volume> made;
  if (Result r = MountNew(options, log, &made); !r.ok()) {
    return Explain(std::move(r), options);
  }
  entry.volume = made;
  mounted.push_back(std::move(entry));
  *volume = std::move(made);
  return Result::Ok();
}

Result CreateImage(const std::string& path, uint64_t bytes,
                   const FormatOptions& options) {
  // Made under another name, its own, and named when it is whole: a format that
  // is cut short never stands under the name that was asked for.
  uint64_t nonce = 0;
  if (Result r = RandomNonce(&nonce); !r.ok()) return r;
  const std::string making = path + ".incomplete-" + std::to_string(nonce);
  if (Result r = CreateImageFile(making, bytes, options.write_every_block);
      !r.ok()) {
    return r;
  }
  const auto format = [&] {
    std::unique_ptr<BlockDevice> device;
    if (Result r = OpenBlockDevice(making, OpenDeviceOptions(), &device);
        !r.ok()) {
      return r;
    }
    return Volume::Format(device.get(), options);
  };
  Result result = format();
  if (result.ok()) return NameImageFile(making, path);
  (void)unlink(making.c_str());
  return result;
}

std::string StatsJson(Volume* volume) {
  BlockDevice* const device = volume->device();
  IoStats& stats = device->stats();
  std::string json = "{\"device\":" + JsonString(device->name()) +
                     ",\"backend\":" + JsonString(device->backend_name()) +
                     ",\"io\":{";
  const auto add = [&json](const std::string& name, uint64_t value) {
    const char last = json.back();
    if (last != '{') json += ',';
    json += JsonString(name) + ":" + std::to_string(value);
  };
  for (IoClass io_class = 0; io_class < kIoClassesUsed; ++io_class) {
    const IoCounters& counters = stats.by_class[io_class];
    if (io_class != 0) json += ',';
    json += JsonString(IoClassName(io_class)) + ":{";
    add("reads", counters.reads);
    add("read_bytes", counters.read_bytes);
    add("writes", counters.writes);
    add("write_bytes", counters.write_bytes);
    json += '}';
  }
  json += '}';
  add("flushes", stats.flushes);
  add("discards", stats.discards);
  add("ring_submits", stats.ring_submits);
  add("bounced_bytes", stats.bounced_bytes);
  add("journal_frames", volume->journal()->frames_written());
  return json + '}';
}

}  // namespace diofs
