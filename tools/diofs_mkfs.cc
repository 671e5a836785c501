#include <gflags/gflags.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "dio/align.h"
#include "dio/open_device.h"
#include "env/format.h"
#include "env/superblock.h"
#include "env/volume.h"
#include "env/volume_options.h"
#include "tools/diofs_command.h"
#include "tools/diofs_interrupt.h"
#include "tools/diofs_json.h"
#include "tools/diofs_progress.h"
#include "tools/diofs_signature.h"
#include "tools/diofs_util.h"
#include "tools/diofs_volume.h"

DEFINE_string(size, "",
              "Make an image file of this size: 512M, 4G, …\n"
              "Only for a PATH that does not exist yet.");
DEFINE_string(label, "", "Name the volume, in at most 63 bytes.");
DEFINE_bool(force, false,
            "Overwrite what the device or image contains.\n"
            "One that is mounted or in use is refused nevertheless.");
DEFINE_string(prealloc, "",
              "full writes every block once, so that no later\n"
              "sync has to wait for the host to allocate it: the\n"
              "default for image files. none does not: the\n"
              "default for block devices.");

namespace diofs {

namespace {

constexpr char kName[] = "mkfs";
constexpr size_t kMaxLabelBytes = 63;

// What the command line asks for and what PATH turned out to be. A plain
// value.
struct MkfsRequest {
  std::string path;
  uint64_t size_bytes = 0;  // 0: not given
  bool exists = false;
  bool is_block_device = false;

  bool write_every_block() const {
    return FLAGS_prealloc.empty() ? !is_block_device : FLAGS_prealloc == "full";
  }
};

int Refuse(const std::string& message) {
  Complain(kName, Printable(message));
  return kExitFailure;
}

int Refuse(const std::string& path, const Result& result) {
  Complain(kName, Explain(path, result));
  return kExitFailure;
}

// False, with a line on standard error, for values no volume can have.
bool CheckFlags(MkfsRequest* request) {
  std::string error;
  if (!FLAGS_size.empty() && !ParseSize(FLAGS_size, &request->size_bytes)) {
    error = "--size=" + FLAGS_size + " is not a size such as 512M or 4G";
  } else if (!FLAGS_size.empty() && request->size_bytes < kMinVolumeBytes) {
    error = "--size=" + FLAGS_size + " is too small; a volume takes at least " +
            HumanBytes(kMinVolumeBytes);
  } else if (!IsAligned(request->size_bytes, kBlockBytes)) {
    error = "--size=" + FLAGS_size + " is not a multiple of 4096 bytes";
  } else if (!FLAGS_prealloc.empty() && FLAGS_prealloc != "full" &&
             FLAGS_prealloc != "none") {
    error = "--prealloc=" + FLAGS_prealloc + " is neither full nor none";
  } else if (FLAGS_label.size() > kMaxLabelBytes ||
             FLAGS_label.find('\0') != std::string::npos) {
    error = "--label is longer than 63 bytes";
  }
  if (error.empty()) return true;
  Complain(kName, Printable(error) + "; diofs mkfs --help");
  return false;
}

// Looks at PATH. An error, ready to be shown, where it cannot be the target.
std::string CheckTarget(MkfsRequest* request) {
  struct stat info = {};
  if (lstat(request->path.c_str(), &info) != 0 && errno == ENOENT) {
    if (request->size_bytes > 0) return std::string();
    return request->path +
           ": there is no such file or device; to make an image file of it, "
           "give --size=4G";
  }
  if (stat(request->path.c_str(), &info) != 0) {
    return Explain(request->path, Result::FromErrno(request->path));
  }
  request->exists = true;
  request->is_block_device = S_ISBLK(info.st_mode);
  if (!request->is_block_device && !S_ISREG(info.st_mode)) {
    return request->path + ": is neither a block device nor a regular file";
  }
  if (request->size_bytes > 0) {
    return request->path +
           ": exists, and --size is for new image files; leave it out to use "
           "the whole of what is there, or choose another path";
  }
  const std::string user = FindUser(request->path);
  if (user.empty()) return std::string();
  return request->path + ": " + user + "; release it first";
}

// Opens what is there and sees to it that nothing of value is lost. `*content`
// says what --force will overwrite.
Result OpenExisting(const MkfsRequest& request,
                    std::unique_ptr<BlockDevice>* device,
                    std::string* content) {
  OpenDeviceOptions options;
  options.lock_wait_ms = LockWaitMillis();
  Result result = OpenBlockDevice(request.path, options, device);
  if (!result.ok()) return result;
  const uint64_t bytes = (*device)->size_bytes();
  if (bytes < kMinVolumeBytes) {
    return Result::Error(
        EINVAL, request.path + ": is too small with " + HumanBytes(bytes) +
                    "; a volume takes at least " + HumanBytes(kMinVolumeBytes));
  }
  if ((*device)->geometry().logical_block_bytes > kMaxLogicalBlockBytes) {
    return Result::Error(EINVAL, request.path +
                                     ": has logical blocks above 4096 bytes; " +
                                     "format the device with smaller ones");
  }
  result = FindContent(device->get(), request.path, content);
  if (!result.ok() || content->empty() || FLAGS_force) return result;
  return Result::Error(EINVAL, request.path + ": " + *content +
                                   "; if it may be lost, give --force");
}

Result OpenNew(const MkfsRequest& request, InterruptGuard* guard,
               std::unique_ptr<BlockDevice>* device) {
  Result result = guard->MakeFile([&] {
    return CreateImageFile(request.path, request.size_bytes,
                           request.write_every_block());
  });
  if (!result.ok()) return result;
  OpenDeviceOptions options;
  options.lock_wait_ms = LockWaitMillis();
  return OpenBlockDevice(request.path, options, device);
}

Result FormatDevice(const MkfsRequest& request, BlockDevice* device) {
  Progress progress("formatting " + Printable(request.path));
  FormatOptions options;
  options.write_every_block = request.write_every_block();
  options.label = FLAGS_label;
  options.progress = [&progress](uint64_t done, uint64_t total) {
    progress.Update(done, total);
  };
  return Volume::Format(device, options);
}

int Report(const MkfsRequest& request, BlockDevice* device) {
  Superblock superblock;
  const Result result = LoadSuperblock(device, &superblock);
  if (!result.ok()) return Refuse(request.path, result);
  if (FLAGS_json) {
    Json json = {{"path", request.path}};
    json.update(SuperblockJson(superblock));
    return Print(kName, JsonText(json));
  }
  std::string text = Printable(request.path) + ": " +
                     ShowBytes(superblock.device_bytes) + " DioFS volume";
  if (!superblock.label.empty()) {
    text += " \"" + Printable(superblock.label) + "\"";
  }
  text += ", uuid " + UuidToString(superblock.uuid) + ", " +
          (request.write_every_block() ? "every block written"
                                       : "blocks not preallocated") +
          "\n";
  return Print(kName, text);
}

int Run(const std::vector<std::string>& arguments) {
  MkfsRequest request;
  request.path = arguments[0];
  if (!CheckFlags(&request)) return kExitUsage;
  const std::string error = CheckTarget(&request);
  if (!error.empty()) return Refuse(error);

  InterruptGuard guard(kName, request.path);
  std::unique_ptr<BlockDevice> device;
  std::string content;
  Result result = request.exists ? OpenExisting(request, &device, &content)
                                 : OpenNew(request, &guard, &device);
  if (!result.ok()) return Refuse(request.path, result);
  guard.StartFormatting();
  if (!content.empty()) result = WipeContent(device.get(), request.path);
  if (result.ok()) result = FormatDevice(request, device.get());
  if (!result.ok()) return Refuse(request.path, result);
  guard.Keep();
  return Report(request, device.get());
}

}  // namespace

const Command& MkfsCommand() {
  static const Command command = {
      kName,
      "make a volume of a block device or image file",
      "PATH",
      1,
      1,
      "PATH is a block device, an image file to be made (with --size), or an\n"
      "image file that is there and blank. What contains anything is refused\n"
      "unless --force is given: a file system, a partition table, a volume of\n"
      "DioFS, or bytes of unknown origin in the first mebibyte or the last 64\n"
      "KiB. What is mounted or open elsewhere is always refused. Interrupted, "
      "it\n"
      "removes an image it was making; a device is left without a volume.\n",
      {{"size", "SIZE"},
       {"label", "TEXT"},
       {"force", nullptr},
       {"prealloc", "full|none"},
       {"wait", "SECONDS"},
       {"json", nullptr},
       {"bytes", nullptr}},
      {"diofs mkfs --size=4G /var/lib/db.img",
       "diofs mkfs --label=orders /dev/nvme0n1",
       "diofs mkfs --force /dev/nvme0n1p3"},
      kExitCodes,
      kExitUsage,
      Run};
  return command;
}

}  // namespace diofs
