#include "tools/diofs_progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "tools/diofs_util.h"

namespace diofs {

namespace {

constexpr std::chrono::milliseconds kFirst(1000);
constexpr std::chrono::milliseconds kTerminalInterval(200);
constexpr std::chrono::milliseconds kLogInterval(5000);

std::string Duration(double seconds) {
  const uint64_t whole = static_cast<uint64_t>(std::llround(seconds));
  const std::string left = std::to_string(whole % 60) + " s";
  return whole < 60 ? left : std::to_string(whole / 60) + " min " + left;
}

}  // namespace

Progress::Progress(std::string what)
    : what_(std::move(what)),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      shown_(start_) {}

Progress::~Progress() {
  if (line_bytes_ > 0) fputc('\n', stderr);
}

std::string Progress::UpdateAt(Clock::time_point now, uint64_t done,
                               uint64_t total) {
  const Clock::duration interval = shown_ == start_ ? kFirst
                                   : terminal_      ? kTerminalInterval
                                                    : kLogInterval;
  if (now - shown_ < interval || done == 0) return std::string();
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = static_cast<double>(done) / seconds;
  const double left = static_cast<double>(total - std::min(done, total));
  std::string line = what_ + ": " + HumanBytes(done) + " of " +
                     HumanBytes(total) + ", " +
                     HumanBytes(static_cast<uint64_t>(rate)) + "/s, " +
                     Duration(left / rate) + " left";
  const size_t length = line.size();
  if (terminal_) {
    if (length < line_bytes_) line.append(line_bytes_ - length, ' ');
    line_bytes_ = length;
    line.insert(0, 1, '\r');
  } else {
    line += '\n';
  }
  fwrite(line.data(), 1, line.size(), stderr);
  return line;
}

}  // namespace diofs
