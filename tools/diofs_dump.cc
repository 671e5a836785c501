#include <map>
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

constexpr char kName[] = "dump";

struct Name {
  uint64_t parent;
  std::string name;
};
using Names = std::multimap<uint64_t, Name>;  // by inode number

// Every path that leads to the inode. What is cut off from the root, or goes
// round in circles, has none.
std::vector<std::string> PathsOf(const Names& names, uint64_t ino,
                                 uint32_t depth) {
  if (ino == kRootIno) return {"/"};
  std::vector<std::string> paths;
  if (depth > kMaxPathDepth) return paths;
  const auto range = names.equal_range(ino);
  for (auto it = range.first; it != range.second; ++it) {
    for (const std::string& above :
         PathsOf(names, it->second.parent, depth + 1)) {
      paths.push_back((above == "/" ? above : above + "/") + it->second.name);
    }
  }
  return paths;
}

Json InodeJson(const Inode& inode, const Names& names) {
  Json json = {{"ino", inode.ino},
               {"type", TypeName(inode.is_directory, inode.kind)},
               {"paths", PathsOf(names, inode.ino, 0)},
               {"links", inode.link_count},
               {"mtime", IsoTime(inode.mtime_us)},
               {"mtime_us", inode.mtime_us.load()}};
  if (inode.is_directory) {
    json["parent"] = inode.parent;
    json["entries"] = inode.entries.size();
  } else {
    const std::shared_ptr<const ExtentMap> map = inode.map();
    json["size_bytes"] = inode.visible_bytes.load();
    json["allocated_bytes"] = map->blocks() * kBlockBytes;
    json["extents"] = ExtentsJson(map->extents());
  }
  return json;
}

Json InodesJson(Volume* volume) {
  Names names;
  volume->ForEachInode([&names](const InodePtr& inode) {
    for (const auto& [name, ino] : inode->entries) {
      names.emplace(ino, Name{inode->ino, name});
    }
  });
  Json json = Json::array();
  volume->ForEachInode([&json, &names](const InodePtr& inode) {
    json.push_back(InodeJson(*inode, names));
  });
  return json;
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
  const Json json = {{"path", path},
                     {"block_bytes", kBlockBytes},
                     {"superblock", SuperblockJson(volume->superblock())},
                     {"journal", RecoveryJson(volume->recovery())},
                     {"usage", UsageJson(usage)},
                     {"inodes", InodesJson(volume.get())}};
  return Print(kName, JsonText(json));
}

}  // namespace

const Command& DumpCommand() {
  static const Command command = {
      kName,
      "print all metadata of a volume as JSON",
      "DEVICE",
      1,
      1,
      "DEVICE is a block device or image file with a volume, which must not "
      "be\n"
      "in use; nothing is written to it. Printed are the superblock, what was\n"
      "found in the journal, the use of space, and every inode with its "
      "paths,\n"
      "sizes and extents.\n",
      {{"wait", "SECONDS"}, {"json", nullptr}},
      {"diofs dump /var/lib/db.img",
       "diofs dump /dev/nvme0n1 | jq '.inodes[] | select(.extents | length > "
       "1)'"},
      kExitCodes,
      kExitUsage,
      Run};
  return command;
}

}  // namespace diofs
