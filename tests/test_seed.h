#ifndef DIOFS_TESTS_TEST_SEED_H_
#define DIOFS_TESTS_TEST_SEED_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace diofs {

// The seed of every randomised test of this program; printed once, so that a
// failure can be replayed with DIOFS_TEST_SEED=<seed>.
inline uint64_t TestSeed() {
  static const uint64_t seed = [] {
    const char* const given = std::getenv("DIOFS_TEST_SEED");
    std::random_device device;
    const uint64_t value = given != nullptr
                               ? std::strtoull(given, nullptr, 0)
                               : uint64_t{device()} << 32 | device();
    std::printf("DIOFS_TEST_SEED=%llu\n",
                static_cast<unsigned long long>(value));
    std::fflush(stdout);
    return value;
  }();
  return seed;
}

// How often a randomised test tries: `rounds`, divided by
// DIOFS_TEST_SCALE where that is set (0.01 is a hundred times more often).
inline uint64_t ScaledRounds(uint64_t rounds) {
  const char* const scale = std::getenv("DIOFS_TEST_SCALE");
  const double divisor = scale == nullptr ? 1.0 : std::strtod(scale, nullptr);
  if (divisor <= 0) return rounds;
  return std::max<uint64_t>(
      static_cast<uint64_t>(static_cast<double>(rounds) / divisor), 1);
}

}  // namespace diofs

#endif  // DIOFS_TESTS_TEST_SEED_H_
