#include "dio/fork_guard.h"

#include <pthread.h>

#include <array>
#include <atomic>

namespace diofs {
namespace {

// Constant-initialised, so that a fork cannot fall into its construction, and
// trivially destroyed, so that one may happen during exit.
struct ForkState {
  // Forks between the first process and this one.
  std::atomic<uint64_t> generation{0};
  std::mutex mutex;  // guards the list
  std::array<std::mutex*, kMaxForkMutexes> mutexes{};
  int mutex_count = 0;
};

ForkState g_state;

void Prepare() {
  g_state.mutex.lock();
  for (int i = 0; i < g_state.mutex_count; ++i) g_state.mutexes[i]->lock();
}

void ResumeParent() {
  for (int i = g_state.mutex_count; i-- > 0;) g_state.mutexes[i]->unlock();
  g_state.mutex.unlock();
}

void ResumeChild() {
  g_state.generation.fetch_add(1, std::memory_order_release);
  ResumeParent();
}

[[maybe_unused]] const int g_registered =
    pthread_atfork(Prepare, ResumeParent, ResumeChild);

}  // namespace

ForkGuard::ForkGuard()
    : generation_(g_state.generation.load(std::memory_order_acquire)) {}

bool ForkGuard::Crossed() const {
  return g_state.generation.load(std::memory_order_acquire) != generation_;
}

bool RegisterForkMutex(std::mutex* mutex) {
  const std::lock_guard<std::mutex> lock(g_state.mutex);
  if (g_state.mutex_count == kMaxForkMutexes) return false;
  g_state.mutexes[g_state.mutex_count++] = mutex;
  return true;
}

}  // namespace diofs
