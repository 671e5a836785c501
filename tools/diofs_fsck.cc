#include <gflags/gflags.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "env/fsck.h"
#include "env/repair.h"
#include "tools/diofs_command.h"
#include "tools/diofs_json.h"
#include "tools/diofs_util.h"
#include "tools/diofs_volume.h"

DEFINE_bool(repair, false, "Put right what can be, then check.");
DEFINE_bool(lost_cache, false,
            "Of --repair: the device has lost power while the\n"
            "host went on. A journal of which a frame is missing\n"
            "ends there, unless it is known to have been durable.");

namespace diofs {

namespace {

constexpr char kName[] = "fsck";

// As fsck(8) has them.
constexpr int kExitCorrected = 1;
constexpr int kExitUncorrected = 4;
constexpr int kExitOperational = 8;
constexpr int kExitFsckUsage = 16;

std::string Text(const std::string& path,
                 const std::vector<std::string>& repaired,
                 const FsckReport& report) {
  std::string text;
  for (const std::string& line : repaired) text += "repaired: " + line + "\n";
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

Json ToJson(const std::string& path, const std::vector<std::string>& repaired,
            const FsckReport& report) {
  return {{"path", path},
          {"clean", report.problems.empty()},
          {"repaired", repaired},
          {"problems", report.problems},
          {"notes", report.notes},
          {"files", report.files},
          {"directories", report.directories},
          {"extents", report.extents},
          {"usage", UsageJson(report.usage)}};
}

int Run(const std::vector<std::string>& arguments) {
  const std::string& path = arguments[0];
  std::vector<std::string> repaired;
  Result result;
  if (FLAGS_repair) {
    const auto open = [&](std::unique_ptr<BlockDevice>* device) {
      return OpenForWriting(path, device);
    };
    result = Repair(open, FLAGS_lost_cache, &repaired);
  }
  std::unique_ptr<BlockDevice> device;
  FsckReport report;
  if (result.ok()) result = OpenForReading(path, &device);
  if (result.ok()) result = Fsck(std::move(device), &report);
  if (!result.ok()) {
    Complain(kName, Explain(path, result));
    return kExitOperational;
  }
  const int printed =
      Print(kName, FLAGS_json ? JsonText(ToJson(path, repaired, report))
                              : Text(path, repaired, report));
  if (!report.problems.empty()) return kExitUncorrected;
  if (printed != kExitOk) return kExitOperational;
  return repaired.empty() ? kExitOk : kExitCorrected;
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
      "held against each other, and each frame of the logs is read; nothing "
      "is\n"
      "written.\n"
      "\n"
      "--repair puts right first what can be without inventing anything: "
      "copies\n"
      "of the superblock, a volume that was not unmounted, and, with\n"
      "--lost_cache, a journal whose end is lost. Other damage stays as it "
      "is:\n"
      "copy out what can be read, with ro=1.\n",
      {{"repair", nullptr},
       {"lost_cache", nullptr},
       {"bytes", nullptr},
       {"wait", "SECONDS"},
       {"json", nullptr}},
      {"diofs fsck /var/lib/db.img", "diofs fsck --repair /var/lib/db.img",
       "diofs fsck --json /dev/nvme0n1"},
      "  0  clean\n"
      "  1  errors or an unclean unmount found, and put right\n"
      "  4  errors found, which are left\n"
      "  8  the check could not be made: no such device, no volume, in use, …\n"
      " 16  wrong usage\n",
      kExitFsckUsage,
      Run};
  return command;
}

}  // namespace diofs
