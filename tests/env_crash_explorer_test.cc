// ctest: one-thread
// ctest: TIMEOUT=1200

// Power cuts at every boundary of recorded work, in every way the contract of a
// disk allows.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "env/volume.h"
#include "tests/crash_explorer.h"
#include "tests/crash_script.h"
#include "tests/deterministic.h"
#include "tests/parallel_jobs.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;
constexpr uint64_t kRunSeed = 1;
// All their subsets are looked at where no more are volatile.
bool Instrumented() { return ScaledRounds(4) < 4; }
uint64_t ExhaustiveBlocks() { return ScaledRounds(4) >= 40 ? 12 : 6; }
// Steps of the longest sequences: in long runs, in release, under sanitizers.
size_t LongestSequence() {
  return ScaledRounds(4) >= 40 ? 4 : Instrumented() ? 2 : 3;
}

// A volume to begin with, unmounted, and what it holds.
struct Start {
  CowImage image;
  CrashModel model;
};

// A fresh volume on which `steps` have been carried out.
Start MakeStart(const Geometry& geometry, const std::vector<std::string>& names,
                const std::vector<CrashStep>& steps,
                uint64_t filler_bytes = 0) {
  const DeterministicRun run(kRunSeed);
  auto device =
      std::make_unique<CrashDevice>(FreshVolume(geometry), geometry, nullptr);
  CrashDevice* const kept = device.get();
  std::shared_ptr<Volume> volume;
  EXPECT_TRUE(Volume::Mount(std::move(device), NoClock(), &volume).ok());
  if (filler_bytes > 0) {
    EXPECT_TRUE(WriteFile(volume.get(), kCrashFiller,
                          std::string(filler_bytes, 'f'), true)
                    .ok());
  }
  CrashScript script(names, volume, nullptr, CrashModel());
  for (const CrashStep& step : steps) EXPECT_TRUE(script.Run(step).ok());
  EXPECT_TRUE(script.Finish().ok());
  return {
      CowImage(std::make_shared<const std::string>(kept->image().ToString())),
      script.models().back()};
}

const std::vector<CrashStep> kAllSteps = {
    {CrashOp::kCreate, 0},
    {CrashOp::kCreate, 1},
    {CrashOp::kAppend, 0},
    {CrashOp::kAppend, 1},
    {CrashOp::kAppendUnaligned, 0},
    {CrashOp::kAppendUnaligned, 1},
    {CrashOp::kSync, 0},
    {CrashOp::kSync, 1},
    {CrashOp::kRename, 0},
    {CrashOp::kRename, 1},
    {CrashOp::kLink, 0},
    {CrashOp::kLink, 1},
    {CrashOp::kDelete, 0},
    {CrashOp::kDelete, 1},
    {CrashOp::kTruncate, 0},
    {CrashOp::kTruncate, 1},
    {CrashOp::kReuse, 0},
    {CrashOp::kReuse, 1},
    {CrashOp::kClose, 0},
    {CrashOp::kClose, 1},
    {CrashOp::kMkdir, 1},
    {CrashOp::kSyncNames, 0},
};

struct Recorded {
  Recording recording;
  std::vector<CrashModel> models;
  uint64_t last_step = 0;  // note that precedes it
};

constexpr const char* kDoesNotApply = "does not apply";

// Mounts and carries out `steps`, the same way every time. Returns what went
// wrong; where not all must apply, the others are left out, and all ends with
// an unmount.
std::string Record(const Start& start, const Geometry& geometry,
                   const std::vector<std::string>& names,
                   const std::vector<CrashStep>& steps,
                   const MountOptions& options, bool all_must_apply,
                   Recorded* recorded) {
  const DeterministicRun run(kRunSeed + 1);
  Recording* const recording = &recorded->recording;
  auto device = std::make_unique<CrashDevice>(start.image, geometry, recording);
  CrashDevice* const kept = device.get();
  // What there was must also survive the mount.
  kept->Note(0);
  std::shared_ptr<Volume> volume;
  if (Result r = Volume::Mount(std::move(device), NoClock(options), &volume);
      !r.ok()) {
    return r.ToString();
  }
  size_t end = 0;
  {
    CrashScript script(names, std::move(volume), kept, start.model);
    script.ExpectFullVolume();
    for (const CrashStep& step : steps) {
      if (!script.Applies(step)) {
        if (all_must_apply) return kDoesNotApply;
        continue;
      }
      recorded->last_step = script.models().size();
      if (Result r = script.Run(step); !r.ok()) return r.ToString();
    }
    if (!all_must_apply) {
      if (Result r = script.Finish(); !r.ok()) return r.ToString();
    }
    recorded->models = script.models();
    end = recording->events.size();
  }
  // Not what closing the files has written.
  recording->events.resize(end);
  return "";
}

void Report(const std::string& workload, const CrashExplorer& explorer,
            double seconds) {
  std::printf("[  STATES  ] %s: %llu distinct, %llu comparisons, %.0f/s\n",
              workload.c_str(),
              static_cast<unsigned long long>(explorer.distinct_states()),
              static_cast<unsigned long long>(explorer.comparisons()),
              static_cast<double>(explorer.distinct_states()) / seconds);
}

double Now() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct Config {
  const char* name;
  std::vector<std::string> names;
  std::vector<CrashStep> before;  // on a fresh volume
  uint32_t logical_block_bytes;
  bool fua;
};

class CrashSequences : public testing::TestWithParam<Config> {};

// Every sequence of steps, one power cut in each way at each event of its last
// step: those of the steps before were looked at with the shorter sequences.
TEST_P(CrashSequences, OfAFewSteps) {
  const Config& config = GetParam();
  const Geometry geometry =
      CrashGeometry(kVolumeBytes, config.logical_block_bytes, config.fua);
  const Start start = MakeStart(geometry, config.names, config.before);
  CrashExplorer explorer(geometry);
  const uint64_t seed = TestSeed();
  const double began = Now();
  std::vector<std::vector<CrashStep>> sequences = {{}};
  for (size_t length = 0; length <= LongestSequence(); ++length) {
    std::vector<std::vector<CrashStep>> longer;
    if (length > 0) {
      for (const std::vector<CrashStep>& sequence : sequences) {
        for (const CrashStep& step : kAllSteps) {
          longer.push_back(sequence);
          longer.back().push_back(step);
        }
      }
      sequences = std::move(longer);
    }
    std::vector<char> applies(sequences.size(), 0);
    const std::string problem = ForEachJob(sequences.size(), [&](size_t i) {
      const std::vector<CrashStep>& steps = sequences[i];
      const std::string name = "after \"" + ToString(steps) + "\": ";
      Recorded recorded;
      std::string wrong = Record(start, geometry, config.names, steps,
                                 MountOptions(), true, &recorded);
      if (wrong == kDoesNotApply) return std::string();
      if (!wrong.empty()) return name + wrong;
      applies[i] = 1;
      std::mt19937_64 rng(seed + i);
      CrashExplorer::Plan plan;
      plan.first = recorded.last_step;
      plan.choice.random_states = 1;
      if (i % 50 == seed % 50)
        plan.choice.exhaustive_blocks = ExhaustiveBlocks();
      plan.recovery_interval = 200;
      wrong = explorer.Explore(start.image, recorded.recording, recorded.models,
                               plan, &rng);
      return wrong.empty() ? wrong : name + wrong;
    });
    ASSERT_EQ(problem, "");
    size_t kept = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      if (applies[i] != 0) sequences[kept++] = sequences[i];
    }
    sequences.resize(kept);
  }
  Report(config.name, explorer, Now() - began);
}

constexpr CrashStep kCreate0 = {CrashOp::kCreate, 0};
constexpr CrashStep kCreate1 = {CrashOp::kCreate, 1};

INSTANTIATE_TEST_SUITE_P(
    All, CrashSequences,
    testing::Values(Config{"log and plain",
                           {"/000001.log", "/CURRENT"},
                           {kCreate0,
                            {CrashOp::kAppendUnaligned, 0},
                            {CrashOp::kAppend, 0},
                            kCreate1,
                            {CrashOp::kAppendUnaligned, 1}},
                           512,
                           false},
                    Config{"log and SST of a directory",
                           {"/000001.log", "/d/000002.sst"},
                           {},
                           512,
                           true},
                    Config{"two logs",
                           {"/000001.log", "/MANIFEST-000001"},
                           {kCreate0, {CrashOp::kAppendUnaligned, 0}},
                           4096,
                           true}),
    [](const testing::TestParamInfo<Config>& param) {
      return "Config" + std::to_string(param.index);
    });

struct Walk {
  const char* name;
  std::vector<std::string> names;
  std::vector<CrashStep> before;
  uint64_t filler_bytes;  // of a file that takes room; nobody touches it
  FlushMode flush_mode;
  uint32_t logical_block_bytes;
  bool fua;
  // The threads that discard let such a walk differ from run to run.
  bool discards_and_checksums;
  std::vector<CrashOp> ops;  // drawn with equal chances
  size_t steps;
  uint64_t walks;
};

void PrintTo(const Walk& walk, std::ostream* out) { *out << walk.name; }

class CrashWalks : public testing::TestWithParam<Walk> {
 protected:
  // The same steps for the same `seed`, those that do not apply included.
  static std::vector<CrashStep> DrawSteps(const Walk& walk, uint64_t seed) {
    std::mt19937_64 rng(seed);
    std::vector<CrashStep> steps;
    while (steps.size() < walk.steps) {
      steps.push_back({walk.ops[rng() % walk.ops.size()], rng() % 2});
    }
    return steps;
  }
};

// Walks further than the sequences go, from mount to unmount.
TEST_P(CrashWalks, FromMountToUnmount) {
  const Walk& walk = GetParam();
  const Geometry geometry =
      CrashGeometry(kVolumeBytes, walk.logical_block_bytes, walk.fua);
  const Start start =
      MakeStart(geometry, walk.names, walk.before, walk.filler_bytes);
  MountOptions options;
  options.flush_mode = walk.flush_mode;
  options.discard = options.checksums = walk.discards_and_checksums;
  CrashExplorer explorer(geometry);
  const uint64_t seed = TestSeed();
  const double began = Now();
  const std::string problem =
      // Sanitizers look for other mistakes, which a few walks show.
      ForEachJob(Instrumented() ? 10 : ScaledRounds(walk.walks), [&](size_t i) {
        const std::vector<CrashStep> steps = DrawSteps(walk, seed + i);
        Recorded recorded;
        std::string wrong = Record(start, geometry, walk.names, steps, options,
                                   false, &recorded);
        if (wrong.empty()) {
          std::mt19937_64 rng(seed + i);
          CrashExplorer::Plan plan;
          plan.choice.random_states = 1;
          if (i % 10 == 0) plan.choice.exhaustive_blocks = ExhaustiveBlocks();
          plan.recovery_interval = 300;
          wrong = explorer.Explore(start.image, recorded.recording,
                                   recorded.models, plan, &rng);
        }
        return wrong.empty() ? wrong
                             : "walk " + std::to_string(i) + " \"" +
                                   ToString(steps) + "\": " + wrong;
      });
  EXPECT_EQ(problem, "");
  Report(walk.name, explorer, Now() - began);
}

const std::vector<CrashOp> kManyOps = {
    CrashOp::kCreate,          CrashOp::kAppend,   CrashOp::kAppend,
    CrashOp::kAppendUnaligned, CrashOp::kSync,     CrashOp::kSync,
    CrashOp::kRename,          CrashOp::kLink,     CrashOp::kDelete,
    CrashOp::kTruncate,        CrashOp::kReuse,    CrashOp::kClose,
    CrashOp::kMkdir,           CrashOp::kSyncNames};

std::vector<CrashOp> With(std::vector<CrashOp> ops,
                          const std::vector<CrashOp>& more) {
  ops.insert(ops.end(), more.begin(), more.end());
  return ops;
}

INSTANTIATE_TEST_SUITE_P(
    All, CrashWalks,
    testing::Values(
        Walk{"a walk over log and plain file",
             {"/000001.log", "/CURRENT"},
             {kCreate0, {CrashOp::kAppend, 0}},
             0,
             FlushMode::kDevice,
             512,
             false,
             false,
             kManyOps,
             30,
             250},
        Walk{"a walk over log and SST, written through",
             {"/000001.log", "/d/000002.sst"},
             {{CrashOp::kMkdir, 1}, kCreate1, {CrashOp::kAppendLarge, 1}},
             0,
             FlushMode::kDevice,
             512,
             true,
             false,
             kManyOps,
             30,
             250},
        Walk{"switches of the journal's region",
             {"/MANIFEST-000001", "/CURRENT"},
             {kCreate0, kCreate1, {CrashOp::kAppend, 1}},
             0,
             FlushMode::kDevice,
             4096,
             false,
             false,
             With(kManyOps,
                  {CrashOp::kSwitch, CrashOp::kSwitch, CrashOp::kSwitch}),
             20,
             250},
        Walk{"frames of many operations",
             {"/000001.log", "/CURRENT"},
             {kCreate0, kCreate1, {CrashOp::kAppend, 1}},
             0,
             FlushMode::kMemory,
             512,
             true,
             false,
             With(kManyOps, {CrashOp::kMany, CrashOp::kSwitch}),
             30,
             250},
        Walk{"a volume that is almost full",
             {"/000001.log", "/CURRENT"},
             {kCreate0, {CrashOp::kAppend, 0}},
             kVolumeBytes - (3 << 20) - (600 << 10),
             FlushMode::kDevice,
             512,
             false,
             false,
             With(kManyOps, {CrashOp::kAppendLarge, CrashOp::kAppendLarge,
                             CrashOp::kAppendLarge}),
             30,
             250},
        Walk{"discards, and checksums of an SST",
             {"/d/000001.sst", "/CURRENT"},
             {{CrashOp::kMkdir, 0}, kCreate0, {CrashOp::kAppendLarge, 0}},
             0,
             FlushMode::kDevice,
             512,
             false,
             true,
             With(kManyOps, {CrashOp::kAppendLarge, CrashOp::kClose}),
             30,
             200}),
    [](const testing::TestParamInfo<Walk>& param) {
      return "Walk" + std::to_string(param.index);
    });

}  // namespace
}  // namespace diofs
