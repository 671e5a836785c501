#include "tests/crash_explorer.h"

#include <cerrno>
#include <set>
#include <utility>

#include "env/fsck.h"
#include "env/scrub.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr char kMore[5000] = "and more";

std::string Problems(const FsckReport& report) {
  std::string text;
  for (const std::string& problem : report.problems) text += problem + "; ";
  return text;
}

// Appends to the file and syncs; no room is no mistake.
Result AppendTo(Volume* volume, const std::string& path, bool* appended) {
  *appended = false;
  std::shared_ptr<FileWriter> writer;
  if (Result r = OpenWriter(volume, path, &writer); !r.ok()) return r;
  Result result = writer->Append(kMore, sizeof(kMore));
  if (result.error() == ENOSPC) return Result::Ok();
  *appended = result.ok();
  return result.ok() ? writer->Sync() : std::move(result);
}

// Appends to every file, makes a new one, and syncs; *tree is what there is
// then.
Result Change(Volume* volume, Tree* tree) {
  // One file may have several names.
  std::map<uint64_t, bool> done;
  for (auto& [path, content] : *tree) {
    if (path.back() == '/') continue;
    FileStat stat;
    if (Result r = volume->Stat(path, &stat); !r.ok()) return r;
    if (done.count(stat.ino) == 0) {
      if (Result r = AppendTo(volume, path, &done[stat.ino]); !r.ok()) return r;
    }
    if (done[stat.ino]) content.append(kMore, sizeof(kMore));
  }
  const std::string probe = "/probe";
  (*tree)[probe] = "";
  bool appended = false;
  if (Result r = AppendTo(volume, probe, &appended); !r.ok()) return r;
  if (appended) (*tree)[probe].assign(kMore, sizeof(kMore));
  return volume->Sync();
}

}  // namespace

Geometry CrashGeometry(uint64_t bytes, uint32_t logical_block_bytes, bool fua) {
  Geometry geometry = SimDevice::MakeGeometry(bytes, logical_block_bytes);
  geometry.fua = fua;
  return geometry;
}

CowImage FreshVolume(const Geometry& geometry) {
  const std::unique_ptr<SimDevice> fresh =
      FormattedSim(geometry.device_bytes, geometry.logical_block_bytes);
  return CowImage(std::make_shared<const std::string>(fresh->Image()));
}

namespace {

// Of the files that have checksums; none reads what has none.
std::string ChecksumProblem(Volume* volume) {
  bool any = false;
  volume->ForEachInode([&any](const InodePtr& inode) {
    any = any || (inode->log == nullptr &&
                  inode->journaled_blocks > BlocksFor(inode->journaled_bytes));
  });
  if (!any) return "";
  ScrubReport report;
  const Result result = Scrub(volume, nullptr, &report);
  if (!result.ok()) return "scrub: " + result.ToString();
  return report.problems.empty() ? "" : "scrub: " + report.problems[0];
}

}  // namespace

CrashExplorer::Found CrashExplorer::Examine(const CowImage& image) const {
  Found found;
  FsckReport report;
  Result result =
      Fsck(std::make_unique<CrashDevice>(image, geometry_, nullptr), &report);
  if (!result.ok() || !report.problems.empty()) {
    found.error = "fsck: " + result.ToString() + " " + Problems(report);
    return found;
  }
  auto device = std::make_unique<CrashDevice>(image, geometry_, nullptr);
  CrashDevice* const kept = device.get();
  std::shared_ptr<Volume> volume;
  result = Volume::Mount(std::move(device), NoClock(), &volume);
  if (!result.ok()) {
    found.error = "mount: " + result.ToString();
    return found;
  }
  Tree tree;
  result = ReadTree(volume.get(), &tree, kCrashFiller);
  if (!result.ok()) {
    found.error = "read: " + result.ToString();
    return found;
  }
  found.tree = std::make_shared<Tree>(tree);
  found.error = ChecksumProblem(volume.get());
  if (found.error.empty()) found.error = SpaceProblem(volume.get());
  if (!found.error.empty()) return found;
  result = Change(volume.get(), &tree);
  if (!result.ok()) {
    found.error = "change: " + result.ToString();
    return found;
  }
  auto later = std::make_unique<CrashDevice>(kept->image(), geometry_, nullptr);
  volume.reset();
  result = Volume::Mount(std::move(later), NoClock(), &volume);
  Tree again;
  if (result.ok()) result = ReadTree(volume.get(), &again, kCrashFiller);
  if (!result.ok()) {
    found.error = "next mount: " + result.ToString();
  } else if (again != tree) {
    found.error = "the next mount finds something else";
  } else {
    found.error = SpaceProblem(volume.get());
  }
  return found;
}

std::shared_ptr<const Tree> CrashExplorer::Intern(Tree tree) {
  std::weak_ptr<const Tree>& known = trees_[tree];
  std::shared_ptr<const Tree> shared = known.lock();
  if (shared == nullptr) {
    shared = std::make_shared<const Tree>(std::move(tree));
    known = shared;
  }
  return shared;
}

std::string CrashExplorer::CheckState(const CowImage& image,
                                      const CrashModel& model, bool* is_new) {
  const uint64_t hash = image.Hash();
  Found found;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = found_.find(hash);
    *is_new = known == found_.end();
    if (!*is_new) found = known->second;
  }
  if (*is_new) {
    found = Examine(image);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (found.tree != nullptr) found.tree = Intern(*found.tree);
    found_[hash] = found;
  }
  if (!found.error.empty()) return found.error;
  ++comparisons_;
  return model.Check(*found.tree);
}

std::string CrashExplorer::Check(const CowImage& image,
                                 const CrashModel& model) {
  bool is_new = false;
  return CheckState(image, model, &is_new);
}

std::string CrashExplorer::Explore(const CowImage& start,
                                   const Recording& recording,
                                   const std::vector<CrashModel>& models,
                                   const Plan& plan, std::mt19937_64* rng) {
  CrashStates states(start, &recording, geometry_.logical_block_bytes);
  uint64_t note = 0;
  bool started = false;
  std::string problem;
  std::set<std::pair<uint64_t, uint64_t>> seen;
  for (uint64_t event = 0; problem.empty() && states.Next(); ++event) {
    if (states.event().kind == CrashEvent::Kind::kNote) {
      note = states.event().id;
      started = started || note >= plan.first;
    }
    if (!started) continue;
    std::vector<CowImage> to_recover;
    states.ForEach(plan.choice, rng, [&](const CowImage& image) {
      if (!problem.empty() || !seen.emplace(image.Hash(), note).second) return;
      bool is_new = false;
      problem = CheckState(image, models[note], &is_new);
      if (!problem.empty()) {
        problem.insert(0, "behind event " + std::to_string(event) + " (note " +
                              std::to_string(note) + "): ");
      }
      if (is_new && plan.recovery_interval != 0 &&
          (*rng)() % plan.recovery_interval == 0) {
        to_recover.push_back(image);
      }
    });
    for (const CowImage& image : to_recover) {
      if (!problem.empty()) break;
      problem = ExploreRecovery(image, models[note], plan.choice, rng);
    }
  }
  return problem;
}

std::string CrashExplorer::ExploreRecovery(const CowImage& image,
                                           const CrashModel& model,
                                           const CrashStates::Choice& choice,
                                           std::mt19937_64* rng) {
  Recording recording;
  {
    auto device = std::make_unique<CrashDevice>(image, geometry_, &recording);
    std::shared_ptr<Volume> volume;
    const Result result = Volume::Mount(std::move(device), NoClock(), &volume);
    if (!result.ok()) return "mount: " + result.ToString();
  }
  CrashStates states(image, &recording, geometry_.logical_block_bytes);
  std::string problem;
  while (problem.empty() && states.Next()) {
    states.ForEach(choice, rng, [&](const CowImage& cut) {
      if (!problem.empty()) return;
      problem = Check(cut, model);
      if (!problem.empty()) problem.insert(0, "during recovery: ");
    });
  }
  return problem;
}

uint64_t CrashExplorer::distinct_states() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return found_.size();
}

}  // namespace diofs
