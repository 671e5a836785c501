#include "env/volume_options.h"

#include <cerrno>
#include <cstddef>
#include <utility>

namespace diofs {

namespace {

constexpr uint64_t kMaxLockWaitSeconds = 86400;

// Decimal digits alone: strtoull and its kin also take signs and blanks.
bool ParseNumber(std::string_view text, uint64_t* number) {
  if (text.empty()) return false;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    const uint64_t digit = static_cast<uint64_t>(c - '0');
    if (value > (UINT64_MAX - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *number = value;
  return true;
}

constexpr Words<bool> kPrealloc = {{"full", true}, {"none", false}};
constexpr Words<bool> kSwitch = {{"0", false}, {"1", true}};
constexpr Words<FlushMode> kFlushModes = {{"device", FlushMode::kDevice},
                                          {"memory", FlushMode::kMemory}};
constexpr Words<SyncMode> kSyncModes = {{"auto", SyncMode::kAuto},
                                        {"fua", SyncMode::kFua},
                                        {"flush", SyncMode::kFlush},
                                        {"none", SyncMode::kNone}};
constexpr Words<DiscardMode> kDiscardModes = {{"auto", DiscardMode::kAuto},
                                              {"none", DiscardMode::kNone},
                                              {"async", DiscardMode::kAsync}};

bool ParseCreate(std::string_view value, VolumeOptions* options) {
  uint64_t bytes = 0;
  if (!ParseSize(value, &bytes) || bytes == 0) return false;
  options->create_bytes = bytes;
  return true;
}

bool ParsePrealloc(std::string_view value, VolumeOptions* options) {
  return FindWord(kPrealloc, value, &options->prealloc);
}

bool ParseReadOnly(std::string_view value, VolumeOptions* options) {
  return FindWord(kSwitch, value, &options->read_only);
}

bool ParseFlush(std::string_view value, VolumeOptions* options) {
  return FindWord(kFlushModes, value, &options->flush_mode);
}

bool ParseSync(std::string_view value, VolumeOptions* options) {
  return FindWord(kSyncModes, value, &options->sync_mode);
}

bool ParseChecksums(std::string_view value, VolumeOptions* options) {
  return FindWord(kSwitch, value, &options->checksums);
}

bool ParseBackend(std::string_view value, VolumeOptions* options) {
  return FindWord(kBackendWords, value, &options->backend);
}

bool ParseDiscard(std::string_view value, VolumeOptions* options) {
  return FindWord(kDiscardModes, value, &options->discard);
}

bool ParseDiscardRate(std::string_view value, VolumeOptions* options) {
  return ParseSize(value, &options->discard_bytes_per_second);
}

bool ParseLockWait(std::string_view value, VolumeOptions* options) {
  uint64_t seconds = 0;
  if (!ParseNumber(value, &seconds) || seconds > kMaxLockWaitSeconds) {
    return false;
  }
  options->lock_wait_ms = static_cast<uint32_t>(seconds * 1000);
  return true;
}

bool ParseStatsFile(std::string_view value, VolumeOptions* options) {
  if (value.empty() || value.front() != '/') return false;
  options->stats_file = std::string(value);
  return true;
}

}  // namespace

const std::vector<VolumeOption>& AllVolumeOptions() {
  // Never destroyed: file systems may be made and asked during exit().
  static const auto* const all = new std::vector<VolumeOption>{
      {"create", "SIZE (bytes, or with K, M, G, T)", ParseCreate,
       [](const VolumeOptions& o) { return std::to_string(o.create_bytes); }},
      {"prealloc", ListWords(kPrealloc), ParsePrealloc,
       [](const VolumeOptions& o) { return WordFor(kPrealloc, o.prealloc); }},
      {"ro", ListWords(kSwitch), ParseReadOnly,
       [](const VolumeOptions& o) { return WordFor(kSwitch, o.read_only); }},
      {"flush", ListWords(kFlushModes), ParseFlush,
       [](const VolumeOptions& o) {
         return WordFor(kFlushModes, o.flush_mode);
       }},
      {"sync", ListWords(kSyncModes), ParseSync,
       [](const VolumeOptions& o) { return WordFor(kSyncModes, o.sync_mode); }},
      {"checksums", ListWords(kSwitch), ParseChecksums,
       [](const VolumeOptions& o) { return WordFor(kSwitch, o.checksums); }},
      {"backend", ListWords(kBackendWords), ParseBackend,
       [](const VolumeOptions& o) {
         return WordFor(kBackendWords, o.backend);
       }},
      {"discard", ListWords(kDiscardModes), ParseDiscard,
       [](const VolumeOptions& o) {
         return WordFor(kDiscardModes, o.discard);
       }},
      {"discard_rate", "SIZE a second (0: no bound)", ParseDiscardRate,
       [](const VolumeOptions& o) {
         return std::to_string(o.discard_bytes_per_second);
       }},
      {"lock_wait", "SECONDS (at most 86400)", ParseLockWait,
       [](const VolumeOptions& o) {
         return std::to_string(o.lock_wait_ms / 1000);
       }},
      {"stats_file", "/PATH (absolute, on the host)", ParseStatsFile,
       [](const VolumeOptions& o) { return o.stats_file; }},
  };
  return *all;
}

Result SetVolumeOption(std::string_view name, std::string_view value,
                       VolumeOptions* options) {
  for (const VolumeOption& option : AllVolumeOptions()) {
    if (name != option.name) continue;
    if (option.parse(value, options)) return Result::Ok();
    return Result::Error(EINVAL, "option " + std::string(name) + "=" +
                                     std::string(value) + ": takes " +
                                     option.values);
  }
  return UnknownVolumeOption(name);
}

Result UnknownVolumeOption(std::string_view name) {
  std::string message =
      "unknown option \"" + std::string(name) + "\"; the options are";
  const char* separator = " ";
  for (const VolumeOption& option : AllVolumeOptions()) {
    message += separator;
    message += option.name;
    message += "=";
    message += option.values;
    separator = ", ";
  }
  return Result::Error(EINVAL, std::move(message));
}

bool ParseSize(std::string_view text, uint64_t* bytes) {
  uint64_t unit = 1;
  if (!text.empty()) {
    constexpr std::string_view kUnits = "KMGT";
    const size_t index = kUnits.find(text.back());
    if (index != std::string_view::npos) {
      unit = uint64_t{1} << (10 * (index + 1));
      text.remove_suffix(1);
    }
  }
  uint64_t number = 0;
  if (!ParseNumber(text, &number) || number > UINT64_MAX / unit) return false;
  *bytes = number * unit;
  return true;
}

}  // namespace diofs
