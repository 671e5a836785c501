#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>

#include "dio/background_thread.h"
#include "tests/child_process.h"
#include "tests/deny_syscall.h"

namespace diofs {
namespace {

bool Blocks(int number) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  return sigismember(&mask, number) == 1;
}

TEST(BackgroundThread, HasItsNameAndTakesNoSignals) {
  std::array<char, 16> name{};
  bool blocks_all = true;
  std::thread thread;
  // It gets its name from the thread that starts it, maybe after its start.
  std::atomic<bool> started{false};
  thread = StartBackgroundThread("diofs-some-test", [&] {
    while (!started) std::this_thread::yield();
    pthread_getname_np(pthread_self(), name.data(), name.size());
    for (const int number : {SIGALRM, SIGTERM, SIGINT, SIGUSR1, SIGCHLD}) {
      blocks_all = blocks_all && Blocks(number);
    }
  });
  started = true;
  ASSERT_TRUE(thread.joinable());
  thread.join();
  EXPECT_EQ("diofs-some-test", std::string(name.data()));
  EXPECT_TRUE(blocks_all);
  // The starter's own are as before.
  EXPECT_FALSE(Blocks(SIGALRM));
}

TEST(BackgroundThread, WhereThereIsNoneTheCallerIsTold) {
  ChildProcess child([](const ChildProcess::Parent&) {
    if (!DenySyscall(SYS_clone3, EAGAIN) || !DenySyscall(SYS_clone, EAGAIN)) {
      return false;
    }
    bool ran = false;
    const std::thread thread =
        StartBackgroundThread("diofs-some-test", [&] { ran = true; });
    return !thread.joinable() && !ran && !Blocks(SIGALRM);
  });
  EXPECT_EQ(0, child.Wait());
}

}  // namespace
}  // namespace diofs
