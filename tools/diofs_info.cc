#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "env/superblock.h"
#include "env/volume.h"
#include "tools/diofs_command.h"
#include "tools/diofs_json.h"
#include "tools/diofs_util.h"
#include "tools/diofs_volume.h"

namespace diofs {

namespace {

constexpr char kName[] = "info";

// What is known of a volume; the journal part only where it could be read.
struct Facts {
  std::string path;
  Superblock superblock;
  SuperblockScan scan;
  Geometry geometry;
  std::string backend;
  Journal::RecoveryReport recovery;
  Result mount;

  uint32_t intact_copies() const {
    uint32_t intact = 0;
    for (const Result& copy : scan.copies) intact += copy.ok();
    return intact;
  }
};

Result Gather(Facts* facts) {
  std::unique_ptr<BlockDevice> device;
  Result result = OpenForReading(facts->path, &device);
  if (!result.ok()) return result;
  result = LoadSuperblock(device.get(), &facts->superblock, &facts->scan);
  if (!result.ok()) return result;
  facts->geometry = device->geometry();
  facts->backend = device->backend_name();
  std::shared_ptr<Volume> volume;
  facts->mount = MountForReading(kName, std::move(device), &volume);
  if (facts->mount.ok()) facts->recovery = volume->recovery();
  return Result::Ok();
}

std::string FeatureText(const Superblock& superblock) {
  return "compat " + Hex(superblock.feature_compat) + ", ro_compat " +
         Hex(superblock.feature_ro_compat) + ", incompat " +
         Hex(superblock.feature_incompat);
}

std::string LastMountText(const Superblock& superblock) {
  if (superblock.mounted_us == 0) return "never";
  return ShowTime(superblock.mounted_us) + " by process " +
         std::to_string(superblock.owner_pid) +
         ", flush=" + FlushModeName(superblock.flush_mode);
}

std::string JournalText(const Facts& facts) {
  const uint64_t bytes = facts.superblock.region_bytes;
  std::string text = "2 regions of " + ShowBytes(bytes);
  if (!facts.mount.ok()) return text + ", damaged";
  const uint64_t used = facts.recovery.region_used_bytes;
  return text + ", region " + std::to_string(facts.recovery.region) +
         " in use: " + ShowBytes(used) + " (" + ShowPercent(used, bytes) + ")";
}

std::string Text(const Facts& facts) {
  const Superblock& superblock = facts.superblock;
  const bool dirty = superblock.dirty();
  return FormatTable(
      {{"volume", Printable(facts.path)},
       {"label", superblock.label.empty() ? "-" : Printable(superblock.label)},
       {"uuid", UuidToString(superblock.uuid)},
       {"format", "version " + std::to_string(kFormatVersion)},
       {"features", FeatureText(superblock)},
       {"size", ShowBytes(superblock.device_bytes)},
       {"prealloc", PreallocName(superblock)},
       {"created", ShowTime(superblock.created_us)},
       {"last mount", LastMountText(superblock)},
       {"state",
        dirty ? "dirty: not unmounted, the next mount recovers it" : "clean"},
       {"superblock", std::to_string(facts.intact_copies()) +
                          " of 4 copies intact, epoch " +
                          std::to_string(superblock.epoch)},
       {"journal", JournalText(facts)},
       {"device", facts.geometry.ToString()},
       {"backend", facts.backend}},
      "ll");
}

Json ToJson(const Facts& facts) {
  Json json = {{"path", facts.path},
               {"superblock", SuperblockJson(facts.superblock)},
               {"superblock_copies_intact", facts.intact_copies()},
               {"geometry", GeometryJson(facts.geometry)},
               {"backend", facts.backend}};
  if (facts.mount.ok()) {
    json["journal"] = RecoveryJson(facts.recovery);
  } else {
    json["error"] = facts.mount.ToString();
  }
  return json;
}

int Run(const std::vector<std::string>& arguments) {
  Facts facts;
  facts.path = arguments[0];
  const Result result = Gather(&facts);
  if (!result.ok()) {
    Complain(kName, Explain(facts.path, result));
    return kExitFailure;
  }
  const int printed =
      Print(kName, FLAGS_json ? JsonText(ToJson(facts)) : Text(facts));
  if (facts.mount.ok()) return printed;
  Complain(kName, Explain(facts.path, facts.mount));
  return kExitFailure;
}

}  // namespace

const Command& InfoCommand() {
  static const Command command = {
      kName,
      "show a volume's superblock, journal and device",
      "DEVICE",
      1,
      1,
      "DEVICE is a block device or image file with a volume, which must not "
      "be\n"
      "in use; nothing is written to it.\n",
      {{"bytes", nullptr}, {"wait", "SECONDS"}, {"json", nullptr}},
      {"diofs info /var/lib/db.img", "diofs info --json /dev/nvme0n1"},
      kExitCodes,
      kExitUsage,
      Run};
  return command;
}

}  // namespace diofs
