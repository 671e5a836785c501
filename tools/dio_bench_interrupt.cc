#include "tools/dio_bench_interrupt.h"

#include <poll.h>

#include <array>
#include <ctime>

namespace diofs {

namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};
constexpr int kShellSignalBase = 128;

volatile sig_atomic_t signal_seen = 0;

void NoteSignal(int number) { signal_seen = number; }

}  // namespace

sigset_t Interrupt::SignalSet() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kSignals) sigaddset(&set, number);
  return set;
}

Interrupt::Interrupt() {
  struct sigaction action = {};
  action.sa_handler = NoteSignal;
  action.sa_mask = SignalSet();
  action.sa_flags = SA_RESETHAND;
  for (const int number : kSignals) {
    struct sigaction old = {};
    // What the parent has ignored (nohup) stays ignored.
    sigaction(number, nullptr, &old);
    if (old.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
  // They come only while Wait sleeps, so none comes between a look at the flag
  // and the sleep, and none to a thread that measures.
  const sigset_t blocked = SignalSet();
  pthread_sigmask(SIG_BLOCK, &blocked, &original_mask_);
}

Interrupt::~Interrupt() {
  pthread_sigmask(SIG_SETMASK, &original_mask_, nullptr);
  for (const int number : kSignals) {
    struct sigaction now = {};
    sigaction(number, nullptr, &now);
    if (now.sa_handler == NoteSignal) signal(number, SIG_DFL);
  }
}

bool Interrupt::Wait(int fd, std::chrono::nanoseconds timeout) {
  constexpr int64_t kNanosPerSecond = 1000000000;
  const int64_t nanos = timeout.count() < 0 ? 0 : timeout.count();
  timespec left = {};
  left.tv_sec = static_cast<time_t>(nanos / kNanosPerSecond);
  left.tv_nsec = static_cast<long>(nanos % kNanosPerSecond);
  pollfd wanted = {fd, POLLIN, 0};
  const bool ready = ppoll(&wanted, fd < 0 ? 0 : 1, &left, &original_mask_) > 0;
  // A second signal shall end the process, also outside of Wait.
  if (signal_seen != 0) {
    pthread_sigmask(SIG_SETMASK, &original_mask_, nullptr);
  }
  return ready;
}

bool Interrupt::Happened() {
  if (signal_seen == 0) Wait(-1, std::chrono::nanoseconds(0));
  return signal_seen != 0;
}

int Interrupt::exit_code() const {
  return signal_seen == 0 ? 0 : kShellSignalBase + signal_seen;
}

}  // namespace diofs
