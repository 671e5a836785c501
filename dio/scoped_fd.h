#ifndef DIOFS_DIO_SCOPED_FD_H_
#define DIOFS_DIO_SCOPED_FD_H_

#include <utility>

namespace diofs {

// A file descriptor, closed at the end unless somebody takes it; none is < 0.
class ScopedFd {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ScopedFd(ScopedFd&& other) noexcept : fd_(other.Release()) {}
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  ~ScopedFd() { Close(); }

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }
  void Close();

 private:
  int fd_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_SCOPED_FD_H_
