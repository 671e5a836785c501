#ifndef DIOFS_TESTS_PARALLEL_JOBS_H_
#define DIOFS_TESTS_PARALLEL_JOBS_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace diofs {

// Runs job(0), job(1), … on all processors until one of them says what is
// wrong.
inline std::string ForEachJob(size_t count,
                              const std::function<std::string(size_t)>& job) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::string problem;
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(1U, std::thread::hardware_concurrency());
       ++t) {
    threads.emplace_back([&] {
      for (size_t i = next++; i < count; i = next++) {
        const std::string wrong = job(i);
        if (wrong.empty()) continue;
        const std::lock_guard<std::mutex> lock(mutex);
        if (problem.empty()) problem = wrong;
        next = count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return problem;
}

}  // namespace diofs

#endif  // DIOFS_TESTS_PARALLEL_JOBS_H_
