// ctest: one-thread
// ctest: TIMEOUT=600

// The fuzz targets on what was found worth keeping, and on random changes of
// it. tools/test fuzzers lets libFuzzer look for more.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "tests/fuzz_targets.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

std::vector<std::string> Corpus(const FuzzTarget& target) {
  std::vector<std::string> inputs = target.seeds();
  const char* const source = std::getenv("DIOFS_SOURCE_DIR");
  const std::filesystem::path folder =
      std::filesystem::path(source == nullptr ? "." : source) /
      "tests/fuzz/corpus" / target.name;
  if (!std::filesystem::exists(folder)) return inputs;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    inputs.push_back(text.str());
  }
  return inputs;
}

std::string Changed(std::string input, std::mt19937_64* rng) {
  const uint64_t changes = (*rng)() % 6 + 1;
  for (uint64_t i = 0; i < changes; ++i) {
    if (input.empty()) input.push_back('\0');
    char& byte = input[(*rng)() % input.size()];
    switch ((*rng)() % 5) {
      case 0:
        byte = static_cast<char>(byte ^ (1 << (*rng)() % 8));
        break;
      case 1:
        byte = static_cast<char>((*rng)());
        break;
      case 2:
        byte = (*rng)() % 2 == 0 ? '\0' : '\xff';
        break;
      case 3:
        input.resize((*rng)() % (input.size() + 1));
        break;
      default:
        input.insert((*rng)() % (input.size() + 1),
                     input.substr((*rng)() % (input.size() + 1), 40));
    }
  }
  return input;
}

class Fuzz : public testing::TestWithParam<const char*> {};

TEST_P(Fuzz, WhatWasKeptAndWhatIsNearIt) {
  const FuzzTarget* const target = FindFuzzTarget(GetParam());
  ASSERT_NE(target, nullptr);
  std::mt19937_64 rng(TestSeed());
  const std::vector<std::string> inputs = Corpus(*target);
  for (const std::string& input : inputs) target->run(input);
  for (uint64_t i = 0; i < ScaledRounds(4000); ++i) {
    target->run(Changed(inputs[rng() % inputs.size()], &rng));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Fuzz,
                         testing::Values("superblock", "region", "journal",
                                         "log", "image"),
                         [](const testing::TestParamInfo<const char*>& param) {
                           return std::string(param.param);
                         });

}  // namespace
}  // namespace diofs
