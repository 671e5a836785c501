#include "env/volume_options.h"

#include <cerrno>
#include <cstddef>
#include <initializer_list>
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

// A value that is one of two words.
template <typename T>
bool ParseWord(std::string_view text, std::string_view first, T first_value,
               std::string_view second, T second_value, T* value) {
  if (text != first && text != second) return false;
  *value = text == first ? first_value : second_value;
  return true;
}

bool ParseCreate(std::string_view value, VolumeOptions* options) {
  uint64_t bytes = 0;
  if (!ParseSize(value, &bytes) || bytes == 0) return false;
  options->create_bytes = bytes;
  return true;
}

bool ParsePrealloc(std::string_view value, VolumeOptions* options) {
  return ParseWord(value, "full", true, "none", false, &options->prealloc);
}

bool ParseReadOnly(std::string_view value, VolumeOptions* options) {
  return ParseWord(value, "1", true, "0", false, &options->read_only);
}

bool ParseFlush(std::string_view value, VolumeOptions* options) {
  return ParseWord(value, "device", FlushMode::kDevice, "memory",
                   FlushMode::kMemory, &options->flush_mode);
}

// The words for a value that is one of several, for both directions.
template <typename T>
using Words = std::initializer_list<std::pair<const char*, T>>;

constexpr Words<Backend> kBackends = {{"auto", Backend::kAuto},
                                      {"uring", Backend::kUring},
                                      {"threads", Backend::kThreads},
                                      {"sync", Backend::kSync}};
constexpr Words<DiscardMode> kDiscardModes = {{"auto", DiscardMode::kAuto},
                                              {"none", DiscardMode::kNone},
                                              {"async", DiscardMode::kAsync}};

template <typename T>
bool FindWord(const Words<T>& words, std::string_view text, T* value) {
  for (const auto& [word, meaning] : words) {
    if (text != word) continue;
    *value = meaning;
    return true;
  }
  return false;
}

template <typename T>
std::string WordFor(const Words<T>& words, T value) {
  for (const auto& [word, meaning] : words) {
    if (meaning == value) return word;
  }
  return std::string();
}

bool ParseBackend(std::string_view value, VolumeOptions* options) {
  return FindWord(kBackends, value, &options->backend);
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
      {"prealloc", "full|none", ParsePrealloc,
       [](const VolumeOptions& o) {
         return std::string(o.prealloc ? "full" : "none");
       }},
      {"ro", "0|1", ParseReadOnly,
       [](const VolumeOptions& o) {
         return std::string(o.read_only ? "1" : "0");
       }},
      {"flush", "device|memory", ParseFlush,
       [](const VolumeOptions& o) {
         return std::string(o.flush_mode == FlushMode::kMemory ? "memory"
                                                               : "device");
       }},
      {"backend", "auto|uring|threads|sync", ParseBackend,
       [](const VolumeOptions& o) { return WordFor(kBackends, o.backend); }},
      {"discard", "auto|none|async", ParseDiscard,
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
