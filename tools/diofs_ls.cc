#include <gflags/gflags.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "env/volume.h"
#include "tools/diofs_command.h"
#include "tools/diofs_json.h"
#include "tools/diofs_util.h"
#include "tools/diofs_volume.h"

DEFINE_bool(l, false,
            "Show type, links, size, extents and time of\n"
            "change.");
DEFINE_bool(R, false, "List what lies below, too.");

namespace diofs {

namespace {

constexpr char kName[] = "ls";

// One directory, or a file by itself, with what is to be shown of it.
struct Listing {
  std::string path;  // of the directory; empty for a file by itself
  std::vector<DirectoryEntry> entries;
};

std::string Join(const std::string& directory, const std::string& name) {
  const bool slash = !directory.empty() && directory.back() == '/';
  return directory.empty() ? name : directory + (slash ? "" : "/") + name;
}

// Lists `path` and, with -R, everything below it, parents first.
Result Collect(Volume* volume, const std::string& path,
               std::vector<Listing>* listings) {
  FileStat stat;
  Result result = volume->Stat(path, &stat);
  if (!result.ok()) return result;
  if (!stat.is_directory) {
    listings->push_back({std::string(), {{path, stat}}});
    return result;
  }
  std::vector<std::string> paths = {path};
  while (!paths.empty()) {
    Listing listing;
    listing.path = std::move(paths.back());
    paths.pop_back();
    result = volume->List(listing.path, &listing.entries);
    if (!result.ok()) return result;
    if (FLAGS_R) {
      // Backwards, so that the first one is taken next.
      for (auto it = listing.entries.rbegin(); it != listing.entries.rend();
           ++it) {
        if (!it->stat.is_directory) continue;
        paths.push_back(Join(listing.path, it->name));
      }
    }
    listings->push_back(std::move(listing));
  }
  return result;
}

Json EntryJson(const std::string& path, const FileStat& stat) {
  return {{"path", path},
          {"type", TypeName(stat.is_directory, stat.kind)},
          {"ino", stat.ino},
          {"links", stat.link_count},
          {"size_bytes", stat.size_bytes},
          {"allocated_bytes", stat.allocated_blocks * kBlockBytes},
          {"extents", stat.extents},
          {"mtime", IsoTime(stat.mtime_us)},
          {"mtime_us", stat.mtime_us}};
}

std::string JsonListing(const std::vector<Listing>& listings) {
  Json json = Json::array();
  for (const Listing& listing : listings) {
    for (const DirectoryEntry& entry : listing.entries) {
      json.push_back(EntryJson(Join(listing.path, entry.name), entry.stat));
    }
  }
  return JsonText(json);
}

std::string TextListing(const Listing& listing) {
  std::string text;
  std::vector<std::vector<std::string>> rows;
  for (const DirectoryEntry& entry : listing.entries) {
    const FileStat& stat = entry.stat;
    const std::string name = Printable(entry.name);
    if (!FLAGS_l) {
      text += name + "\n";
      continue;
    }
    rows.push_back({TypeName(stat.is_directory, stat.kind),
                    std::to_string(stat.link_count),
                    stat.is_directory ? "-" : ShowBytes(stat.size_bytes),
                    stat.is_directory ? "-" : std::to_string(stat.extents),
                    ShowTime(stat.mtime_us), name});
  }
  if (rows.empty()) return text;
  rows.insert(rows.begin(),
              {"type", "links", "size", "extents", "changed", "name"});
  return FormatTable(rows, "lrrrll");
}

int Run(const std::vector<std::string>& arguments) {
  std::shared_ptr<Volume> volume;
  if (!OpenVolume(kName, arguments[0], &volume)) return kExitFailure;
  const std::string path = arguments.size() > 1 ? arguments[1] : "/";
  std::vector<Listing> listings;
  const Result result = Collect(volume.get(), path, &listings);
  if (!result.ok()) {
    std::string message = arguments[0] + ": " + path + ": ";
    message += result.error() == ENOENT
                   ? "there is no such file or directory on the volume; diofs "
                     "ls -R " +
                         arguments[0] + " shows all there are"
                   : result.ToString();
    Complain(kName, Printable(message));
    return kExitFailure;
  }
  if (FLAGS_json) return Print(kName, JsonListing(listings));
  std::string text;
  for (const Listing& listing : listings) {
    if (FLAGS_R && !listing.path.empty()) {
      text += (text.empty() ? "" : "\n") + Printable(listing.path) + ":\n";
    }
    text += TextListing(listing);
  }
  return Print(kName, text);
}

}  // namespace

const Command& LsCommand() {
  static const Command command = {
      kName,
      "list the files of a volume",
      "DEVICE [PATH]",
      1,
      2,
      "DEVICE is a block device or image file with a volume, PATH a directory "
      "or\n"
      "file on it; without PATH the root is listed. The volume must not be in\n"
      "use; nothing is written to it.\n",
      {{"l", nullptr},
       {"R", nullptr},
       {"bytes", nullptr},
       {"wait", "SECONDS"},
       {"json", nullptr}},
      {"diofs ls -l /var/lib/db.img", "diofs ls -lR /dev/nvme0n1 /orders",
       "diofs ls --json -R /dev/nvme0n1"},
      kExitCodes,
      kExitUsage,
      Run};
  return command;
}

}  // namespace diofs
