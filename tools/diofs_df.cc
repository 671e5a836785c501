#include <memory>
#include <string>
#include <vector>

#include "env/volume.h"
#include "tools/diofs_command.h"
#include "tools/diofs_json.h"
#include "tools/diofs_util.h"
#include "tools/diofs_volume.h"

namespace diofs {

namespace {

constexpr char kName[] = "df";

std::string ShowBlocks(uint64_t blocks) {
  return ShowBytes(blocks * kBlockBytes);
}

int Run(const std::vector<std::string>& arguments) {
  const std::string& path = arguments[0];
  std::shared_ptr<Volume> volume;
  if (!OpenVolume(kName, path, &volume)) return kExitFailure;
  VolumeUsage usage;
  const Result result = volume->Usage(&usage);
  if (!result.ok()) {
    Complain(kName, Explain(path, result));
    return kExitFailure;
  }
  if (FLAGS_json) {
    Json json = {{"device", path}};
    json.update(UsageJson(usage));
    return Print(kName, JsonText(json));
  }
  const uint64_t taken = usage.total_blocks - usage.free_blocks;
  return Print(
      kName,
      FormatTable(
          {{"device", "total", "used", "metadata", "pending", "free",
            "reserved", "largest", "use", "inodes"},
           {Printable(path), ShowBlocks(usage.total_blocks),
            ShowBlocks(usage.allocated_blocks),
            ShowBlocks(usage.metadata_blocks), ShowBlocks(usage.pending_blocks),
            ShowBlocks(usage.free_blocks), ShowBlocks(usage.reserved_blocks),
            ShowBlocks(usage.largest_free_run),
            ShowPercent(taken, usage.total_blocks),
            std::to_string(usage.inodes)}},
          "lrrrrrrrrr"));
}

}  // namespace

const Command& DfCommand() {
  static const Command command = {
      kName,
      "show how full a volume is",
      "DEVICE",
      1,
      1,
      "DEVICE is a block device or image file with a volume, which must not "
      "be\n"
      "in use; nothing is written to it. total = used by files + metadata +\n"
      "pending (freed, not yet reusable) + free. Of the free space, reserved "
      "is\n"
      "kept for the files RocksDB needs in order to recover from a full "
      "device;\n"
      "largest is the longest free run.\n",
      {{"bytes", nullptr}, {"wait", "SECONDS"}, {"json", nullptr}},
      {"diofs df /var/lib/db.img", "diofs df --json /dev/nvme0n1"},
      kExitCodes,
      kExitUsage,
      Run};
  return command;
}

}  // namespace diofs
