#include "dio/geometry.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "dio/align.h"
#include "dio/bio.h"
#include "dio/buffer_pool.h"

namespace diofs {
namespace {

constexpr uint32_t kMinBlockBytes = 512;
constexpr uint32_t kMaxBlockBytes = 64 * 1024;
constexpr uint32_t kMaxBioBytes = 512 * 1024;
// What a segment may be counted as: a page, wherever it lies.
constexpr uint64_t kSegmentBytes = 4096;

// The attributes of a block device's queue in sysfs. A partition has none of
// its own; its disk is the folder above.
class QueueAttributes {
 public:
  explicit QueueAttributes(dev_t device) {
    const std::string folder = "/sys/dev/block/" +
                               std::to_string(major(device)) + ":" +
                               std::to_string(minor(device));
    for (const char* queue : {"/queue/", "/../queue/"}) {
      if (std::ifstream(folder + queue + "logical_block_size").good()) {
        folder_ = folder + queue;
        return;
      }
    }
  }

  // `otherwise` where the attribute is not there or not a number.
  uint64_t Number(const char* name, uint64_t otherwise) const {
    uint64_t value = 0;
    return std::ifstream(folder_ + name) >> value ? value : otherwise;
  }

  std::string Line(const char* name) const {
    std::string line;
    std::ifstream file(folder_ + name);
    std::getline(file, line);
    return line;
  }

 private:
  std::string folder_ = "/dev/null/";  // has no attributes
};

// What the kernel demands of direct I/O on `fd`; leaves `geometry` as it is
// where it does not tell. EOPNOTSUPP where it tells that there is none.
Result ProbeAlignment(int fd, Geometry* geometry) {
#ifdef STATX_DIOALIGN
  struct statx info = {};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0) {
    if (info.stx_dio_offset_align == 0 || info.stx_dio_mem_align == 0) {
      return Result::Error(EOPNOTSUPP, "does not support direct I/O");
    }
    geometry->memory_align_bytes = info.stx_dio_mem_align;
    geometry->offset_align_bytes = info.stx_dio_offset_align;
  }
#else
  (void)fd;
  (void)geometry;
#endif
  return Result::Ok();
}

// Reads one block of `bytes`, the second of the device; -errno or what came.
int64_t TryRead(int fd, uint32_t bytes, int flags) {
  AlignedBuffer buffer = BufferPool::Get(2 * size_t{bytes});
  if (!buffer) return -ENOMEM;
  // No better aligned than it has to be.
  const iovec segment = {buffer.data() + bytes, bytes};
  const ssize_t result = preadv2(fd, &segment, 1, bytes, flags);
  return result < 0 ? -errno : result;
}

// Whether a request can be issued without blocking. A device that would have to
// wait just now (EAGAIN) can.
bool ProbeNowait(int fd, const Geometry& geometry) {
  const int64_t result = TryRead(fd, geometry.logical_block_bytes, RWF_NOWAIT);
  return result >= 0 || result == -EAGAIN;
}

Result ProbeBlockDevice(int fd, dev_t device, Geometry* geometry) {
  int logical = 0;
  unsigned physical = 0;
  if (ioctl(fd, BLKGETSIZE64, &geometry->device_bytes) != 0 ||
      ioctl(fd, BLKSSZGET, &logical) != 0 ||
      ioctl(fd, BLKPBSZGET, &physical) != 0) {
    return Result::FromErrno("block device geometry");
  }
  geometry->is_block_device = true;
  geometry->logical_block_bytes = static_cast<uint32_t>(logical);
  geometry->physical_block_bytes = physical;
  geometry->memory_align_bytes = geometry->logical_block_bytes;
  geometry->offset_align_bytes = geometry->logical_block_bytes;
  Result result = ProbeAlignment(fd, geometry);
  if (!result.ok()) return result;

  const QueueAttributes queue(device);
  const uint64_t segments =
      std::max<uint64_t>(queue.Number("max_segments", 64), 1);
  const uint64_t bytes = std::min<uint64_t>(
      {queue.Number("max_sectors_kb", kMaxBioBytes / 1024) * 1024,
       segments * kSegmentBytes, kMaxBioBytes});
  geometry->max_bio_segments = static_cast<uint32_t>(
      std::min<uint64_t>(segments, Geometry().max_bio_segments));
  geometry->max_bio_bytes = static_cast<uint32_t>(bytes);
  geometry->write_cache = queue.Line("write_cache") != "write through";
  geometry->fua = queue.Number("fua", 0) != 0;
  geometry->discard = queue.Number("discard_max_bytes", 0) != 0;
  geometry->rotational = queue.Number("rotational", 0) != 0;
  return Result::Ok();
}

// A file on a host file system, whose cache and allocation lie below it.
Result ProbeImage(int fd, const struct stat& info, Geometry* geometry) {
  geometry->device_bytes = static_cast<uint64_t>(info.st_size);
  // A kernel before 6.1, or a file system that does not tell: what it takes.
  const uint32_t taken =
      TryRead(fd, kMinBlockBytes, 0) == -EINVAL ? 4096 : kMinBlockBytes;
  geometry->memory_align_bytes = taken;
  geometry->offset_align_bytes = taken;
  Result result = ProbeAlignment(fd, geometry);
  if (!result.ok()) return result;
  geometry->logical_block_bytes =
      std::max(geometry->offset_align_bytes, kMinBlockBytes);
  // Smaller, the host would read the rest of a page or sector first.
  geometry->physical_block_bytes = 4096;
  geometry->discard = true;
  return Result::Ok();
}

// Brings what devices report into what Validate() asks for.
void Normalize(Geometry* geometry) {
  const uint32_t logical = geometry->logical_block_bytes;
  uint32_t& physical = geometry->physical_block_bytes;
  physical = std::max(physical, logical);
  if (!IsPowerOfTwo(physical) || physical > kMaxBlockBytes) {
    physical = std::max(4096U, logical);
  }
  if (!IsPowerOfTwo(logical)) return;
  geometry->memory_align_bytes =
      std::min(geometry->memory_align_bytes, logical);
  geometry->offset_align_bytes = logical;
  geometry->device_bytes = AlignDown(geometry->device_bytes, logical);
  geometry->max_bio_bytes = static_cast<uint32_t>(std::max(
      AlignDown(geometry->max_bio_bytes, physical), uint64_t{physical}));
}

bool IsBlockSize(uint32_t bytes) {
  return IsPowerOfTwo(bytes) && bytes >= kMinBlockBytes &&
         bytes <= kMaxBlockBytes;
}

std::string HumanBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B",   "KiB", "MiB", "GiB",
                                           "TiB", "PiB", "EiB"};
  size_t unit = 0;
  uint64_t tenths = 0;
  for (; bytes >= 1024; bytes /= 1024) {
    tenths = bytes % 1024 * 10 / 1024;
    ++unit;
  }
  std::string text = std::to_string(bytes);
  if (unit > 0) text += "." + std::to_string(tenths);
  return text + " " + kUnits[unit];
}

}  // namespace

Result Geometry::Probe(int fd, Geometry* geometry) {
  *geometry = Geometry();
  struct stat info = {};
  if (fstat(fd, &info) != 0) return Result::FromErrno("fstat");
  Result result;
  if (S_ISBLK(info.st_mode)) {
    result = ProbeBlockDevice(fd, info.st_rdev, geometry);
  } else if (S_ISREG(info.st_mode)) {
    result = ProbeImage(fd, info, geometry);
  } else {
    result = Result::Error(EINVAL, "neither a block device nor a regular file");
  }
  if (!result.ok()) return result;
  Normalize(geometry);
  result = geometry->Validate();
  if (!result.ok()) return result;
  geometry->nowait = ProbeNowait(fd, *geometry);
  return Result::Ok();
}

Result Geometry::Validate() const {
  const auto invalid = [](const std::string& why) {
    return Result::Error(EINVAL, why);
  };
  if (!IsBlockSize(logical_block_bytes)) {
    return invalid("a logical block of " + std::to_string(logical_block_bytes) +
                   " bytes");
  }
  if (!IsBlockSize(physical_block_bytes) ||
      physical_block_bytes < logical_block_bytes) {
    return invalid("a physical block of " +
                   std::to_string(physical_block_bytes) + " bytes");
  }
  if (!IsPowerOfTwo(memory_align_bytes) ||
      memory_align_bytes > logical_block_bytes) {
    return invalid("a memory alignment of " +
                   std::to_string(memory_align_bytes) + " bytes");
  }
  if (!IsPowerOfTwo(offset_align_bytes) ||
      offset_align_bytes > logical_block_bytes) {
    return invalid("an offset alignment of " +
                   std::to_string(offset_align_bytes) + " bytes");
  }
  if (max_bio_bytes < logical_block_bytes ||
      !IsAligned(max_bio_bytes, logical_block_bytes) || max_bio_segments < 1) {
    return invalid("requests of at most " + std::to_string(max_bio_bytes) +
                   " bytes in " + std::to_string(max_bio_segments) +
                   " segments");
  }
  if (device_bytes < logical_block_bytes ||
      !IsAligned(device_bytes, logical_block_bytes)) {
    return invalid("a size of " + std::to_string(device_bytes) + " bytes");
  }
  return Result::Ok();
}

bool Geometry::Admits(uint64_t offset, const iovec* segments, int count) const {
  if (!IsAligned(offset, offset_align_bytes)) return false;
  for (int i = 0; i < count; ++i) {
    const iovec& segment = segments[i];
    if (segment.iov_len == 0) continue;
    if (!IsAligned(segment.iov_base, memory_align_bytes) ||
        !IsAligned(segment.iov_len, offset_align_bytes)) {
      return false;
    }
  }
  return true;
}

uint32_t Geometry::MaxBioBytesAt(uint64_t offset) const {
  const auto inside =
      static_cast<uint32_t>(offset & (physical_block_bytes - 1));
  return max_bio_bytes > physical_block_bytes ? max_bio_bytes - inside
                                              : max_bio_bytes;
}

std::string Geometry::ToString() const {
  const auto has = [](bool value, const char* what) {
    return std::string(value ? ", " : ", no ") + what;
  };
  return HumanBytes(device_bytes) +
         (is_block_device ? " block device, " : " image file, ") +
         std::to_string(logical_block_bytes) + "/" +
         std::to_string(physical_block_bytes) + "-byte blocks, requests of " +
         HumanBytes(max_bio_bytes) + has(write_cache, "write cache") +
         has(fua, "FUA") + has(discard, "discard") + has(nowait, "NOWAIT") +
         (rotational ? ", rotational" : "");
}

}  // namespace diofs
