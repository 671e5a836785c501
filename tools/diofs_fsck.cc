#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "env/fsck.h"
#include "tools/diofs_command.h"
#include "tools/diofs_json.h"
#include "tools/diofs_util.h"
#include "tools/diofs_volume.h"

namespace diofs {

namespace {

constexpr char kName[] = "fsck";

// As fsck(8) has them.
constexpr int kExitUncorrected = 4;
constexpr int kExitOperational = 8;
constexpr int kExitFsckUsage = 16;

std::string Text(const std::string& path, const FsckReport& report) {
  std::string text;
  for (const std::string& note : report.notes) {
    text += "note: " + Printable(note) + "\n";
  }
  for (const std::string& problem : report.problems) {
    text += "problem: " + Printable(problem) + "\n";
  }
  text += Printable(path) + ": ";
  if (!report.problems.empty()) {
    const size_t count = report.problems.size();
    return text + std::to_string(count) +
           (count == 1 ? " problem\n" : " problems\n");
  }
  return text + "clean, " + std::to_string(report.files) + " files, " +
         std::to_string(report.directories) + " directories, " +
         std::to_string(report.extents) + " extents, " +
         ShowBytes(report.usage.free_blocks * kBlockBytes) + " of " +
         ShowBytes(report.usage.total_blocks * kBlockBytes) + " free\n";
}

Json ToJson(const std::string& path, const FsckReport& report) {
  return {{"path", path},
          {"clean", report.problems.empty()},
          {"problems", report.problems},
          {"notes", report.notes},
          {"files", report.files},
          {"directories", report.directories},
          {"extents", report.extents},
          {"usage", UsageJson(report.usage)}};
}

int Run(const std::vector<std::string>& arguments) {
  const std::string& path = arguments[0];
  std::unique_ptr<BlockDevice> device;
  FsckReport report;
  Result result = OpenForReading(path, &device);
  if (result.ok()) result = Fsck(std::move(device), &report);
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

const Command& FsckCommand() {
  static const Command command = {
      kName,
      "check a volume",
      "DEVICE",
      1,
      1,
      "DEVICE is a block device or image file with a volume, which must not "
      "be\n"
      "in use. Superblocks, journal, names, links, extents and the free space "
      "are\n"
      "held against each other; file contents are not read and nothing is\n"
      "written.\n",
      {{"bytes", nullptr}, {"wait", "SECONDS"}, {"json", nullptr}},
      {"diofs fsck /var/lib/db.img", "diofs fsck --json /dev/nvme0n1"},
      "  0  clean\n"
      "  4  errors found, and left as they are\n"
      "  8  the check could not be made: no such device, no volume, in use, …\n"
      " 16  wrong usage\n",
      kExitFsckUsage,
      Run};
  return command;
}

}  // namespace diofs
