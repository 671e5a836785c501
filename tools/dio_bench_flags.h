#ifndef DIOFS_TOOLS_DIO_BENCH_FLAGS_H_
#define DIOFS_TOOLS_DIO_BENCH_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "env/volume_options.h"
#include "tools/dio_bench_compare.h"
#include "tools/dio_bench_job.h"
#include "tools/diofs_command.h"

namespace diofs {

// The command line, checked as far as it can be without looking at the target.
// A plain value.
struct BenchRequest {
  std::string path;
  uint64_t size_bytes = 0;  // 0: all there is
  Backend backend = Backend::kAuto;
  bool overwrite = false;
  bool json = false;
  // Without --compare-fio.
  JobOptions job;
  // With it.
  bool compare = false;
  bool check = false;
  bool prefill = true;
  CompareOptions comparison;
  std::vector<const Workload*> workloads;
};

// What is wrong with the flags, which have been parsed, or nothing.
std::string CheckBenchFlags(const std::vector<std::string>& arguments,
                            BenchRequest* request);

// For the help.
std::vector<CommandFlag> BenchFlags();

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_FLAGS_H_
