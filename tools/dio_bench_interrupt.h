#ifndef DIOFS_TOOLS_DIO_BENCH_INTERRUPT_H_
#define DIOFS_TOOLS_DIO_BENCH_INTERRUPT_H_

#include <chrono>
#include <csignal>

namespace diofs {

// Ctrl-C, kill and a closed terminal as something to be asked for, so that what
// runs ends in order; the second such signal ends the process. One per process,
// made by main() before any thread; waited on by one thread at a time.
class Interrupt {
 public:
  Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  ~Interrupt();

  // Sleeps until `fd` can be read (-1: none), `timeout` has passed or a signal
  // has come. True if `fd` can be read.
  bool Wait(int fd, std::chrono::nanoseconds timeout);
  // Whether a signal has come.
  bool Happened();
  // 128 + its number; 0 without one.
  int exit_code() const;

  // What a child process shall start with.
  const sigset_t& original_mask() const { return original_mask_; }
  static sigset_t SignalSet();

 private:
  sigset_t original_mask_;
};

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_INTERRUPT_H_
