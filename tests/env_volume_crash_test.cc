// ctest: one-thread

// Random operations on a volume, cut short by the death of the process or by a
// power cut, in the middle of an operation or between two; then what a mount
// finds is compared with a model.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;

// Applies random operations to a volume and to its model alike, and remembers
// every state the model was in, one for each change the journal carries.
class Workload {
 public:
  Workload(Volume* volume, uint64_t seed) : volume_(volume), rng_(seed) {
    states_.push_back(Tree());
  }

  // One operation; false when the volume refused it. What failed may have
  // become true all the same, or in part, or not.
  bool Step() {
    const uint64_t choice = rng_() % 100;
    if (choice < 30) return Append().ok();
    if (choice < 45) return Rewrite().ok();
    if (choice < 60) return Rename().ok();
    if (choice < 70) return Unlink().ok();
    if (choice < 80) return Link().ok();
    if (choice < 90) return Truncate().ok();
    return Synced(volume_->Sync()).ok();
  }

  // What must be there after a power cut: one of the states from this one on.
  size_t synced() const { return synced_; }
  const std::vector<Tree>& states() const { return states_; }

 private:
  // Small names, few of them: operations meet.
  std::string File() { return "/" + std::string(1, 'a' + rng_() % 5); }

  const Tree& now() const { return states_.back(); }
  // The model after the next change the journal will carry.
  void Next(Tree tree) { states_.push_back(std::move(tree)); }
  void NextContent(const std::string& path, const std::string& content) {
    Tree next = now();
    next[path] = content;
    Next(std::move(next));
  }
  Result Synced(Result result) {
    if (result.ok()) synced_ = states_.size() - 1;
    return result;
  }
  static Result Expect(const Result& result, int error) {
    return result.error() == error ? Result::Ok()
                                   : Result::Error(EIO, "unexpected outcome");
  }

  Result Append() {
    const std::string path = File();
    const std::string more = Pattern(rng_(), rng_() % 3000 + 1);
    if (now().count(path) == 0) NextContent(path, "");
    const std::string content = now().at(path) + more;
    NextContent(path, content);
    std::shared_ptr<FileWriter> writer;
    if (Result r = OpenWriter(volume_, path, &writer); !r.ok()) return r;
    if (Result r = writer->Append(more.data(), more.size()); !r.ok()) return r;
    return rng_() % 3 == 0 ? Synced(writer->Sync()) : writer->Flush();
  }

  Result Rewrite() {
    const std::string path = File();
    const std::string content = Pattern(rng_(), rng_() % 9000);
    NextContent(path, "");
    NextContent(path, content);
    return WriteFile(volume_, path, content, false);
  }

  Result Rename() {
    const std::string from = File();
    const std::string to = File();
    const bool exists = now().count(from) != 0;
    if (exists && from != to) {
      Tree next = now();
      next[to] = next[from];
      next.erase(from);
      Next(std::move(next));
    }
    Result result = volume_->Rename(from, to);
    return exists ? result : Expect(result, ENOENT);
  }

  Result Unlink() {
    const std::string path = File();
    const bool exists = now().count(path) != 0;
    if (exists) {
      Tree next = now();
      next.erase(path);
      Next(std::move(next));
    }
    Result result = volume_->Unlink(path);
    return exists ? result : Expect(result, ENOENT);
  }

  // Linked files share their content, which the model does not know: the new
  // name takes the old one's place at once.
  Result Link() {
    const std::string path = File();
    if (now().count(path) == 0) {
      return Expect(volume_->Link(path, "/linked"), ENOENT);
    }
    const Tree before = now();
    Tree next = before;
    next["/linked"] = next[path];
    Next(next);
    next.erase(path);
    Next(next);
    Next(before);
    if (Result r = volume_->Link(path, "/linked"); !r.ok()) return r;
    if (Result r = volume_->Unlink(path); !r.ok()) return r;
    return volume_->Rename("/linked", path);
  }

  Result Truncate() {
    const std::string path = File();
    if (now().count(path) == 0 || now().at(path).empty()) return Result::Ok();
    std::shared_ptr<FileWriter> writer;
    if (Result r = OpenWriter(volume_, path, &writer); !r.ok()) return r;
    const uint64_t bytes = rng_() % now().at(path).size();
    NextContent(path, now().at(path).substr(0, bytes));
    return Synced(writer->Truncate(bytes));
  }

  Volume* const volume_;
  std::mt19937_64 rng_;
  std::vector<Tree> states_;
  size_t synced_ = 0;
};

std::string Describe(const Tree& tree) {
  std::string text;
  for (const auto& [path, content] : tree) {
    text += path + ":" + std::to_string(content.size()) + " ";
  }
  return text;
}

// The recovered tree is one of the model's states from `first` to `last`.
void ExpectOneOf(const Tree& found, const Workload& work, size_t first,
                 size_t last) {
  for (size_t i = first; i <= last; ++i) {
    if (found == work.states()[i]) return;
  }
  ADD_FAILURE() << "found    " << Describe(found) << "\nbut synced "
                << Describe(work.states()[first]) << "(" << first
                << ")\nand last  " << Describe(work.states()[last]) << "("
                << last << ")";
}

void ExpectRecovers(const std::string& image, const Workload& work,
                    size_t first, size_t last) {
  std::shared_ptr<Volume> volume;
  Result mounted = MountSim(SimFrom(image), MountOptions(), &volume);
  ASSERT_TRUE(mounted.ok()) << mounted.ToString();
  Tree found;
  const Result read = ReadTree(volume.get(), &found);
  ASSERT_TRUE(read.ok()) << read.ToString();
  ExpectOneOf(found, work, first, last);
  EXPECT_EQ(SpaceProblem(volume.get()), "");
  // And it can be written to, unmounted and mounted again.
  ASSERT_TRUE(WriteFile(volume.get(), "/after", "crash", true).ok());
  found["/after"] = "crash";
  SimDevice* const sim = static_cast<SimDevice*>(volume->device());
  ASSERT_TRUE(volume->Unmount().ok());
  const std::string again = sim->DurableImage();
  volume = nullptr;
  mounted = MountSim(SimFrom(again), MountOptions(), &volume);
  ASSERT_TRUE(mounted.ok()) << mounted.ToString();
  Tree reread;
  ASSERT_TRUE(ReadTree(volume.get(), &reread).ok());
  EXPECT_EQ(reread, found);
}

class VolumeCrashTest : public testing::Test {
 protected:
  void Start(uint64_t seed) {
    rng_.seed(seed);
    ASSERT_TRUE(
        MountSim(FormattedSim(kVolumeBytes), MountOptions(), &volume_, &sim_)
            .ok());
    work_ = std::make_unique<Workload>(volume_.get(), seed);
  }

  std::mt19937_64 rng_;
  std::shared_ptr<Volume> volume_;
  SimDevice* sim_ = nullptr;
  std::unique_ptr<Workload> work_;
};

// kill -9: the device keeps all it was given, and every operation that returned
// is there.
TEST_F(VolumeCrashTest, DeathOfTheProcessLosesNothingThatReturned) {
  for (uint64_t round = 0; round < ScaledRounds(20); ++round) {
    const uint64_t seed = TestSeed() + round;
    SCOPED_TRACE("DIOFS_TEST_SEED=" + std::to_string(seed));
    Start(seed);
    const uint64_t steps = rng_() % 60 + 1;
    for (uint64_t i = 0; i < steps; ++i) ASSERT_TRUE(work_->Step());
    const size_t last = work_->states().size() - 1;
    ExpectRecovers(sim_->Image(), *work_, last, last);
    if (HasFailure()) return;
  }
}

TEST_F(VolumeCrashTest, PowerCutBetweenOperationsKeepsWhatWasSynced) {
  for (uint64_t round = 0; round < ScaledRounds(30); ++round) {
    const uint64_t seed = TestSeed() + round;
    SCOPED_TRACE("DIOFS_TEST_SEED=" + std::to_string(seed));
    Start(seed);
    const uint64_t steps = rng_() % 60 + 1;
    for (uint64_t i = 0; i < steps; ++i) ASSERT_TRUE(work_->Step());
    for (int cut = 0; cut < 3; ++cut) {
      ExpectRecovers(AfterReboot(sim_->CrashImage(&rng_)), *work_,
                     work_->synced(), work_->states().size() - 1);
      if (HasFailure()) return;
    }
  }
}

// The n-th request and all behind it never reach the device: a cut in the
// middle of whatever was going on.
TEST_F(VolumeCrashTest, PowerCutInTheMiddleOfAnOperation) {
  for (uint64_t round = 0; round < ScaledRounds(40); ++round) {
    const uint64_t seed = TestSeed() + round;
    SCOPED_TRACE("DIOFS_TEST_SEED=" + std::to_string(seed));
    Start(seed);
    const bool flush = rng_() % 2 == 0;
    sim_->FailNth(flush ? SimOp::kFlush : SimOp::kWrite, rng_() % 40 + 1, EIO,
                  true);
    for (int i = 0; i < 60 && work_->Step(); ++i) {
    }
    ExpectRecovers(AfterReboot(sim_->CrashImage(&rng_)), *work_,
                   work_->synced(), work_->states().size() - 1);
    ExpectRecovers(sim_->Image(), *work_, work_->synced(),
                   work_->states().size() - 1);
    if (HasFailure()) return;
  }
}

// Recovery writes too, and may be cut short itself.
TEST_F(VolumeCrashTest, PowerCutDuringRecovery) {
  for (uint64_t round = 0; round < ScaledRounds(20); ++round) {
    const uint64_t seed = TestSeed() + round;
    SCOPED_TRACE("DIOFS_TEST_SEED=" + std::to_string(seed));
    Start(seed);
    for (int i = 0; i < 30; ++i) ASSERT_TRUE(work_->Step());
    const std::string image = AfterReboot(sim_->CrashImage(&rng_));
    bool mounted = false;
    for (uint64_t n = 1; !mounted; ++n) {
      ASSERT_LT(n, 100u);
      std::unique_ptr<SimDevice> device = SimFrom(image);
      device->FailNth(SimOp::kWrite, n, EIO, true);
      std::string cut;
      device->on_destroy = [&](const SimDevice& sim) {
        cut = sim.CrashImage(&rng_);
      };
      std::shared_ptr<Volume> volume;
      mounted = MountSim(std::move(device), MountOptions(), &volume).ok();
      volume = nullptr;
      ExpectRecovers(AfterReboot(cut), *work_, work_->synced(),
                     work_->states().size() - 1);
      if (HasFailure()) return;
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace diofs
