// URIs and the options in them, as libFuzzer wants it.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "env/volume_options.h"
#include "plugin/dio_uri.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  const std::string_view uri(reinterpret_cast<const char*>(data), bytes);
  diofs::VolumeOptions options;
  if (!diofs::ParseDioUri(uri, &options).ok()) return 0;
  // What was understood is printed such that it is understood again.
  for (const diofs::VolumeOption& option : diofs::AllVolumeOptions()) {
    const std::string value = option.print(options);
    diofs::VolumeOptions again;
    const bool set_once = value != option.print(again);
    if (set_once && !option.parse(value, &again)) std::abort();
    if (set_once && option.print(again) != value) std::abort();
  }
  return 0;
}
