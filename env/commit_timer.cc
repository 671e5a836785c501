#include "env/commit_timer.h"

#include <utility>

#include "dio/background_thread.h"

namespace diofs {

CommitTimer::CommitTimer(std::chrono::milliseconds interval,
                         std::function<void()> commit)
    : interval_(interval),
      commit_(std::move(commit)),
      state_(std::make_unique<State>()) {}

CommitTimer::~CommitTimer() {
  if (fork_guard_.Crossed()) {
    (void)state_.release();
    return;
  }
  Stop();
}

void CommitTimer::Arm() {
  if (armed_.load(std::memory_order_acquire) || fork_guard_.Crossed()) return;
  {
    const Lock lock(state_->mutex);
    if (armed_ || state_->stopping) return;
    state_->deadline = std::chrono::steady_clock::now() + interval_;
    armed_.store(true, std::memory_order_release);
    if (!state_->thread.joinable()) {
      state_->thread = StartBackgroundThread("diofs-commit", [this] { Run(); });
    }
    // No thread is to be had: the next one tries again.
    if (!state_->thread.joinable()) armed_ = false;
  }
  state_->changed.notify_all();
}

void CommitTimer::Stop() {
  std::thread thread;
  {
    const Lock lock(state_->mutex);
    state_->stopping = true;
    thread = std::move(state_->thread);
  }
  state_->changed.notify_all();
  if (thread.joinable()) thread.join();
}

void CommitTimer::Run() {
  Lock lock(state_->mutex);
  while (!state_->stopping) {
    if (!armed_) {
      state_->changed.wait(lock);
    } else if (std::chrono::steady_clock::now() < state_->deadline) {
      const auto deadline = state_->deadline;
      state_->changed.wait_until(lock, deadline);
    } else {
      // Before the commit: what comes while it runs needs another.
      armed_ = false;
      lock.unlock();
      commit_();
      lock.lock();
    }
  }
}

}  // namespace diofs
