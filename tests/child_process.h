#ifndef DIOFS_TESTS_CHILD_PROCESS_H_
#define DIOFS_TESTS_CHILD_PROCESS_H_

#include <gtest/gtest.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <utility>

namespace diofs {

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
      if (write(fd_, "r", 1) != 1) _exit(3);
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
      const bool ok = body(Parent(ends[1]));
      std::fflush(nullptr);
      _exit(ok ? 0 : 1);
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
  pid_t pid_ = -1;
  int ready_fd_ = -1;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_CHILD_PROCESS_H_
