#include "env/fsck.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <string_view>
#include <utility>

#include "env/checksum_table.h"
#include "env/journal.h"
#include "env/log_scan.h"
#include "env/metadata_op.h"
#include "env/namespace.h"
#include "env/superblock.h"

namespace diofs {
namespace {

// More lines of one report help nobody.
constexpr size_t kMaxProblems = 1000;

// Who owns a run of blocks: an inode, or the volume itself as number 0.
struct OwnedRun {
  Extent extent;
  uint64_t ino = 0;
};

std::string ShowRun(Extent extent) {
  return "blocks " + std::to_string(extent.start) + "+" +
         std::to_string(extent.count);
}

// Reads a volume by way of its journal alone, without the mount, and holds what
// it finds against the rules. A stack object of Fsck.
class Checker {
 public:
  Checker(BlockDevice* device, FsckReport* report)
      : device_(device), report_(report) {}

  // Each step goes on only where the one before left something to look at;
  // false where it did not.
  Result CheckSuperblocks(bool* usable);
  Result ReplayJournal(bool* usable);
  void CheckNames();
  // Returns whether every block belongs to one file, inside the volume.
  bool CheckExtents();
  // Every frame, from the first one on.
  void CheckLogs();
  void CheckMount(const Volume& volume, const VolumeUsage& mounted);

  void Problem(const std::string& line);
  const VolumeUsage& usage() const { return usage_; }
  // Says how many problems did not fit the report.
  void Finish();

 private:
  void WalkTree();
  void CheckInode(const Inode& inode);
  void CheckFile(const Inode& inode, uint64_t names);
  bool CheckOverlaps();
  std::string Owner(uint64_t ino) const;

  BlockDevice* const device_;
  FsckReport* const report_;
  Superblock superblock_;
  Namespace namespace_;
  // Found by walking down from the root: a path of each inode, and how many
  // names lead to it.
  std::map<uint64_t, std::string> paths_;
  std::map<uint64_t, uint64_t> names_;
  std::vector<OwnedRun> runs_;
  VolumeUsage usage_;
  size_t dropped_problems_ = 0;
};

void Checker::Problem(const std::string& line) {
  if (report_->problems.size() < kMaxProblems) {
    report_->problems.push_back(line);
  } else {
    ++dropped_problems_;
  }
}

void Checker::Finish() {
  if (dropped_problems_ == 0) return;
  report_->problems.push_back("and " + std::to_string(dropped_problems_) +
                              " more");
}

std::string Checker::Owner(uint64_t ino) const {
  if (ino == 0) return "superblocks and journal";
  const auto path = paths_.find(ino);
  return "inode " + std::to_string(ino) +
         (path == paths_.end() ? "" : " (" + path->second + ")");
}

Result Checker::CheckSuperblocks(bool* usable) {
  SuperblockScan scan;
  Result result = LoadSuperblock(device_, &superblock_, &scan);
  *usable = result.ok();
  if (result.error() == EUCLEAN) {
    Problem(result.context());
    return Result::Ok();
  }
  if (!result.ok()) return result;
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    const std::string copy = "superblock copy " + std::to_string(i + 1);
    if (!scan.copies[i].ok()) {
      Problem(copy + " of 4: " + scan.copies[i].context());
    } else if (scan.epochs[i] != superblock_.epoch) {
      report_->notes.push_back(copy + " of 4 is of epoch " +
                               std::to_string(scan.epochs[i]) + ", not " +
                               std::to_string(superblock_.epoch) +
                               ": an update of it was cut short");
    } else if (scan.differs[i]) {
      Problem(copy + " of 4 differs from another one of the same epoch");
    }
  }
  if (superblock_.dirty()) {
    report_->notes.push_back("not unmounted cleanly; last mounted by process " +
                             std::to_string(superblock_.owner_pid));
  }
  return Result::Ok();
}

Result Checker::ReplayJournal(bool* usable) {
  Uuid boot_id;
  if (Result r = CurrentBootId(&boot_id); !r.ok()) return r;
  Journal::RecoveryInput input = RecoveryInputOf(superblock_);
  input.same_boot = superblock_.boot_id == boot_id;
  const auto apply = [this](std::string_view operations) {
    return namespace_.ApplyAll(operations);
  };
  Journal journal(device_, JournalLayoutOf(superblock_));
  Journal::RecoveryReport recovery;
  Result result = journal.Recover(input, apply, &recovery);
  *usable = result.ok();
  if (!result.ok() && result.error() != EUCLEAN) return result;
  if (!result.ok()) Problem("journal: " + result.context());
  if (!recovery.corruption.empty()) Problem("journal: " + recovery.corruption);
  return Result::Ok();
}

void Checker::CheckNames() {
  WalkTree();
  namespace_.ForEach([this](const InodePtr& inode) { CheckInode(*inode); });
}

void Checker::WalkTree() {
  paths_[kRootIno] = "/";
  std::vector<uint64_t> directories = {kRootIno};
  for (size_t i = 0; i < directories.size(); ++i) {
    const InodePtr directory = namespace_.Find(directories[i]);
    if (directory == nullptr) {
      Problem("there is no root directory");
      return;
    }
    const std::string& path = paths_[directory->ino];
    const std::string prefix = path == "/" ? path : path + "/";
    for (const auto& [name, ino] : directory->entries) {
      const std::string entry = prefix + name;
      const InodePtr inode = namespace_.Find(ino);
      if (inode == nullptr) {
        Problem(entry + ": inode " + std::to_string(ino) + " does not exist");
        continue;
      }
      ++names_[ino];
      const bool first = paths_.emplace(ino, entry).second;
      if (inode->is_directory && first) {
        directories.push_back(ino);
        if (inode->parent != directory->ino) {
          Problem(entry + ": takes inode " + std::to_string(inode->parent) +
                  " for its parent");
        }
      }
    }
  }
}

void Checker::CheckInode(const Inode& inode) {
  const auto found = names_.find(inode.ino);
  const uint64_t names = found == names_.end() ? 0 : found->second;
  const std::string owner = Owner(inode.ino);
  if (inode.ino >= namespace_.next_ino()) {
    Problem(owner + ": its number is to be given again");
  }
  if (!inode.is_directory) {
    CheckFile(inode, names);
    return;
  }
  ++report_->directories;
  if (names != (inode.ino == kRootIno ? 0 : 1)) {
    Problem(owner + ": a directory with " + std::to_string(names) + " names");
  }
  if (!inode.map()->extents().empty() || inode.visible_bytes != 0) {
    Problem(owner + ": a directory with data");
  }
}

void Checker::CheckFile(const Inode& inode, uint64_t names) {
  ++report_->files;
  const std::string owner = Owner(inode.ino);
  if (names == 0) Problem(owner + ": has no name");
  if (names != inode.link_count) {
    Problem(owner + ": counts " + std::to_string(inode.link_count) +
            " links and has " + std::to_string(names) + " names");
  }
  if (!inode.entries.empty()) Problem(owner + ": a file with entries");
  uint64_t blocks = 0;
  const std::shared_ptr<const ExtentMap> map = inode.map();
  for (const Extent& extent : map->extents()) {
    runs_.push_back({extent, inode.ino});
    blocks += extent.count;
    ++report_->extents;
  }
  if (inode.log != nullptr) return;
  // Rounded down, for blocks * kBlockBytes might not fit.
  if (inode.visible_bytes > 0 &&
      (inode.visible_bytes - 1) / kBlockBytes >= blocks) {
    Problem(owner + ": " + std::to_string(inode.visible_bytes) +
            " bytes long with " + std::to_string(blocks) + " blocks allocated");
    return;
  }
  const uint64_t more = blocks - BlocksFor(inode.visible_bytes);
  if (more != 0 && more != ChecksumTable::BlocksFor(inode.visible_bytes)) {
    Problem(owner + ": " + std::to_string(more) +
            " blocks more than content and checksums need");
  }
}

void Checker::CheckLogs() {
  namespace_.ForEach([this](const InodePtr& inode) {
    if (inode->log == nullptr) return;
    LogScan scan;
    const Result result = ScanLog(device_, *inode, /*from_start=*/true, &scan);
    if (!result.ok()) {
      Problem(Owner(inode->ino) + ": log cannot be read: " + result.ToString());
    } else if (!scan.damage.empty()) {
      Problem(Owner(inode->ino) + ": " + scan.damage);
    }
  });
}

bool Checker::CheckExtents() {
  bool sound = true;
  const uint64_t total = superblock_.device_bytes / kBlockBytes;
  usage_.total_blocks = total;
  usage_.inodes = namespace_.inode_count();
  for (const Extent& extent : MetadataExtents(superblock_)) {
    runs_.push_back({extent, 0});
  }
  for (const OwnedRun& run : runs_) {
    const Extent& extent = run.extent;
    if (extent.count == 0 || extent.start >= total ||
        extent.count > total - extent.start) {
      Problem(Owner(run.ino) + ": " + ShowRun(extent) +
              " lie outside the volume of " + std::to_string(total));
      sound = false;
    }
    (run.ino == 0 ? usage_.metadata_blocks : usage_.allocated_blocks) +=
        extent.count;
  }
  return CheckOverlaps() && sound;
}

// Goes over the device from front to back: what begins before the blocks seen
// so far end shares some of them.
bool Checker::CheckOverlaps() {
  bool sound = true;
  std::sort(runs_.begin(), runs_.end(),
            [](const OwnedRun& a, const OwnedRun& b) {
              return a.extent.start < b.extent.start;
            });
  uint64_t end = 0;
  uint64_t owner = 0;
  for (const OwnedRun& run : runs_) {
    const Extent& extent = run.extent;
    const uint64_t limit = UINT64_MAX - extent.start;
    const uint64_t run_end = extent.start + std::min(extent.count, limit);
    if (extent.start < end) {
      Problem(ShowRun({extent.start, std::min(end, run_end) - extent.start}) +
              " belong to both " + Owner(owner) + " and " + Owner(run.ino));
      sound = false;
    } else {
      const uint64_t gap = extent.start - end;
      usage_.free_blocks += gap;
      usage_.free_runs += gap > 0;
      usage_.largest_free_run = std::max(usage_.largest_free_run, gap);
    }
    if (run_end > end) {
      end = run_end;
      owner = run.ino;
    }
  }
  if (end < usage_.total_blocks) {
    const uint64_t gap = usage_.total_blocks - end;
    usage_.free_blocks += gap;
    ++usage_.free_runs;
    usage_.largest_free_run = std::max(usage_.largest_free_run, gap);
  }
  return sound;
}

// What the mount makes of the same volume must be what was counted here.
void Checker::CheckMount(const Volume& volume, const VolumeUsage& mounted) {
  const struct {
    const char* name;
    uint64_t counted;
    uint64_t told;
  } sums[] = {
      {"total", usage_.total_blocks, mounted.total_blocks},
      {"metadata", usage_.metadata_blocks, mounted.metadata_blocks},
      {"allocated", usage_.allocated_blocks, mounted.allocated_blocks},
      {"pending", usage_.pending_blocks, mounted.pending_blocks},
      {"free", usage_.free_blocks, mounted.free_blocks},
      {"largest free run", usage_.largest_free_run, mounted.largest_free_run},
      {"inodes", usage_.inodes, mounted.inodes},
  };
  for (const auto& sum : sums) {
    if (sum.counted == sum.told) continue;
    Problem(std::string(sum.name) + ": " + std::to_string(sum.counted) +
            " counted, the mount says " + std::to_string(sum.told));
  }
  if (mounted.total_blocks !=
      mounted.metadata_blocks + mounted.allocated_blocks +
          mounted.pending_blocks + mounted.free_blocks) {
    Problem("free space: the parts are not the whole");
  }
  if (volume.superblock().uuid != superblock_.uuid) {
    Problem("the mount reads another superblock");
  }
}

}  // namespace

Result Fsck(std::unique_ptr<BlockDevice> device, FsckReport* report) {
  *report = FsckReport();
  bool usable = false;
  Checker checker(device.get(), report);
  Result result = checker.CheckSuperblocks(&usable);
  if (result.ok() && usable) result = checker.ReplayJournal(&usable);
  if (!result.ok()) return std::move(result).With(device->name());
  if (usable) {
    checker.CheckNames();
    // Where extents are forged, a walk over them need not come to an end.
    if (checker.CheckExtents()) {
      checker.CheckLogs();
    } else {
      report->notes.push_back("the frames of logs were not looked at");
    }
    report->usage = checker.usage();

    MountOptions options;
    options.read_only = true;
    std::shared_ptr<Volume> volume;
    const std::string name = device->name();
    result = Volume::Mount(std::move(device), options, &volume);
    if (result.error() == EUCLEAN) {
      checker.Problem("cannot be mounted: " + result.context());
    } else if (!result.ok()) {
      return std::move(result).With(name);
    } else {
      VolumeUsage mounted;
      result = volume->Usage(&mounted);
      if (!result.ok()) return std::move(result).With(name);
      checker.CheckMount(*volume, mounted);
      report->usage = mounted;
    }
  }
  checker.Finish();
  return Result::Ok();
}

}  // namespace diofs
