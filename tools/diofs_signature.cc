#include "tools/diofs_signature.h"

#include <blkid/blkid.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>

#include "dio/align.h"
#include "dio/buffer_pool.h"
#include "env/file_kind.h"
#include "env/superblock.h"
#include "tools/diofs_util.h"

namespace diofs {

namespace {

// A blank device has nothing but zeros in its first and last bytes, as far as
// this.
constexpr uint64_t kBlankHeadBytes = 1 << 20;
constexpr uint64_t kBlankTailBytes = 64 << 10;
// Wiping goes further than looking: ZFS keeps two of its labels in the last
// half mebibyte.
constexpr uint64_t kWipeBytes = 1 << 20;
// No device has more; a probe that finds the same thing for ever ends here.
constexpr size_t kMaxSignatures = 64;

struct ProbeDeleter {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, ProbeDeleter>;

// A value of the present result; empty where it has none.
std::string ValueOf(const Probe& probe, const char* name) {
  const char* data = nullptr;
  size_t bytes = 0;
  if (blkid_probe_lookup_value(probe.get(), name, &data, &bytes) != 0 ||
      data == nullptr) {
    return std::string();
  }
  return std::string(data, strnlen(data, bytes));
}

std::string UsageName(const std::string& usage) {
  if (usage == "filesystem") return "a file system";
  if (usage == "raid") return "a member of a RAID or volume group";
  if (usage == "crypto") return "an encrypted volume";
  return "data of another program";
}

Signature Describe(const Probe& probe) {
  Signature signature;
  std::string offset = ValueOf(probe, "SBMAGIC_OFFSET");
  const std::string table = ValueOf(probe, "PTTYPE");
  if (!table.empty()) {
    signature.description = "a partition table (" + table + ")";
    offset = ValueOf(probe, "PTMAGIC_OFFSET");
  } else {
    const std::string label = ValueOf(probe, "LABEL");
    signature.description =
        UsageName(ValueOf(probe, "USAGE")) + " (" + ValueOf(probe, "TYPE") +
        (label.empty() ? "" : ", label \"" + Printable(label) + "\"") + ")";
  }
  signature.offset = std::strtoull(offset.c_str(), nullptr, 10);
  return signature;
}

Result OpenProbe(const std::string& path, Probe* probe) {
  errno = 0;
  probe->reset(blkid_new_probe_from_filename(path.c_str()));
  if (*probe == nullptr) return Result::FromErrno(path + ": libblkid");
  blkid_probe_enable_superblocks(probe->get(), 1);
  blkid_probe_set_superblocks_flags(
      probe->get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE |
                        BLKID_SUBLKS_LABEL | BLKID_SUBLKS_MAGIC |
                        BLKID_SUBLKS_BADCSUM);
  blkid_probe_enable_partitions(probe->get(), 1);
  blkid_probe_set_partitions_flags(probe->get(), BLKID_PARTS_MAGIC);
  return Result::Ok();
}

bool AllZero(const char* data, size_t bytes) {
  return std::all_of(data, data + bytes, [](char c) { return c == 0; });
}

// Whether [offset, offset + bytes) of the device is zero.
Result IsBlank(BlockDevice* device, uint64_t offset, uint64_t bytes,
               bool* blank) {
  AlignedBuffer buffer = BufferPool::Get(bytes);
  if (!buffer) return Result::Error(ENOMEM, "buffer");
  Result result = device->Read(offset, buffer.data(), bytes, kIoClassFormat);
  if (result.ok()) *blank = AllZero(buffer.data(), bytes);
  return result;
}

// Zeros [offset, offset + bytes), which is cut at the end of the device.
Result Zero(BlockDevice* device, uint64_t offset, uint64_t bytes) {
  const uint64_t end = AlignDown(device->size_bytes(), kBlockBytes);
  if (offset >= end) return Result::Ok();
  bytes = std::min(bytes, end - offset);
  AlignedBuffer buffer = BufferPool::Get(bytes);
  if (!buffer) return Result::Error(ENOMEM, "buffer");
  std::memset(buffer.data(), 0, bytes);
  return device->Write(offset, buffer.data(), bytes, kIoClassFormat);
}

// An existing volume of ours, in whatever state.
Result FindVolume(BlockDevice* device, std::string* content) {
  Superblock superblock;
  SuperblockScan scan;
  const Result result = LoadSuperblock(device, &superblock, &scan);
  if (result.ok()) {
    *content = "contains a DioFS volume";
    if (!superblock.label.empty()) {
      *content += " (label \"" + Printable(superblock.label) + "\")";
    }
    return Result::Ok();
  }
  if (scan.magic_seen) {
    *content = "contains a DioFS volume that this version cannot read";
    return Result::Ok();
  }
  return result.error() == ENODATA ? Result::Ok() : result;
}

// A field of mountinfo: blanks and backslashes are written as \040.
std::string DecodeOctal(const std::string& field) {
  std::string text;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      text += static_cast<char>(
          std::strtoul(field.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      text += field[i];
    }
  }
  return text;
}

// Where the device major:minor is mounted, by /proc/self/mountinfo:
//   36 35 98:0 /root /mnt rw,noatime …
std::string MountPoint(dev_t device) {
  const std::string wanted =
      std::to_string(major(device)) + ":" + std::to_string(minor(device));
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    std::istringstream fields(line);
    std::string id, parent, number, root, point;
    fields >> id >> parent >> number >> root >> point;
    if (number == wanted) return DecodeOctal(point);
  }
  return std::string();
}

// The loop device that serves the image `info`: its driver takes no lock that
// anybody could see.
std::string LoopDeviceOf(const struct stat& info) {
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/block", error)) {
    std::ifstream file(entry.path() / "loop" / "backing_file");
    std::string backing;
    struct stat other;
    if (std::getline(file, backing) && stat(backing.c_str(), &other) == 0 &&
        other.st_dev == info.st_dev && other.st_ino == info.st_ino) {
      return "/dev/" + entry.path().filename().string();
    }
  }
  return std::string();
}

}  // namespace

Result FindSignatures(const std::string& path,
                      std::vector<Signature>* signatures) {
  signatures->clear();
  Probe probe;
  if (Result r = OpenProbe(path, &probe); !r.ok()) return r;
  int found = blkid_do_probe(probe.get());
  while (found == 0 && signatures->size() < kMaxSignatures) {
    signatures->push_back(Describe(probe));
    found = blkid_do_probe(probe.get());
  }
  if (found < 0) return Result::Error(EIO, path + ": libblkid cannot read it");
  return Result::Ok();
}

Result FindContent(BlockDevice* device, const std::string& path,
                   std::string* content) {
  content->clear();
  Result result = FindVolume(device, content);
  if (!result.ok() || !content->empty()) return result;
  std::vector<Signature> signatures;
  result = FindSignatures(path, &signatures);
  if (!result.ok()) return result;
  if (!signatures.empty()) {
    *content = "contains " + signatures[0].description;
    for (size_t i = 1; i < signatures.size(); ++i) {
      *content += " and " + signatures[i].description;
    }
    return Result::Ok();
  }
  const uint64_t end = AlignDown(device->size_bytes(), kBlockBytes);
  const uint64_t head = std::min(end, kBlankHeadBytes);
  const uint64_t tail = std::min(end, kBlankTailBytes);
  bool head_blank = false;
  bool tail_blank = false;
  result = IsBlank(device, 0, head, &head_blank);
  if (result.ok()) result = IsBlank(device, end - tail, tail, &tail_blank);
  if (result.ok() && !(head_blank && tail_blank)) {
    *content = "contains data of unknown origin";
  }
  return result;
}

Result WipeContent(BlockDevice* device, const std::string& path) {
  const uint64_t end = AlignDown(device->size_bytes(), kBlockBytes);
  Result result = Zero(device, 0, kWipeBytes);
  if (result.ok()) {
    result = Zero(device, end - std::min(end, kWipeBytes), kWipeBytes);
  }
  for (uint32_t i = 0; result.ok() && i < kSuperblockCopies; ++i) {
    result = Zero(device, SuperblockOffset(end, i), kSuperblockBytes);
  }
  // One may have hidden another.
  for (size_t round = 0; result.ok() && round < kMaxSignatures; ++round) {
    result = device->Flush();
    std::vector<Signature> signatures;
    if (result.ok()) result = FindSignatures(path, &signatures);
    if (!result.ok() || signatures.empty()) break;
    for (const Signature& signature : signatures) {
      if (!result.ok()) break;
      result =
          Zero(device, AlignDown(signature.offset, kBlockBytes), kBlockBytes);
    }
  }
  return result;
}

std::string FindUser(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return std::string();
  if (S_ISBLK(info.st_mode)) {
    const std::string point = MountPoint(info.st_rdev);
    return point.empty() ? point : "is mounted on " + point;
  }
  const std::string loop = LoopDeviceOf(info);
  return loop.empty() ? loop : "is the file behind " + loop;
}

}  // namespace diofs
