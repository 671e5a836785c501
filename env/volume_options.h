#ifndef DIOFS_ENV_VOLUME_OPTIONS_H_
#define DIOFS_ENV_VOLUME_OPTIONS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dio/result.h"
#include "env/mount_table.h"
#include "env/words.h"

namespace diofs {

inline constexpr Words<Backend> kBackendWords = {{"auto", Backend::kAuto},
                                                 {"uring", Backend::kUring},
                                                 {"threads", Backend::kThreads},
                                                 {"sync", Backend::kSync}};

// One option of a volume as people write it: name=value.
struct VolumeOption {
  const char* name;
  // What may stand behind the '=', for messages: "device|memory".
  std::string values;
  // False, changing nothing, where the value is none of those.
  bool (*parse)(std::string_view value, VolumeOptions* options);
  // The value in force, so that parse() takes it back.
  std::string (*print)(const VolumeOptions& options);
};

// Every option there is; the one list that URIs, RocksDB's option strings and
// messages are made from.
const std::vector<VolumeOption>& AllVolumeOptions();

// Sets one option. EINVAL, naming the option and listing what would be valid,
// for an unknown name or a bad value.
Result SetVolumeOption(std::string_view name, std::string_view value,
                       VolumeOptions* options);

// The error for a name that is no option: lists those that are.
Result UnknownVolumeOption(std::string_view name);

// "4G", "512M", "4096": bytes, or with one of K, M, G, T in powers of 1024.
// False for anything else and for what does not fit 64 bits.
bool ParseSize(std::string_view text, uint64_t* bytes);

}  // namespace diofs

#endif  // DIOFS_ENV_VOLUME_OPTIONS_H_
