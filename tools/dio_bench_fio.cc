#include "tools/dio_bench_fio.h"

#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/dio_bench_child.h"
#include "tools/dio_bench_worker.h"

namespace diofs {

namespace {

using Json = nlohmann::json;

// What fio gets beyond its running time, to start and to end.
constexpr std::chrono::seconds kFioOverhead(60);

std::string Number(uint64_t value) { return std::to_string(value); }

// fio separates file names by colons.
std::string EscapeColons(const std::string& path) {
  std::string escaped;
  for (const char c : path) {
    if (c == ':' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

// The number at `key`; 0 where there is none.
double NumberAt(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<double>() : 0;
}

// The last line of what a program complained.
std::string LastLine(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const size_t start = text.rfind('\n');
  return start == std::string::npos ? text : text.substr(start + 1);
}

Result RunFioProgram(const std::vector<std::string>& arguments,
                     std::chrono::seconds limit, Interrupt* interrupt,
                     std::string* out) {
  ChildOutput output;
  Result result = RunChild(arguments, limit, interrupt, &output);
  if (result.error() == ENOENT) {
    return Result::Error(EINVAL,
                         "fio is not installed; install the package fio");
  }
  if (!result.ok()) return std::move(result).With("fio");
  *out = output.out;
  if (output.status == 0) return result;
  std::string why = LastLine(output.err);
  if (why.empty()) why = LastLine(output.out);
  const bool exited = WIFEXITED(output.status);
  return Result::Error(
      EINVAL, "fio ended with " +
                  (exited ? "status " + Number(WEXITSTATUS(output.status))
                          : "signal " + Number(WTERMSIG(output.status))) +
                  (why.empty() ? "" : ": " + why));
}

}  // namespace

std::vector<std::string> FioArguments(const FioJob& job) {
  const auto millis = static_cast<uint64_t>(std::llround(job.seconds * 1000));
  std::vector<std::string> arguments = {
      "fio",
      "--name=rival",
      "--filename=" + EscapeColons(job.target),
      "--allow_file_create=0",
      "--direct=1",
      "--ioengine=" + job.engine,
      "--rw=" + PatternName(job.direction, job.random),
      "--bs=" + Number(job.request_bytes),
      "--numjobs=" + Number(job.jobs),
      "--thread=1",
      "--iodepth=" + Number(job.depth),
      "--time_based=1",
      "--runtime=" + Number(std::max<uint64_t>(1, millis)) + "ms",
      "--norandommap=1",
      "--randrepeat=0",
      "--randseed=" + Number(job.seed),
      "--scramble_buffers=0",
      "--gtod_reduce=1",
      "--group_reporting=1",
      "--output-format=json",
      "--eta=never",
  };
  if (job.batch > 1) {
    arguments.push_back("--iodepth_batch=" + Number(job.batch));
    arguments.push_back("--iodepth_batch_complete_min=" + Number(job.batch));
    arguments.push_back("--iodepth_batch_complete_max=" + Number(job.depth));
  }
  // As ours: of a sequential job each thread has a part of its own.
  const uint64_t requests = job.range_bytes / job.request_bytes;
  const uint64_t share =
      (job.random ? requests : requests / job.jobs) * job.request_bytes;
  arguments.push_back("--size=" + Number(share));
  if (!job.random && job.jobs > 1) {
    arguments.push_back("--offset_increment=" + Number(share));
  }
  return arguments;
}

Result ParseFioOutput(const std::string& text, FioResult* result) {
  *result = FioResult();
  // Notes may stand before it.
  const size_t start = text.find('{');
  const Json json = Json::parse(
      start == std::string::npos ? "" : text.substr(start), nullptr, false);
  if (!json.is_object() || !json.contains("jobs") || !json["jobs"].is_array() ||
      json["jobs"].empty()) {
    return Result::Error(EINVAL, "fio printed no JSON with jobs");
  }
  double cpu_seconds = 0;
  for (const Json& job : json["jobs"]) {
    if (NumberAt(job, "error") != 0) {
      return Result::Error(static_cast<int>(NumberAt(job, "error")),
                           "fio reported an error");
    }
    // With group_reporting: the sum of all threads' times.
    const double thread_seconds = NumberAt(job, "job_runtime") / 1000;
    cpu_seconds += (NumberAt(job, "usr_cpu") + NumberAt(job, "sys_cpu")) / 100 *
                   thread_seconds;
    for (const char* const direction : {"read", "write"}) {
      const auto found = job.find(direction);
      if (found == job.end() || !found->is_object()) continue;
      result->ios += static_cast<uint64_t>(NumberAt(*found, "total_ios"));
      result->ios_per_second += NumberAt(*found, "iops");
      result->bytes_per_second += NumberAt(*found, "bw_bytes");
    }
  }
  if (result->ios == 0) return Result::Error(EINVAL, "fio moved nothing");
  result->cpu_seconds_per_io = cpu_seconds / static_cast<double>(result->ios);
  return Result::Ok();
}

Result RunFio(const FioJob& job, Interrupt* interrupt, FioResult* result) {
  const std::chrono::seconds limit =
      kFioOverhead + std::chrono::seconds(std::llround(job.seconds));
  std::string out;
  Result run = RunFioProgram(FioArguments(job), limit, interrupt, &out);
  if (!run.ok()) return run;
  return ParseFioOutput(out, result);
}

Result FindFio(Interrupt* interrupt, std::string* version) {
  Result result =
      RunFioProgram({"fio", "--version"}, kFioOverhead, interrupt, version);
  while (!version->empty() && version->back() == '\n') version->pop_back();
  return result;
}

}  // namespace diofs
