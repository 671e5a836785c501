#include "env/repair.h"

#include <cerrno>
#include <utility>

#include "env/superblock.h"
#include "env/volume.h"

namespace diofs {
namespace {

Result RepairSuperblocks(const OpenForRepair& open, bool* dirty,
                         std::vector<std::string>* done) {
  std::unique_ptr<BlockDevice> device;
  if (Result r = open(&device); !r.ok()) return r;
  Superblock superblock;
  SuperblockScan scan;
  if (Result r = LoadSuperblock(device.get(), &superblock, &scan); !r.ok()) {
    return r;
  }
  std::string bad;
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    // Nothing tells which of them is right.
    if (scan.differs[i]) {
      return Result::Error(EUCLEAN, "superblock copies of one epoch disagree");
    }
    if (scan.copies[i].ok() && scan.epochs[i] == superblock.epoch) continue;
    bad += (bad.empty() ? "" : ", ") + std::to_string(i + 1);
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
