#include <gflags/gflags.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "env/superblock.h"
#include "env/sync_probe.h"
#include "tools/diofs_command.h"
#include "tools/diofs_json.h"
#include "tools/diofs_util.h"
#include "tools/diofs_volume.h"

DEFINE_uint32(rounds, 200, "Make one block durable so often, each way.");

namespace diofs {

namespace {

constexpr char kName[] = "probe";

Result Probe(const std::string& path, SyncTimes* times) {
  std::unique_ptr<BlockDevice> device;
  if (Result r = OpenForWriting(path, &device); !r.ok()) return r;
  Superblock superblock;
  if (Result r = LoadSuperblock(device.get(), &superblock); !r.ok()) return r;
  if (Result r = MeasureSync(device.get(), superblock, FLAGS_rounds, times);
      !r.ok()) {
    return r;
  }
  return StorePreference(device.get(), *times, &superblock);
}

std::string ShowMicros(double micros) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f µs", micros);
  return text;
}

int Run(const std::vector<std::string>& arguments) {
  const std::string& path = arguments[0];
  if (FLAGS_rounds == 0) {
    Complain(kName, "--rounds: at least 1");
    return kExitUsage;
  }
  SyncTimes times;
  if (const Result result = Probe(path, &times); !result.ok()) {
    Complain(kName, Explain(path, result));
    return kExitFailure;
  }
  const char* const choice = times.flush_is_faster() ? "flush" : "fua";
  if (FLAGS_json) {
    Json json = {{"device", path},
                 {"rounds", times.rounds},
                 {"write_through_us", nullptr},
                 {"write_and_flush_us", times.flush_us},
                 {"sync_auto", choice}};
    if (times.has_fua) json["write_through_us"] = times.fua_us;
    return Print(kName, JsonText(json));
  }
  return Print(
      kName,
      FormatTable({{"device", Printable(path)},
                   {"write through",
                    times.has_fua ? ShowMicros(times.fua_us) : "not to be had"},
                   {"write and flush", ShowMicros(times.flush_us)},
                   {"sync=auto means", std::string("sync=") + choice}},
                  "ll"));
}

}  // namespace

const Command& ProbeCommand() {
  static const Command command = {
      kName,
      "measure which way of syncing is faster, and remember it",
      "DEVICE",
      1,
      1,
      "DEVICE is a block device or image file with a volume, which must not "
      "be\n"
      "in use. A block that holds nothing is rewritten and made durable, by\n"
      "writing it through and by a flush in turn. The faster way is noted in "
      "the\n"
      "superblock; a mount with sync=auto takes it. A device that cannot "
      "write\n"
      "through is always flushed.\n",
      {{"rounds", "COUNT"}, {"wait", "SECONDS"}, {"json", nullptr}},
      {"diofs probe /dev/nvme0n1", "diofs probe --json /var/lib/db.img"},
      kExitCodes,
      kExitUsage,
      Run};
  return command;
}

}  // namespace diofs
