#ifndef DIOFS_TOOLS_DIOFS_PROGRESS_H_
#define DIOFS_TOOLS_DIOFS_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace diofs {

// Tells on standard error how far a long operation has come, how fast it goes
// and how long it will take: one line that changes on a terminal, a line every
// few seconds elsewhere, nothing for what is over within a second. Owned by the
// command, used by one thread.
class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  // `what`: "formatting /path".
  explicit Progress(std::string what);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Ends the line.
  ~Progress();

  void Update(uint64_t done, uint64_t total) {
    UpdateAt(Clock::now(), done, total);
  }
  // The same at a given time, for tests. What was shown, empty if nothing.
  std::string UpdateAt(Clock::time_point now, uint64_t done, uint64_t total);

 private:
  const std::string what_;
  const bool terminal_;
  const Clock::time_point start_;
  Clock::time_point shown_;
  // Bytes on the terminal's line, 0 while it is empty.
  size_t line_bytes_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIOFS_PROGRESS_H_
