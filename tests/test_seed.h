#ifndef DIOFS_TESTS_TEST_SEED_H_
#define DIOFS_TESTS_TEST_SEED_H_

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

}  // namespace diofs

#endif  // DIOFS_TESTS_TEST_SEED_H_
