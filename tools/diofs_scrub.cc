#include <memory>
#include <string>
#include <vector>

#include "env/scrub.h"
#include "tools/diofs_command.h"
#include "tools/diofs_json.h"
#include "tools/diofs_progress.h"
#include "tools/diofs_util.h"
#include "tools/diofs_volume.h"

namespace diofs {

namespace {

constexpr char kName[] = "scrub";

// As those of fsck.
constexpr int kExitUncorrected = 4;
constexpr int kExitOperational = 8;
constexpr int kExitScrubUsage = 16;

std::string Text(const std::string& path, const ScrubReport& report) {
  std::string text;
  for (const std::string& problem : report.problems) {
    text += "problem: " + Printable(problem) + "\n";
  }
  if (report.unverified_files > 0) {
    text += "note: " + std::to_string(report.unverified_files) +
            " files without checksums (" + ShowBytes(report.unverified_bytes) +
            ") were read and compared with nothing; checksums=1 makes some for "
            "new files\n";
  }
  const size_t count = report.problems.size();
  return text + Printable(path) + ": " +
         (count == 0 ? "clean"
                     : std::to_string(count) +
                           (count == 1 ? " problem" : " problems")) +
         ", " + std::to_string(report.files) + " files, " +
         ShowBytes(report.bytes) + " read\n";
}

Json ToJson(const std::string& path, const ScrubReport& report) {
  return {{"path", path},
          {"clean", report.problems.empty()},
          {"problems", report.problems},
          {"files", report.files},
          {"bytes", report.bytes},
          {"unverified_files", report.unverified_files},
          {"unverified_bytes", report.unverified_bytes}};
}

int Run(const std::vector<std::string>& arguments) {
  const std::string& path = arguments[0];
  std::shared_ptr<Volume> volume;
  if (!OpenVolume(kName, path, &volume)) return kExitOperational;
  ScrubReport report;
  Result result;
  {
    Progress progress("scrubbing " + Printable(path));
    result = Scrub(
        volume.get(),
        [&](uint64_t done, uint64_t total) { progress.Update(done, total); },
        &report);
  }
  if (!result.ok()) {
    Complain(kName, Explain(path, result));
    return kExitOperational;
  }
  const int printed = Print(
      kName, FLAGS_json ? JsonText(ToJson(path, report)) : Text(path, report));
  if (!report.problems.empty()) return kExitUncorrected;
  return printed == kExitOk ? kExitOk : kExitOperational;
}

}  // namespace

const Command& ScrubCommand() {
  static const Command command = {
      kName,
      "read all files and verify their checksums",
      "DEVICE",
      1,
      1,
      "DEVICE is a block device or image file with a volume, which must not "
      "be\n"
      "in use. Every byte of every file is read: plain files written with\n"
      "checksums=1 are compared with their checksums, logs always have some, "
      "of\n"
      "others it is known then that they can be read. Nothing is written. What "
      "is\n"
      "bad is told with path and bytes; restore such a file from a backup.\n",
      {{"bytes", nullptr}, {"wait", "SECONDS"}, {"json", nullptr}},
      {"diofs scrub /var/lib/db.img", "diofs scrub --json /dev/nvme0n1"},
      "  0  all files are what was written\n"
      "  4  some are not\n"
      "  8  the check could not be made: no such device, no volume, in use, …\n"
      " 16  wrong usage\n",
      kExitScrubUsage,
      Run};
  return command;
}

}  // namespace diofs
