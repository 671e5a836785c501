#include "tools/diofs_interrupt.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>

#include "tools/diofs_util.h"

namespace diofs {

namespace {

constexpr std::array<int, 5> kSignals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT,
                                         SIGPIPE};

// All a signal handler may look at. The kernel takes no longer path, so that a
// cut one names no file that was made.
std::array<char, PATH_MAX> target_path;
std::array<char, 4 * PATH_MAX + 128> removed_message;
std::array<char, 4 * PATH_MAX + 128> unformatted_message;
volatile sig_atomic_t file_made = 0;
volatile sig_atomic_t formatting = 0;

void Say(const char* message) {
  // A closed standard error must not keep the process from ending.
  if (write(STDERR_FILENO, message, strlen(message)) < 0) return;
}

void EndProcess(int signal_number) {
  // A broken pipe may be standard error itself.
  signal(SIGPIPE, SIG_IGN);
  if (file_made != 0) {
    unlink(target_path.data());
    Say(removed_message.data());
  } else if (formatting != 0) {
    Say(unformatted_message.data());
  }
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

template <size_t kSize>
void Store(const std::string& text, std::array<char, kSize>* to) {
  to->fill('\0');
  text.copy(to->data(), kSize - 1);
}

sigset_t SignalSet() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kSignals) sigaddset(&set, number);
  return set;
}

void Install(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_mask = SignalSet();
  action.sa_flags = SA_RESTART;
  for (const int number : kSignals) {
    struct sigaction old = {};
    // What the parent has ignored (nohup) stays ignored.
    sigaction(number, nullptr, &old);
    if (old.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
}

}  // namespace

InterruptGuard::InterruptGuard(const std::string& command,
                               const std::string& path) {
  const std::string start =
      "\ndiofs " + command + ": interrupted; " + Printable(path);
  Store(path, &target_path);
  Store(start + " is removed\n", &removed_message);
  Store(start + " holds no volume that can be used; run it again\n",
        &unformatted_message);
  Install(EndProcess);
}

InterruptGuard::~InterruptGuard() {
  Install(SIG_DFL);
  if (file_made != 0) unlink(target_path.data());
  Keep();
}

Result InterruptGuard::MakeFile(const std::function<Result()>& make) {
  const sigset_t blocked = SignalSet();
  sigset_t old;
  sigprocmask(SIG_BLOCK, &blocked, &old);
  Result result = make();
  if (result.ok()) file_made = 1;
  sigprocmask(SIG_SETMASK, &old, nullptr);
  return result;
}

void InterruptGuard::StartFormatting() { formatting = 1; }

void InterruptGuard::Keep() {
  file_made = 0;
  formatting = 0;
}

}  // namespace diofs
