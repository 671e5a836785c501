#ifndef DIOFS_TESTS_DETERMINISTIC_H_
#define DIOFS_TESTS_DETERMINISTIC_H_

// Makes what a thread does on a volume the same every time: random numbers,
// the time, and the boot. Defines functions of the C library for the whole
// program, so it belongs into one source file of it, that of the test. Without
// a DeterministicRun a thread finds the C library's own.

#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>

#include "tests/real_function.h"

namespace diofs {

// While it lives, this thread's random numbers come from `seed`, its clocks go
// on by a microsecond at each look, and it runs on another boot than the
// machine's.
class DeterministicRun {
 public:
  explicit DeterministicRun(uint64_t seed) : rng_(seed) { current_ = this; }
  DeterministicRun(const DeterministicRun&) = delete;
  DeterministicRun& operator=(const DeterministicRun&) = delete;
  ~DeterministicRun() { current_ = nullptr; }

  static DeterministicRun* current() { return current_; }
  void Fill(void* to, size_t bytes) {
    auto* const at = static_cast<unsigned char*>(to);
    for (size_t i = 0; i < bytes; ++i) {
      at[i] = static_cast<unsigned char>(rng_());
    }
  }
  timespec Tick() {
    nanos_ += 1000;
    return {static_cast<time_t>(1'700'000'000 + nanos_ / 1'000'000'000),
            static_cast<long>(nanos_ % 1'000'000'000)};
  }

 private:
  static inline thread_local DeterministicRun* current_ = nullptr;
  std::mt19937_64 rng_;
  uint64_t nanos_ = 0;
};

}  // namespace diofs

extern "C" {

ssize_t getrandom(void* to, size_t bytes, unsigned flags) {
  static const auto real =
      diofs::RealFunction<ssize_t(void*, size_t, unsigned)>("getrandom");
  diofs::DeterministicRun* const run = diofs::DeterministicRun::current();
  if (run == nullptr) return real(to, bytes, flags);
  run->Fill(to, bytes);
  return static_cast<ssize_t>(bytes);
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static const auto real =
      diofs::RealFunction<int(clockid_t, timespec*)>("clock_gettime");
  diofs::DeterministicRun* const run = diofs::DeterministicRun::current();
  if (run == nullptr) return real(clock, time);
  *time = run->Tick();
  return 0;
}

FILE* fopen64(const char* path, const char* mode) {
  static const auto real =
      diofs::RealFunction<FILE*(const char*, const char*)>("fopen64");
  const bool boot_id =
      std::string_view(path).find("/boot_id") != std::string_view::npos;
  if (!boot_id || diofs::DeterministicRun::current() == nullptr) {
    return real(path, mode);
  }
  // A stream of the C++ library reads from the descriptor.
  static const std::string other = [] {
    constexpr std::string_view kId = "0123abcd-0123-4567-89ab-0123456789ab\n";
    const int fd = memfd_create("boot_id", 0);
    if (write(fd, kId.data(), kId.size()) < 0) std::perror("boot_id");
    return "/proc/self/fd/" + std::to_string(fd);
  }();
  return real(other.c_str(), mode);
}

}  // extern "C"

#endif  // DIOFS_TESTS_DETERMINISTIC_H_
