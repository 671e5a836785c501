#include "tools/dio_bench_child.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "dio/retrying.h"
#include "dio/scoped_fd.h"

namespace diofs {

namespace {

using Clock = std::chrono::steady_clock;

// What a child gets to end in after SIGINT.
constexpr std::chrono::seconds kGrace(5);

// Starts the program with `out` and `err` for its output and default signals.
// posix_spawn, not fork: nothing of this process's threads and locks crosses.
Result Spawn(const std::vector<std::string>& arguments, int out, int err,
             const Interrupt& interrupt, pid_t* child) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY,
                                   0);
  posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults = Interrupt::SignalSet();
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setsigmask(&attributes, &interrupt.original_mask());
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  const int error =
      posix_spawnp(child, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error == 0 ? Result::Ok() : Result::Error(error, arguments[0]);
}

// Appends what `fd` has to give; false at its end.
bool ReadSome(int fd, std::string* text) {
  std::array<char, 16384> buffer;
  const ssize_t bytes = read(fd, buffer.data(), buffer.size());
  if (bytes > 0) text->append(buffer.data(), static_cast<size_t>(bytes));
  return bytes > 0 || (bytes < 0 && errno == EINTR);
}

// Reads until the child closes its end, which is when it ends.
Result ReadToEnd(int fd, pid_t child, Clock::duration limit,
                 Interrupt* interrupt, std::string* text) {
  Result result;  // why it was told to end
  Clock::time_point deadline = Clock::now() + limit;
  while (true) {
    const bool late = Clock::now() >= deadline;
    if (late && !result.ok()) {
      kill(child, SIGKILL);
      return result;
    }
    if (result.ok() && (late || interrupt->Happened())) {
      result = Result::Error(late ? ETIME : EINTR);
      deadline = Clock::now() + kGrace;
      kill(child, SIGINT);
    }
    if (interrupt->Wait(fd, deadline - Clock::now()) && !ReadSome(fd, text)) {
      return result;
    }
  }
}

}  // namespace

Result RunChild(const std::vector<std::string>& arguments,
                std::chrono::seconds limit, Interrupt* interrupt,
                ChildOutput* output) {
  *output = ChildOutput();
  std::array<int, 2> ends = {-1, -1};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return Result::FromErrno("pipe");
  const ScopedFd from_child(ends[0]);
  ScopedFd to_parent(ends[1]);
  // A file, so that a child that complains at length does not wait for us.
  const ScopedFd errors(memfd_create("errors", MFD_CLOEXEC));
  if (errors.get() < 0) return Result::FromErrno("memfd_create");

  pid_t child = 0;
  Result result =
      Spawn(arguments, to_parent.get(), errors.get(), *interrupt, &child);
  if (!result.ok()) return result;
  to_parent.Close();
  result = ReadToEnd(from_child.get(), child, limit, interrupt, &output->out);
  (void)Retrying([&] { return waitpid(child, &output->status, 0); });
  lseek(errors.get(), 0, SEEK_SET);
  while (ReadSome(errors.get(), &output->err)) {
  }
  return result;
}

}  // namespace diofs
