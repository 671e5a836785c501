#ifndef DIOFS_TOOLS_DIO_BENCH_REPORT_H_
#define DIOFS_TOOLS_DIO_BENCH_REPORT_H_

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "tools/dio_bench_compare.h"
#include "tools/dio_bench_job.h"

namespace diofs {

// One line, with a newline.
std::string JobText(const BlockDevice& device, const JobOptions& options,
                    const JobResult& result);
nlohmann::ordered_json JobJson(const BlockDevice& device,
                               const JobOptions& options,
                               const JobResult& result);

// A few lines for each workload.
std::string CompareText(const BlockDevice& device, const std::string& fio,
                        const std::vector<Comparison>& comparisons);
nlohmann::ordered_json CompareJson(const BlockDevice& device,
                                   const std::string& fio,
                                   const CompareOptions& options,
                                   const std::vector<Comparison>& comparisons);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_REPORT_H_
