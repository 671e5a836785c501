#include "dio/fork_guard.h"

#include <pthread.h>

#include <array>
#include <atomic>

namespace diofs {
namespace {

// One per process and never destroyed: a fork may happen during exit.
struct ForkState {
  // Forks between the first process and this one.
  std::atomic<uint64_t> generation{0};
  std::mutex mutex;  // guards the list
  std::array<std::mutex*, kMaxForkMutexes> mutexes{};
  int mutex_count = 0;
};

void Prepare();
void ResumeParent();
void ResumeChild();

ForkState* State() {
  static ForkState* const state = [] {
    auto* made = new ForkState;
    pthread_atfork(Prepare, ResumeParent, ResumeChild);
    return made;
  }();
  return state;
}

void Prepare() {
  ForkState* state = State();
  state->mutex.lock();
  for (int i = 0; i < state->mutex_count; ++i) state->mutexes[i]->lock();
}

void ResumeParent() {
  ForkState* state = State();
  for (int i = state->mutex_count; i-- > 0;) state->mutexes[i]->unlock();
  state->mutex.unlock();
}

void ResumeChild() {
  State()->generation.fetch_add(1, std::memory_order_release);
  ResumeParent();
}

}  // namespace

ForkGuard::ForkGuard()
    : generation_(State()->generation.load(std::memory_order_acquire)) {}

bool ForkGuard::Crossed() const {
  return State()->generation.load(std::memory_order_acquire) != generation_;
}

void RegisterForkMutex(std::mutex* mutex) {
  ForkState* state = State();
  const std::lock_guard<std::mutex> lock(state->mutex);
  if (state->mutex_count < kMaxForkMutexes) {
    state->mutexes[state->mutex_count++] = mutex;
  }
}

}  // namespace diofs
