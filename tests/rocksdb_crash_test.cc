// ctest: one-thread
// ctest: TIMEOUT=1200

// A database at work, cut short by a power cut at any moment and in any way the
// contract of a disk allows: what it opens with holds every synced write.

#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "env/rocksdb_file_system.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "tests/crash_explorer.h"
#include "tests/deterministic.h"
#include "tests/parallel_jobs.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

using rocksdb::DB;
using rocksdb::Options;
using rocksdb::Status;
using rocksdb::WALRecoveryMode;

constexpr uint64_t kVolumeBytes = 32 << 20;
constexpr int kKeys = 40;

struct Write {
  std::string key;
  std::string value;  // empty: a deletion
  bool sync = false;
};

std::vector<Write> DrawWrites(uint64_t seed, size_t count) {
  std::mt19937_64 rng(seed);
  std::vector<Write> writes;
  while (writes.size() < count) {
    Write write;
    write.key = "key" + std::to_string(rng() % kKeys);
    if (rng() % 6 != 0) write.value = Pattern(rng(), rng() % 1500 + 1);
    write.sync = rng() % 3 == 0;
    writes.push_back(std::move(write));
  }
  return writes;
}

// What was promised at a note: the first `synced` writes are there, and of the
// others up to `issued` some.
struct Promise {
  size_t synced = 0;
  size_t issued = 0;
};

Options SmallOptions(rocksdb::Env* env) {
  Options options;
  options.env = env;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = 16 << 10;
  options.target_file_size_base = 16 << 10;
  options.max_bytes_for_level_base = 64 << 10;
  options.level0_file_num_compaction_trigger = 2;
  options.max_manifest_file_size = 2 << 10;
  options.keep_log_file_num = 2;
  return options;
}

// A database on a device in memory.
class OpenDatabase {
 public:
  OpenDatabase(CowImage image, const Geometry& geometry, Recording* recording) {
    auto device =
        std::make_unique<CrashDevice>(std::move(image), geometry, recording);
    device_ = device.get();
    std::shared_ptr<Volume> volume;
    const Result mounted = Volume::Mount(std::move(device), NoClock(), &volume);
    if (!mounted.ok()) {
      status_ = Status::IOError("mount: " + mounted.ToString());
      return;
    }
    env_ = rocksdb::NewCompositeEnv(
        std::make_shared<DioFileSystem>(std::move(volume)));
  }
  const Status& Open(WALRecoveryMode mode) {
    if (!status_.ok()) return status_;
    Options options = SmallOptions(env_.get());
    options.wal_recovery_mode = mode;
    DB* db = nullptr;
    status_ = DB::Open(options, "/db", &db);
    db_.reset(db);
    return status_;
  }
  DB* db() { return db_.get(); }
  CrashDevice* device() { return device_; }

 private:
  CrashDevice* device_ = nullptr;
  std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<DB> db_;
  Status status_;
};

class DatabaseCrash : public testing::TestWithParam<WALRecoveryMode> {
 protected:
  DatabaseCrash()
      : geometry_(CrashGeometry(kVolumeBytes, 512, TestSeed() % 2 == 0)),
        start_(FreshVolume(geometry_)) {}

  // Writes all of writes_, with flushes and compactions between, and records
  // it.
  void Record() {
    // Mounted on another boot than those that look at what is left.
    auto boot = std::make_unique<DeterministicRun>(TestSeed());
    OpenDatabase database(start_, geometry_, &recording_);
    boot.reset();
    database.device()->Note(0);
    promises_.emplace_back();
    const Status opened = database.Open(GetParam());
    ASSERT_TRUE(opened.ok()) << opened.ToString();
    Promise promise;
    for (size_t i = 0; i < writes_.size(); ++i) {
      const Write& write = writes_[i];
      promise.issued = i + 1;
      Note(&database, promise);
      rocksdb::WriteOptions options;
      options.sync = write.sync;
      const Status written =
          write.value.empty()
              ? database.db()->Delete(options, write.key)
              : database.db()->Put(options, write.key, write.value);
      ASSERT_TRUE(written.ok()) << written.ToString();
      if (write.sync) {
        promise.synced = i + 1;
        Note(&database, promise);
      }
      if (i % 50 == 49) {
        ASSERT_TRUE(database.db()->Flush({}).ok());
        promise.synced = i + 1;
        Note(&database, promise);
      }
    }
  }
  void Note(OpenDatabase* database, const Promise& promise) {
    database->device()->Note(promises_.size());
    promises_.push_back(promise);
  }

  // Opens the database in `image`; what is wrong with it, or "".
  std::string Check(const CowImage& image, const Promise& promise) const {
    OpenDatabase database(image, geometry_, nullptr);
    const Status opened = database.Open(GetParam());
    if (!opened.ok()) {
      // It promises to open after a clean end only; elsewhere a record that is
      // not whole is an error, and nothing is lost silently.
      const bool may_fail =
          GetParam() == WALRecoveryMode::kAbsoluteConsistency &&
          opened.IsCorruption();
      return may_fail ? "" : opened.ToString();
    }
    const size_t there = database.db()->GetLatestSequenceNumber();
    if (there < promise.synced || there > promise.issued) {
      return std::to_string(there) + " writes are there, " +
             std::to_string(promise.synced) + " were synced, " +
             std::to_string(promise.issued) + " issued";
    }
    std::map<std::string, std::string> expected;
    for (size_t i = 0; i < there; ++i) {
      expected[writes_[i].key] = writes_[i].value;
      if (writes_[i].value.empty()) expected.erase(writes_[i].key);
    }
    std::map<std::string, std::string> found;
    rocksdb::ReadOptions read;
    read.verify_checksums = true;
    const std::unique_ptr<rocksdb::Iterator> it(
        database.db()->NewIterator(read));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      found[it->key().ToString()] = it->value().ToString();
    }
    if (!it->status().ok()) return it->status().ToString();
    if (found != expected) {
      return "not what the first " + std::to_string(there) + " writes made";
    }
    rocksdb::WriteOptions sync;
    sync.sync = true;
    const Status written = database.db()->Put(sync, "after", "it");
    return written.ok() ? "" : written.ToString();
  }

  const Geometry geometry_;
  const CowImage start_;
  std::vector<Write> writes_;
  Recording recording_;
  std::vector<Promise> promises_;
};

TEST_P(DatabaseCrash, EverySyncedWriteIsThere) {
  const uint64_t seed = TestSeed();
  writes_ = DrawWrites(seed, 300);
  Record();
  ASSERT_FALSE(HasFatalFailure());
  std::mt19937_64 rng(seed);
  struct State {
    CowImage image;
    Promise promise;
    size_t event;
  };
  std::vector<State> states;
  std::unordered_set<uint64_t> seen;
  CrashStates walk(start_, &recording_, geometry_.logical_block_bytes);
  CrashStates::Choice choice;
  choice.random_states = 2;
  // Of each event some of its states.
  // Sanitizers look for other mistakes, which a few states show.
  const uint64_t wanted = ScaledRounds(4) < 4 ? 40 : ScaledRounds(500);
  const uint64_t share = recording_.events.size() / wanted + 1;
  Promise promise;
  for (size_t event = 0; walk.Next(); ++event) {
    if (walk.event().kind == CrashEvent::Kind::kNote) {
      promise = promises_[walk.event().id];
    }
    if (rng() % share != 0) continue;
    walk.ForEach(choice, &rng, [&](const CowImage& image) {
      if (rng() % 2 == 0 || !seen.insert(image.Hash()).second) return;
      states.push_back({image, promise, event});
    });
  }
  const std::string problem = ForEachJob(states.size(), [&](size_t i) {
    const std::string wrong = Check(states[i].image, states[i].promise);
    return wrong.empty() ? wrong
                         : "behind event " + std::to_string(states[i].event) +
                               ": " + wrong;
  });
  EXPECT_EQ(problem, "");
  std::printf("[  STATES  ] a database: %zu distinct, %zu events\n",
              states.size(), recording_.events.size());
}

INSTANTIATE_TEST_SUITE_P(
    Modes, DatabaseCrash,
    testing::Values(WALRecoveryMode::kPointInTimeRecovery,
                    WALRecoveryMode::kTolerateCorruptedTailRecords,
                    WALRecoveryMode::kAbsoluteConsistency),
    [](const testing::TestParamInfo<WALRecoveryMode>& param) {
      return "Mode" + std::to_string(static_cast<int>(param.param));
    });

}  // namespace
}  // namespace diofs
