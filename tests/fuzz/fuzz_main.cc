// One fuzz target as libFuzzer wants it; the build names the target.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/fuzz_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static const diofs::FuzzTarget* const target =
      diofs::FindFuzzTarget(DIOFS_FUZZ_TARGET);
  target->run(std::string_view(reinterpret_cast<const char*>(data), bytes));
  return 0;
}
