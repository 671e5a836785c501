#ifndef DIOFS_TESTS_LIBC_FAULTS_H_
#define DIOFS_TESTS_LIBC_FAULTS_H_

// Stands between a test program and the C library: functions fail when a test
// wants them to, or answer what no machine at hand would. Defines them under
// their own names, for the whole program; so it belongs into one source file of
// a program, that of the test.
//
// Only calls from the program's own objects and from libraries that look the
// name up arrive here (libstdc++ opens its streams with fopen64); those inside
// the C library do not.

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "tests/real_function.h"

namespace diofs {

constexpr int kEveryCall = INT_MAX;

// What happens to calls of one function while it lives: to `times` of them from
// the `nth` on, counted from 1. Functions go by their names, and ioctl by that
// of its request. Any thread's calls count.
class LibcFault {
 public:
  struct Effect {
    std::function<void()> before;
    int error = 0;  // what it fails with, if not 0
    // Changes what a call that succeeded answers.
    std::function<void(void*)> edit;
    // Opens `instead` if asked for `path`.
    std::string path;
    std::string instead;
  };

  LibcFault(std::string_view function, Effect effect, int nth, int times)
      : function_(function),
        effect_(std::move(effect)),
        nth_(nth),
        times_(times) {
    const std::lock_guard<std::mutex> lock(mutex_);
    next_ = std::exchange(first_, this);
    ++count_;
  }
  LibcFault(const LibcFault&) = delete;
  LibcFault& operator=(const LibcFault&) = delete;
  ~LibcFault() {
    const std::lock_guard<std::mutex> lock(mutex_);
    LibcFault** link = &first_;
    while (*link != this) link = &(*link)->next_;
    *link = next_;
    --count_;
  }

  // How many calls have come so far.
  int calls() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return calls_;
  }

  // Counts a call of `function`; what is to happen to it.
  static Effect Arrive(std::string_view function) {
    // The tools that look at the program call these functions before it starts
    // and after it has ended.
    if (count_ == 0) return Effect();
    const std::lock_guard<std::mutex> lock(mutex_);
    Effect effect;
    for (LibcFault* fault = first_; fault != nullptr; fault = fault->next_) {
      if (fault->function_ != function) continue;
      ++fault->calls_;
      if (fault->calls_ >= fault->nth_ &&
          fault->calls_ - fault->nth_ < fault->times_) {
        effect = fault->effect_;
      }
    }
    return effect;
  }

 private:
  static inline std::mutex mutex_;  // guards the list and the counts of calls
  static inline LibcFault* first_ = nullptr;
  static inline std::atomic<int> count_{0};

  const std::string function_;
  const Effect effect_;
  const int nth_;
  const int times_;
  int calls_ = 0;
  LibcFault* next_ = nullptr;
};

// Calls fail with `error`, and nothing is done.
class FailCall : public LibcFault {
 public:
  FailCall(std::string_view function, int error, int nth = 1, int times = 1)
      : LibcFault(function, {{}, error, {}, {}, {}}, nth, times) {}
};

// `hook` runs before the call.
class BeforeCall : public LibcFault {
 public:
  BeforeCall(std::string_view function, std::function<void()> hook, int nth = 1,
             int times = 1)
      : LibcFault(function, {std::move(hook), 0, {}, {}, {}}, nth, times) {}
};

// `hook` changes what every call answers: of stat and fstat a struct stat, of
// statx a struct statx, of ioctl what its argument points to.
template <typename Answer>
class EditAnswer : public LibcFault {
 public:
  EditAnswer(std::string_view function, std::function<void(Answer*)> hook)
      : LibcFault(function,
                  {{},
                   0,
                   [hook](void* answer) { hook(static_cast<Answer*>(answer)); },
                   {},
                   {}},
                  1, kEveryCall) {}
};

// A stream that is to read `path` reads `instead`.
class ReplaceFile : public LibcFault {
 public:
  ReplaceFile(const std::string& path, const std::string& instead)
      : LibcFault("fopen64", {{}, 0, {}, path, instead}, 1, kEveryCall) {}
};

// `answer` is what the call fills in.
template <typename Returned, typename Real>
Returned CallWithFaults(std::string_view function, Returned failed,
                        void* answer, const Real& real) {
  const LibcFault::Effect effect = LibcFault::Arrive(function);
  if (effect.before) effect.before();
  if (effect.error != 0) {
    errno = effect.error;
    return failed;
  }
  const Returned result = real();
  if (effect.edit && result == 0) effect.edit(answer);
  return result;
}

inline std::string_view IoctlName(unsigned long request) {
  switch (request) {
    case BLKGETSIZE64:
      return "BLKGETSIZE64";
    case BLKSSZGET:
      return "BLKSSZGET";
    case BLKPBSZGET:
      return "BLKPBSZGET";
    case BLKDISCARD:
      return "BLKDISCARD";
    default:
      return "ioctl";
  }
}

}  // namespace diofs

extern "C" {

int open(const char* path, int flags, ...) {
  static const auto real =
      diofs::RealFunction<int(const char*, int, ...)>("open");
  mode_t mode = 0;
  if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  return diofs::CallWithFaults("open", -1, nullptr,
                               [&] { return real(path, flags, mode); });
}

int ioctl(int fd, unsigned long request, ...) noexcept {
  static const auto real =
      diofs::RealFunction<int(int, unsigned long, ...)>("ioctl");
  va_list arguments;
  va_start(arguments, request);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  return diofs::CallWithFaults(diofs::IoctlName(request), -1, argument,
                               [&] { return real(fd, request, argument); });
}

int stat(const char* path, struct stat* info) noexcept {
  static const auto real =
      diofs::RealFunction<int(const char*, struct stat*)>("stat");
  return diofs::CallWithFaults("stat", -1, info,
                               [&] { return real(path, info); });
}

int fstat(int fd, struct stat* info) noexcept {
  static const auto real = diofs::RealFunction<int(int, struct stat*)>("fstat");
  return diofs::CallWithFaults("fstat", -1, info,
                               [&] { return real(fd, info); });
}

int statx(int folder, const char* path, int flags, unsigned mask,
          struct statx* info) noexcept {
  static const auto real =
      diofs::RealFunction<int(int, const char*, int, unsigned, struct statx*)>(
          "statx");
  return diofs::CallWithFaults(
      "statx", -1, info, [&] { return real(folder, path, flags, mask, info); });
}

int flock(int fd, int operation) noexcept {
  static const auto real = diofs::RealFunction<int(int, int)>("flock");
  return diofs::CallWithFaults("flock", -1, nullptr,
                               [&] { return real(fd, operation); });
}

int fsync(int fd) {
  static const auto real = diofs::RealFunction<int(int)>("fsync");
  return diofs::CallWithFaults("fsync", -1, nullptr, [&] { return real(fd); });
}

int fdatasync(int fd) {
  static const auto real = diofs::RealFunction<int(int)>("fdatasync");
  return diofs::CallWithFaults("fdatasync", -1, nullptr,
                               [&] { return real(fd); });
}

int ftruncate(int fd, off_t length) noexcept {
  static const auto real = diofs::RealFunction<int(int, off_t)>("ftruncate");
  return diofs::CallWithFaults("ftruncate", -1, nullptr,
                               [&] { return real(fd, length); });
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
  static const auto real =
      diofs::RealFunction<int(int, int, off_t, off_t)>("fallocate");
  return diofs::CallWithFaults("fallocate", -1, nullptr,
                               [&] { return real(fd, mode, offset, length); });
}

// Returns the error, and leaves errno alone.
int posix_fallocate(int fd, off_t offset, off_t length) {
  static const auto real =
      diofs::RealFunction<int(int, off_t, off_t)>("posix_fallocate");
  const int before = errno;
  const int result = diofs::CallWithFaults(
      "posix_fallocate", -1, nullptr, [&] { return real(fd, offset, length); });
  return result < 0 ? std::exchange(errno, before) : result;
}

int link(const char* from, const char* to) noexcept {
  static const auto real =
      diofs::RealFunction<int(const char*, const char*)>("link");
  return diofs::CallWithFaults("link", -1, nullptr,
                               [&] { return real(from, to); });
}

int unlink(const char* path) noexcept {
  static const auto real = diofs::RealFunction<int(const char*)>("unlink");
  return diofs::CallWithFaults("unlink", -1, nullptr,
                               [&] { return real(path); });
}

ssize_t preadv2(int fd, const iovec* segments, int count, off_t offset,
                int flags) {
  static const auto real =
      diofs::RealFunction<ssize_t(int, const iovec*, int, off_t, int)>(
          "preadv2");
  return diofs::CallWithFaults("preadv2", ssize_t{-1}, nullptr, [&] {
    return real(fd, segments, count, offset, flags);
  });
}

// What the buffer pool asks for; smaller alignments are those of objects.
void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  static const auto real =
      diofs::RealFunction<void*(size_t, size_t)>("aligned_alloc");
  if (alignment < 4096) return real(alignment, bytes);
  void* const none = nullptr;
  return diofs::CallWithFaults("aligned_alloc", none, nullptr,
                               [&] { return real(alignment, bytes); });
}

FILE* fopen64(const char* path, const char* mode) {
  static const auto real =
      diofs::RealFunction<FILE*(const char*, const char*)>("fopen64");
  const diofs::LibcFault::Effect effect = diofs::LibcFault::Arrive("fopen64");
  const bool replaced = !effect.path.empty() && effect.path == path;
  return real(replaced ? effect.instead.c_str() : path, mode);
}

}  // extern "C"

#endif  // DIOFS_TESTS_LIBC_FAULTS_H_
