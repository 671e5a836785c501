// How a DioFileSystem is configured and mounted, and what it makes of RocksDB's
// own file options.

#include <cstdio>
#include <string>
#include <unordered_map>
#include <utility>

#include "env/rocksdb_file_system.h"
#include "env/volume_options.h"
#include "rocksdb/convenience.h"
#include "rocksdb/utilities/options_type.h"

namespace diofs {

using rocksdb::ConfigOptions;
using rocksdb::FileOptions;
using rocksdb::ImmutableDBOptions;
using rocksdb::OptionTypeInfo;
using rocksdb::Status;

namespace {

constexpr size_t kCompactionReadaheadBytes = 2 << 20;

using OptionTypes = std::unordered_map<std::string, OptionTypeInfo>;

OptionTypeInfo TypeOf(const VolumeOption& option) {
  OptionTypeInfo type(0, rocksdb::OptionType::kString,
                      rocksdb::OptionVerificationType::kNormal,
                      rocksdb::OptionTypeFlags::kNone);
  type.SetParseFunc([](const ConfigOptions&, const std::string& name,
                       const std::string& value, void* address) -> Status {
    return ToIOStatus(
        SetVolumeOption(name, value, static_cast<VolumeOptions*>(address)),
        name);
  });
  type.SetSerializeFunc(
      [print = option.print](const ConfigOptions&, const std::string&,
                             const void* address, std::string* value) {
        *value = print(*static_cast<const VolumeOptions*>(address));
        return Status::OK();
      });
  type.SetEqualsFunc(
      [print = option.print](const ConfigOptions&, const std::string& name,
                             const void* first, const void* second,
                             std::string* mismatch) {
        const bool same = print(*static_cast<const VolumeOptions*>(first)) ==
                          print(*static_cast<const VolumeOptions*>(second));
        if (!same) *mismatch = name;
        return same;
      });
  return type;
}

// Never destroyed: file systems live until exit().
const OptionTypes* VolumeOptionTypes() {
  static const OptionTypes* const types = [] {
    auto* const made = new OptionTypes;
    for (const VolumeOption& option : AllVolumeOptions()) {
      made->emplace(option.name, TypeOf(option));
    }
    return made;
  }();
  return types;
}

FileOptions Sanitized(FileOptions options) {
  options.use_direct_reads = false;
  options.use_direct_writes = false;
  options.use_mmap_writes = false;
  return options;
}

void LogLine(const std::string& line) {
  fprintf(stderr, "diofs: %s\n", line.c_str());
}

}  // namespace

DioFileSystem::DioFileSystem(const VolumeOptions& options) : options_(options) {
  RegisterOptions("VolumeOptions", &options_, VolumeOptionTypes());
}

DioFileSystem::DioFileSystem(std::shared_ptr<Volume> volume)
    : volume_(std::move(volume)), mounted_(volume_.get()) {
  options_.path = volume_->device()->name();
  RegisterOptions("VolumeOptions", &options_, VolumeOptionTypes());
}

std::shared_ptr<Volume> DioFileSystem::volume() const {
  std::lock_guard<std::mutex> lock(mount_mutex_);
  return volume_;
}

Status DioFileSystem::PrepareOptions(const ConfigOptions& config_options) {
  {
    std::lock_guard<std::mutex> lock(mount_mutex_);
    if (volume_ == nullptr) {
      Status mounted = Guarded(options_.path, [this] {
        return MountTable::Open(options_, LogLine, &volume_);
      });
      if (!mounted.ok()) return mounted;
      mounted_.store(volume_.get(), std::memory_order_release);
    }
  }
  return FileSystem::PrepareOptions(config_options);
}

Status DioFileSystem::ConfigureOptions(
    const ConfigOptions& config_options,
    const std::unordered_map<std::string, std::string>& values,
    std::unordered_map<std::string, std::string>* unused) {
  try {
    Status checked = CheckOptions(
        values, config_options.ignore_unknown_options || unused != nullptr);
    if (!checked.ok()) return checked;
    return FileSystem::ConfigureOptions(config_options, values, unused);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

Status DioFileSystem::CheckOptions(
    const std::unordered_map<std::string, std::string>& values,
    bool may_be_unknown) const {
  const bool mounted = mounted_.load(std::memory_order_acquire) != nullptr;
  for (const auto& [name, value] : values) {
    const bool known = VolumeOptionTypes()->count(name) > 0;
    if (!known && !may_be_unknown) {
      return ToIOStatus(UnknownVolumeOption(name), options_.path);
    }
    if (known && mounted) {
      return Status::InvalidArgument(
          options_.path,
          "option " + name + ": cannot be changed while the volume is mounted");
    }
  }
  // All of them before any takes effect: where the base class meets a bad
  // value, it goes back to the old ones and prepares them, which would mount.
  VolumeOptions trial = options_;
  for (const auto& [name, value] : values) {
    if (VolumeOptionTypes()->count(name) == 0) continue;
    const Result set = SetVolumeOption(name, value, &trial);
    if (!set.ok()) return ToIOStatus(set, options_.path);
  }
  return Status::OK();
}

// ---- RocksDB's file options ------------------------------------------------

void DioFileSystem::SanitizeFileOptions(FileOptions* options) const {
  *options = Sanitized(*options);
}

FileOptions DioFileSystem::OptimizeForLogRead(
    const FileOptions& options) const {
  return Sanitized(FileSystem::OptimizeForLogRead(options));
}

FileOptions DioFileSystem::OptimizeForManifestRead(
    const FileOptions& options) const {
  return Sanitized(FileSystem::OptimizeForManifestRead(options));
}

FileOptions DioFileSystem::OptimizeForLogWrite(
    const FileOptions& options, const rocksdb::DBOptions& db_options) const {
  return Sanitized(FileSystem::OptimizeForLogWrite(options, db_options));
}

FileOptions DioFileSystem::OptimizeForManifestWrite(
    const FileOptions& options) const {
  return Sanitized(FileSystem::OptimizeForManifestWrite(options));
}

FileOptions DioFileSystem::OptimizeForCompactionTableWrite(
    const FileOptions& options, const ImmutableDBOptions&) const {
  return Sanitized(options);
}

FileOptions DioFileSystem::OptimizeForCompactionTableRead(
    const FileOptions& options, const ImmutableDBOptions&) const {
  FileOptions sanitized = Sanitized(options);
  if (sanitized.compaction_readahead_size == 0) {
    sanitized.compaction_readahead_size = kCompactionReadaheadBytes;
  }
  return sanitized;
}

FileOptions DioFileSystem::OptimizeForBlobFileRead(
    const FileOptions& options, const ImmutableDBOptions&) const {
  return Sanitized(options);
}

}  // namespace diofs
