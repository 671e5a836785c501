#include "env/repair.h"

#include <cerrno>
#include <string_view>
#include <utility>

#include "dio/buffer_pool.h"
#include "env/file_kind.h"
#include "env/superblock.h"
#include "env/volume.h"

namespace diofs {
namespace {

// Which copies do not say what the newest one says. EUCLEAN where two of the
// same epoch disagree, for nothing tells which of them is right.
Result FindBadCopies(BlockDevice* device, Superblock* superblock,
                     std::string* bad) {
  SuperblockScan scan;
  if (Result r = LoadSuperblock(device, superblock, &scan); !r.ok()) return r;
  const std::string expected = superblock->Encode();
  AlignedBuffer buffer = BufferPool::Get(kSuperblockBytes);
  if (!buffer) return Result::Error(ENOMEM, "superblock");
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    const bool current =
        scan.copies[i].ok() && scan.epochs[i] == superblock->epoch;
    if (current) {
      Result result =
          device->Read(SuperblockOffset(superblock->device_bytes, i),
                       buffer.data(), kSuperblockBytes, kIoClassSuperblock);
      if (!result.ok()) return result;
      if (std::string_view(buffer.data(), kSuperblockBytes) == expected) {
        continue;
      }
      return Result::Error(EUCLEAN, "superblock copies of one epoch disagree");
    }
    *bad += (bad->empty() ? "" : ", ") + std::to_string(i + 1);
  }
  return Result::Ok();
}

Result RepairSuperblocks(const OpenForRepair& open, bool* dirty,
                         std::vector<std::string>* done) {
  std::unique_ptr<BlockDevice> device;
  if (Result r = open(&device); !r.ok()) return r;
  Superblock superblock;
  std::string bad;
  if (Result r = FindBadCopies(device.get(), &superblock, &bad); !r.ok()) {
    return r;
  }
  if (Result r = CheckMayWrite(superblock); !r.ok()) return r;
  *dirty = superblock.dirty();
  if (bad.empty()) return Result::Ok();
  if (Result r = StoreSuperblock(device.get(), &superblock); !r.ok()) return r;
  done->push_back("rewrote superblock copies " + bad + " of 4");
  return Result::Ok();
}

// Replays the journal by a mount, which ends cleanly.
Result Remount(const OpenForRepair& open, bool lost_cache) {
  std::unique_ptr<BlockDevice> device;
  if (Result r = open(&device); !r.ok()) return r;
  MountOptions options;
  options.lost_cache = lost_cache;
  std::shared_ptr<Volume> volume;
  if (Result r = Volume::Mount(std::move(device), options, &volume); !r.ok()) {
    return r;
  }
  return volume->Unmount();
}

}  // namespace

Result Repair(const OpenForRepair& open, bool lost_cache,
              std::vector<std::string>* done) {
  done->clear();
  bool dirty = false;
  Result result = RepairSuperblocks(open, &dirty, done);
  // Damage that nothing can be done about is for the next check to tell.
  if (result.error() == EUCLEAN) return Result::Ok();
  if (!result.ok() || !dirty) return result;
  result = Remount(open, /*lost_cache=*/false);
  if (result.ok()) {
    done->push_back("replayed the journal and unmounted");
    return result;
  }
  if (result.error() != EUCLEAN || !lost_cache) {
    return result.error() == EUCLEAN ? Result::Ok() : std::move(result);
  }
  result = Remount(open, /*lost_cache=*/true);
  if (result.ok()) {
    done->push_back(
        "took the end of the journal for torn: the changes of names and sizes "
        "behind it are gone");
  }
  return result.error() == EUCLEAN ? Result::Ok() : std::move(result);
}

}  // namespace diofs
