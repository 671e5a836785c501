#ifndef DIOFS_TOOLS_DIO_BENCH_CHILD_H_
#define DIOFS_TOOLS_DIO_BENCH_CHILD_H_

#include <chrono>
#include <string>
#include <vector>

#include "dio/result.h"
#include "tools/dio_bench_interrupt.h"

namespace diofs {

struct ChildOutput {
  std::string out;
  std::string err;
  // As waitpid tells it.
  int status = 0;
};

// Runs a program found in the path and collects what it prints. It is sent
// SIGINT when `interrupt` happens (EINTR) or `limit` has passed (ETIME), and
// SIGKILL when it does not end then. Gone on return in any case.
Result RunChild(const std::vector<std::string>& arguments,
                std::chrono::seconds limit, Interrupt* interrupt,
                ChildOutput* output);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_CHILD_H_
