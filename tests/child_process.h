#ifndef DIOFS_TESTS_CHILD_PROCESS_H_
#define DIOFS_TESTS_CHILD_PROCESS_H_

#include <gtest/gtest.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>

#if defined(DIOFS_VALGRIND)
#include <valgrind/valgrind.h>
#endif
#if defined(DIOFS_COVERAGE)
extern "C" void __gcov_dump();
#endif

namespace diofs {

// Ends a forked child, without the destructors that are the parent's to run,
// but not without what a checking tool wants done.
[[noreturn]] inline void ExitChild(int status) {
  std::fflush(nullptr);
#if defined(DIOFS_COVERAGE)
  __gcov_dump();
#endif
#if defined(DIOFS_VALGRIND)
  // The child has lost the stacks of its parent's threads, and with them what
  // they own. Another program in its place ends without a check for leaks.
  if (RUNNING_ON_VALGRIND != 0) {
    execl("/bin/sh", "sh", "-c", "exit $0", std::to_string(status).c_str(),
          nullptr);
  }
#endif
  _exit(status);
}

// A forked child that runs `body` and exits with 0 if it returned true. The
// parent can wait until it calls ready(). Killed and reaped at the end.
class ChildProcess {
 public:
  // What the child tells its parent with.
  class Parent {
   public:
    explicit Parent(int fd) : fd_(fd) {}
    // Lets the parent's WaitUntilReady() return.
    void Ready() const {
      if (write(fd_, "r", 1) != 1) ExitChild(3);
    }

   private:
    const int fd_;
  };

  explicit ChildProcess(const std::function<bool(const Parent&)>& body) {
    int ends[2];
    if (pipe(ends) != 0) {
      ADD_FAILURE() << "pipe";
      return;
    }
    std::fflush(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[0]);
      const bool ok = RunChecked(body, Parent(ends[1]));
      ExitChild(ok ? 0 : 1);
    }
    close(ends[1]);
    ready_fd_ = ends[0];
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess() {
    Kill();
    if (ready_fd_ >= 0) close(ready_fd_);
  }

  pid_t pid() const { return pid_; }
  // False if the child ended without having become ready.
  bool WaitUntilReady() const {
    char byte = 0;
    return read(ready_fd_, &byte, 1) == 1;
  }
  // The wait status of the child, which ends by itself.
  int Wait() {
    int status = -1;
    if (pid_ > 0) waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }
  void Kill() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    Wait();
  }

 private:
  // False also if a check failed in the child, or memcheck found anything.
  static bool RunChecked(const std::function<bool(const Parent&)>& body,
                         const Parent& parent) {
#if defined(DIOFS_VALGRIND)
    const auto errors = VALGRIND_COUNT_ERRORS;
    return body(parent) && !testing::Test::HasFailure() &&
           VALGRIND_COUNT_ERRORS == errors;
#else
    return body(parent) && !testing::Test::HasFailure();
#endif
  }

  pid_t pid_ = -1;
  int ready_fd_ = -1;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_CHILD_PROCESS_H_
