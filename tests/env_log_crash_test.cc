// ctest: one-thread

// Random operations on logs, cut short by a power cut or by the death of the
// process at every write and at every flush; then each log is compared with
// what was promised of it.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "env/fsck.h"
#include "env/log_writer.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;

// What one log went through. Each Truncate begins a new life of it.
struct LogModel {
  struct Life {
    uint64_t base = 0;    // kept by the Truncate, durable with it
    std::string content;  // all that was appended since
  };
  std::vector<Life> lives{1};
  // Must survive a power cut: this life or a later one, with so many bytes.
  size_t synced_life = 0;
  uint64_t synced_bytes = 0;
  bool synced = false;  // its name, too
  // Must survive the death of the process.
  size_t flushed_life = 0;
  uint64_t flushed_bytes = 0;

  std::string& content() { return lives.back().content; }
  void Synced() {
    synced = true;
    synced_life = lives.size() - 1;
    synced_bytes = content().size();
    Flushed();
  }
  void Flushed() {
    flushed_life = lives.size() - 1;
    flushed_bytes = content().size();
  }
  // Is this what may be left of it?
  bool Allows(const std::string& left, size_t from_life,
              uint64_t at_least) const {
    for (size_t i = from_life; i < lives.size(); ++i) {
      const uint64_t least = i == from_life ? at_least : lives[i].base;
      const std::string& content = lives[i].content;
      if (left.size() >= least && left.size() <= content.size() &&
          content.compare(0, left.size(), left) == 0) {
        return true;
      }
    }
    return false;
  }
};

using Models = std::map<std::string, LogModel>;

// The same work every time, until the device fails. True where all was done.
class Worker {
 public:
  Worker(Volume* volume, uint64_t seed, Models* models)
      : volume_(volume), rng_(seed), models_(models) {}

  bool Work() {
    for (int i = 0; i < 40; ++i) {
      if (!Step().ok()) return false;
    }
    return true;
  }

 private:
  Result Step() {
    const std::string path =
        rng_() % 2 == 0 ? "/000001.log" : "/MANIFEST-000001";
    LogModel* const model = &(*models_)[path];
    std::shared_ptr<FileWriter>* const writer = &writers_[path];
    if (*writer == nullptr) {
      if (Result r = OpenWriter(volume_, path, writer); !r.ok()) return r;
    }
    switch (rng_() % 12) {
      case 0:
        return Cut(writer->get(), model);
      case 1: {
        Result result = (*writer)->Close();
        if (result.ok()) model->Flushed();
        writer->reset();
        return result;
      }
      case 2:
        if (Result r = volume_->Sync(); !r.ok()) return r;
        return Result::Ok();
      case 3:
      case 4:
      case 5: {
        Result result = (*writer)->Sync();
        if (result.ok()) model->Synced();
        return result;
      }
      default:
        return Append(writer->get(), model);
    }
  }

  Result Append(FileWriter* writer, LogModel* model) {
    const uint64_t most = rng_() % 6 == 0 ? 100000 : 3000;
    const std::string more = Pattern(rng_(), rng_() % most + 1);
    model->content() += more;
    if (Result r = writer->Append(more.data(), more.size()); !r.ok()) return r;
    if (rng_() % 3 == 0) return Result::Ok();
    Result result = writer->Flush();
    if (result.ok()) model->Flushed();
    return result;
  }

  Result Cut(FileWriter* writer, LogModel* model) {
    const uint64_t bytes = rng_() % (model->content().size() + 1);
    const bool shorter = bytes < model->content().size();
    if (shorter) {
      model->lives.push_back({bytes, model->content().substr(0, bytes)});
    }
    Result result = writer->Truncate(bytes);
    if (result.ok()) model->Flushed();
    return result;
  }

  Volume* const volume_;
  std::mt19937_64 rng_;
  Models* const models_;
  std::map<std::string, std::shared_ptr<FileWriter>> writers_;
};

// Mounts what is left, looks at it, and goes on from there.
void CheckSurvivor(const std::string& image, bool power_cut,
                   const Models& models) {
  FsckReport report;
  ASSERT_TRUE(Fsck(SimFrom(image), &report).ok());
  ASSERT_EQ(report.problems, std::vector<std::string>());
  std::shared_ptr<Volume> volume;
  const Result mounted = MountSim(SimFrom(image), MountOptions(), &volume);
  ASSERT_TRUE(mounted.ok()) << mounted.ToString();
  ASSERT_EQ(SpaceProblem(volume.get()), "");
  Tree left;
  ASSERT_TRUE(ReadTree(volume.get(), &left).ok());
  for (const auto& [path, model] : models) {
    const auto found = left.find(path);
    const uint64_t bytes = power_cut ? model.synced_bytes : model.flushed_bytes;
    if (found == left.end()) {
      ASSERT_TRUE(power_cut ? !model.synced : bytes == 0) << path;
      continue;
    }
    ASSERT_TRUE(model.Allows(found->second,
                             power_cut ? model.synced_life : model.flushed_life,
                             bytes))
        << path << ": " << found->second.size() << " bytes, at least " << bytes;
    std::shared_ptr<FileWriter> writer;
    ASSERT_TRUE(OpenWriter(volume.get(), path, &writer).ok());
    ASSERT_TRUE(writer->Append("more", 4).ok());
    ASSERT_TRUE(writer->Sync().ok());
    std::string content;
    ASSERT_TRUE(ReadFile(volume.get(), path, &content).ok());
    ASSERT_EQ(content, found->second + "more");
  }
}

// Stops the device at its `step`th write or flush. True when the work was done
// before.
bool CrashAt(const std::string& fresh, SimOp op, uint64_t step, uint64_t seed,
             std::mt19937_64* rng) {
  SimDevice* sim = nullptr;
  std::shared_ptr<Volume> volume;
  EXPECT_TRUE(MountSim(SimFrom(fresh), MountOptions(), &volume, &sim).ok());
  sim->FailNth(op, step, EIO, /*forever=*/true);
  Models models;
  bool done = false;
  std::vector<std::pair<std::string, bool>> left;
  {
    Worker worker(volume.get(), seed, &models);
    done = worker.Work();
    left.emplace_back(sim->Image(), false);
    left.emplace_back(AfterReboot(sim->Image()), true);
    left.emplace_back(AfterReboot(sim->DurableImage()), true);
    for (int i = 0; i < 3; ++i) {
      left.emplace_back(AfterReboot(sim->CrashImage(rng)), true);
    }
  }
  for (const auto& [image, power_cut] : left) {
    CheckSurvivor(image, power_cut, models);
    if (testing::Test::HasFailure()) return true;
  }
  return done;
}

TEST(LogCrash, WhatWasPromisedSurvivesEveryWriteAndFlush) {
  const uint64_t seed = TestSeed();
  std::mt19937_64 rng(seed);
  const std::string fresh = FormattedSim(kVolumeBytes)->Image();
  for (uint64_t round = 0; round < ScaledRounds(1); ++round) {
    for (const SimOp op : {SimOp::kWrite, SimOp::kFlush}) {
      uint64_t step = 1;
      // Sanitizers look for other mistakes, which each third step shows.
      const uint64_t stride = ScaledRounds(4) < 4 ? 3 : 1;
      while (!CrashAt(fresh, op, step, seed + round, &rng)) {
        ASSERT_LT(step += stride, 500u);
      }
      ASSERT_FALSE(HasFailure()) << (op == SimOp::kWrite ? "write " : "flush ")
                                 << step << " of round " << round;
      EXPECT_GT(step, 5u);
    }
  }
}

}  // namespace
}  // namespace diofs
