// Whole databases, with what RocksDB can do to one: each is closed, the volume
// unmounted and mounted, and every key looked for.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rocksdb/convenience.h"
#include "rocksdb/db.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/slice_transform.h"
#include "rocksdb/table.h"
#include "rocksdb/utilities/optimistic_transaction_db.h"
#include "rocksdb/utilities/transaction.h"
#include "rocksdb/utilities/transaction_db.h"
#include "tests/rocksdb_file_system_fixture.h"
#include "tests/rocksdb_test_db.h"

namespace diofs {
namespace {

using rocksdb::ColumnFamilyDescriptor;
using rocksdb::ColumnFamilyHandle;
using rocksdb::DB;
using rocksdb::Options;
using rocksdb::ReadOptions;
using rocksdb::Slice;
using rocksdb::Status;
using rocksdb::WriteOptions;

constexpr uint64_t kKeys = 1500;

class RocksDBDatabase : public DatabaseTest {
 protected:
  // One database filled, reopened and checked with `options`.
  void RoundTrip(const Options& options) {
    Model model;
    {
      const auto db = Open(options, "/db");
      ASSERT_NE(db, nullptr);
      Fill(db.get(), kKeys, 1, &model);
      Put(db.get(), kKeys, 200, 1, &model);  // in the WAL alone
      ExpectHolds(db.get(), model);
      EXPECT_TRUE(Ok(db->Close()));
    }
    ExpectHoldsAfterMount(options, "/db", model);
  }
  bool AnyFileEndsWith(const std::string& path,
                       const std::string& suffix) const {
    const std::vector<std::string> names = Children(path);
    return std::any_of(names.begin(), names.end(), [&](const std::string& n) {
      return Slice(n).ends_with(suffix);
    });
  }
};

TEST_F(RocksDBDatabase, ColumnFamilies) {
  Options options = SmallOptions();
  options.create_missing_column_families = true;
  const std::vector<ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, options},
      {"one", options},
      {"two", options}};
  std::vector<Model> models(families.size());
  for (const bool fill : {true, false}) {
    Remount();
    options.env = env_.get();
    DB* opened = nullptr;
    std::vector<ColumnFamilyHandle*> handles;
    ASSERT_TRUE(Ok(DB::Open(options, "/db", families, &handles, &opened)));
    const std::unique_ptr<DB> db(opened);
    for (size_t i = 0; i < handles.size(); ++i) {
      if (fill) {
        Put(db.get(), handles[i], 0, 700, i, &models[i]);
        if (i != 1) {
          EXPECT_TRUE(Ok(db->Flush({}, handles[i])));
        }
      }
      ExpectHolds(db.get(), handles[i], models[i]);
    }
    for (ColumnFamilyHandle* const handle : handles) {
      EXPECT_TRUE(Ok(db->DestroyColumnFamilyHandle(handle)));
    }
    EXPECT_TRUE(Ok(db->Close()));
  }
}

TEST_F(RocksDBDatabase, PessimisticTransactions) {
  Model model;
  {
    rocksdb::TransactionDB* opened = nullptr;
    ASSERT_TRUE(Ok(rocksdb::TransactionDB::Open(
        SmallOptions(), rocksdb::TransactionDBOptions(), "/db", &opened)));
    const std::unique_ptr<rocksdb::TransactionDB> db(opened);
    for (uint64_t i = 0; i < 200; ++i) {
      const std::unique_ptr<rocksdb::Transaction> transaction(
          db->BeginTransaction(WriteOptions()));
      ASSERT_TRUE(Ok(transaction->SetName("transaction" + std::to_string(i))));
      ASSERT_TRUE(Ok(transaction->Put(Key(i), Value(i, 1))));
      ASSERT_TRUE(Ok(transaction->Prepare()));
      if (i % 4 == 0) {
        ASSERT_TRUE(Ok(transaction->Rollback()));
      } else {
        ASSERT_TRUE(Ok(transaction->Commit()));
        model[Key(i)] = Value(i, 1);
      }
    }
    // Prepared and not committed: recovery brings it back.
    rocksdb::Transaction* const left = db->BeginTransaction(WriteOptions());
    ASSERT_TRUE(Ok(left->SetName("left")));
    ASSERT_TRUE(Ok(left->Put("left", "over")));
    ASSERT_TRUE(Ok(left->Prepare()));
    delete left;
  }
  Remount();
  rocksdb::TransactionDB* opened = nullptr;
  ASSERT_TRUE(Ok(rocksdb::TransactionDB::Open(
      SmallOptions(), rocksdb::TransactionDBOptions(), "/db", &opened)));
  const std::unique_ptr<rocksdb::TransactionDB> db(opened);
  ExpectHolds(db.get(), model);
  const std::unique_ptr<rocksdb::Transaction> left(
      db->GetTransactionByName("left"));
  ASSERT_NE(left, nullptr);
  EXPECT_TRUE(Ok(left->Commit()));
  model["left"] = "over";
  ExpectHolds(db.get(), model);
}

TEST_F(RocksDBDatabase, OptimisticTransactions) {
  Model model;
  {
    rocksdb::OptimisticTransactionDB* opened = nullptr;
    ASSERT_TRUE(Ok(rocksdb::OptimisticTransactionDB::Open(SmallOptions(), "/db",
                                                          &opened)));
    const std::unique_ptr<rocksdb::OptimisticTransactionDB> db(opened);
    Fill(db.get(), 1000, 1, &model);
    const std::unique_ptr<rocksdb::Transaction> transaction(
        db->BeginTransaction(WriteOptions()));
    ASSERT_TRUE(Ok(transaction->Put("in", "transaction")));
    ASSERT_TRUE(Ok(transaction->Commit()));
    model["in"] = "transaction";
  }
  ExpectHoldsAfterMount(SmallOptions(), "/db", model);
}

TEST_F(RocksDBDatabase, BlobFiles) {
  Options options = SmallOptions();
  options.enable_blob_files = true;
  options.min_blob_size = 200;
  options.blob_file_size = 256 << 10;
  options.enable_blob_garbage_collection = true;
  options.blob_garbage_collection_age_cutoff = 0.5;
  RoundTrip(options);
  EXPECT_TRUE(AnyFileEndsWith("/db", ".blob"));
}

TEST_F(RocksDBDatabase, DirectModesAreAskedFor) {
  Options options = SmallOptions();
  options.use_direct_reads = true;
  options.use_direct_io_for_flush_and_compaction = true;
  RoundTrip(options);
}

TEST_F(RocksDBDatabase, MappedModesAreAskedFor) {
  Options options = SmallOptions();
  options.allow_mmap_reads = true;
  options.allow_mmap_writes = true;
  RoundTrip(options);
}

// Reads without memory of its own, as only a mapped file allows.
TEST_F(RocksDBDatabase, PlainTables) {
  Options options = SmallOptions();
  options.allow_mmap_reads = true;
  options.prefix_extractor.reset(rocksdb::NewFixedPrefixTransform(5));
  rocksdb::PlainTableOptions table;
  table.hash_table_ratio = 0;  // a total order
  options.table_factory.reset(rocksdb::NewPlainTableFactory(table));
  Model model;
  {
    const auto db = Open(options, "/db");
    Put(db.get(), 0, 1000, 1, &model);
    ASSERT_TRUE(Ok(db->Flush(rocksdb::FlushOptions())));
    EXPECT_TRUE(Ok(db->Close()));
  }
  Remount();
  options.env = env_.get();
  const auto db = Open(options, "/db");
  for (const auto& [key, expected] : model) {
    std::string value;
    ASSERT_TRUE(Ok(db->Get(ReadOptions(), key, &value)));
    ASSERT_EQ(value, expected);
  }
}

TEST_F(RocksDBDatabase, ChecksumsAreHandedOff) {
  Options options = SmallOptions();
  options.enable_blob_files = true;
  options.min_blob_size = 300;
  for (const auto type :
       {rocksdb::FileType::kWalFile, rocksdb::FileType::kTableFile,
        rocksdb::FileType::kDescriptorFile, rocksdb::FileType::kBlobFile}) {
    options.checksum_handoff_file_types.Add(type);
  }
  RoundTrip(options);
}

TEST_F(RocksDBDatabase, TheWalLiesElsewhere) {
  Options options = SmallOptions();
  options.wal_dir = "/wals/of/db";
  RoundTrip(options);
  EXPECT_TRUE(AnyFileEndsWith("/wals/of/db", ".log"));
  EXPECT_FALSE(AnyFileEndsWith("/db", ".log"));
}

TEST_F(RocksDBDatabase, WalsAreReused) {
  Options options = SmallOptions();
  options.recycle_log_file_num = 3;
  // RocksDB does not recycle under the other modes.
  options.wal_recovery_mode =
      rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
  RoundTrip(options);
}

TEST_F(RocksDBDatabase, TheWalIsFlushedByHand) {
  Options options = SmallOptions();
  options.manual_wal_flush = true;
  options.track_and_verify_wals_in_manifest = true;
  options.wal_bytes_per_sync = 16 << 10;
  options.bytes_per_sync = 64 << 10;
  Model model;
  {
    const auto db = Open(options, "/db");
    Put(db.get(), 0, 500, 1, &model);
    ASSERT_TRUE(Ok(db->FlushWAL(/*sync=*/false)));
    Put(db.get(), 500, 500, 1, &model);
    ASSERT_TRUE(Ok(db->FlushWAL(/*sync=*/true)));
    ASSERT_TRUE(Ok(db->SyncWAL()));
    EXPECT_TRUE(Ok(db->Close()));
  }
  ExpectHoldsAfterMount(options, "/db", model);
}

TEST_F(RocksDBDatabase, SyncedWritesOfSeveralThreads) {
  Model model;
  {
    const auto db = Open(SmallOptions(), "/db");
    WriteOptions synced;
    synced.sync = true;
    std::vector<Model> models(4);
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < models.size(); ++i) {
      threads.emplace_back(
          [&, i] { Put(db.get(), i * 1000, 50, i, &models[i], synced); });
    }
    for (std::thread& thread : threads) thread.join();
    for (Model& part : models) model.merge(part);
    EXPECT_TRUE(Ok(db->Close()));
  }
  EXPECT_EQ(model.size(), 200U);
  ExpectHoldsAfterMount(SmallOptions(), "/db", model);
}

TEST_F(RocksDBDatabase, SeveralDatabasesOnOneVolume) {
  std::vector<Model> models(3);
  {
    std::vector<std::unique_ptr<DB>> dbs;
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < models.size(); ++i) {
      dbs.push_back(Open(SmallOptions(), "/dbs/" + std::to_string(i)));
      ASSERT_NE(dbs.back(), nullptr);
      threads.emplace_back(
          [&, i] { Fill(dbs[i].get(), 1500, i + 1, &models[i]); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& db : dbs) EXPECT_TRUE(Ok(db->Close()));
  }
  for (uint64_t i = 0; i < models.size(); ++i) {
    ExpectHoldsAfterMount(SmallOptions(), "/dbs/" + std::to_string(i),
                          models[i]);
  }
}

TEST_F(RocksDBDatabase, MultiGetReadsManyBlocksAtOnce) {
  Model model;
  const auto db = Open(SmallOptions(), "/db");
  Fill(db.get(), kKeys, 1, &model);
  std::vector<std::string> names;
  for (const auto& [key, value] : model) {
    if (names.size() < 300) names.push_back(key);
  }
  std::vector<Slice> keys(names.begin(), names.end());
  std::vector<rocksdb::PinnableSlice> values(keys.size());
  std::vector<Status> statuses(keys.size());
  ReadOptions options;
  options.verify_checksums = true;
  db->MultiGet(options, db->DefaultColumnFamily(), keys.size(), keys.data(),
               values.data(), statuses.data());
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_TRUE(Ok(statuses[i]));
    ASSERT_EQ(values[i].ToString(), model[names[i]]);
  }
}

TEST_F(RocksDBDatabase, IteratorsThatReadAhead) {
  Model model;
  {
    const auto db = Open(SmallOptions(), "/db");
    Fill(db.get(), kKeys, 1, &model);
  }
  for (const bool async : {true, false}) {
    Remount();
    Options options = SmallOptions();
    const auto db = Open(options, "/db");
    ReadOptions read;
    read.verify_checksums = true;
    read.async_io = async;
    read.readahead_size = async ? 32 << 10 : 0;
    const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(read));
    auto next = model.begin();
    for (it->SeekToFirst(); it->Valid(); it->Next(), ++next) {
      ASSERT_NE(next, model.end());
      ASSERT_EQ(it->key().ToString(), next->first);
      ASSERT_EQ(it->value().ToString(), next->second);
    }
    EXPECT_TRUE(Ok(it->status()));
    EXPECT_EQ(next, model.end());
    // Seeks leave reads behind that have to be aborted.
    for (uint64_t i = 0; i < kKeys; i += 97) {
      const auto expected = model.lower_bound(Key(i));
      it->Seek(Key(i));
      ASSERT_EQ(it->Valid(), expected != model.end());
      if (it->Valid()) {
        ASSERT_EQ(it->key().ToString(), expected->first);
      }
    }
    EXPECT_TRUE(Ok(it->status()));
  }
}

TEST_F(RocksDBDatabase, ASecondOpenIsRefused) {
  const auto db = Open(SmallOptions(), "/db");
  DB* second = nullptr;
  const Status status = DB::Open(SmallOptions(), "/db", &second);
  EXPECT_TRUE(status.IsIOError()) << status.ToString();
  EXPECT_NE(status.ToString().find("LOCK"), std::string::npos)
      << status.ToString();
  EXPECT_EQ(second, nullptr);
}

TEST_F(RocksDBDatabase, ReadersBesideAWriter) {
  Model model;
  const auto db = Open(SmallOptions(), "/db");
  Fill(db.get(), 1000, 1, &model);
  Put(db.get(), 5000, 100, 1, &model);

  DB* opened = nullptr;
  ASSERT_TRUE(Ok(DB::OpenForReadOnly(SmallOptions(), "/db", &opened)));
  const std::unique_ptr<DB> read_only(opened);
  ExpectHolds(read_only.get(), model);
  EXPECT_FALSE(read_only->Put(WriteOptions(), "key", "value").ok());

  Options options = SmallOptions();
  options.max_open_files = -1;
  ASSERT_TRUE(Ok(DB::OpenAsSecondary(options, "/db", "/secondary", &opened)));
  const std::unique_ptr<DB> secondary(opened);
  ExpectHolds(secondary.get(), model);
  Put(db.get(), 6000, 100, 2, &model);
  ASSERT_TRUE(Ok(secondary->TryCatchUpWithPrimary()));
  ExpectHolds(secondary.get(), model);
}

TEST_F(RocksDBDatabase, ReadOnlyOnAReadOnlyVolume) {
  Model model;
  {
    const auto db = Open(SmallOptions(), "/db");
    Fill(db.get(), 1000, 1, &model);
  }
  env_.reset();
  env_ = volume_.MountEnv("ro=1");
  ASSERT_NE(env_, nullptr);
  DB* opened = nullptr;
  ASSERT_TRUE(Ok(DB::OpenForReadOnly(SmallOptions(), "/db", &opened)));
  const std::unique_ptr<DB> db(opened);
  ExpectHolds(db.get(), model);
  Options options = SmallOptions();
  EXPECT_FALSE(DB::Open(options, "/new", &opened).ok());
}

TEST_F(RocksDBDatabase, DestroyedWithoutATrace) {
  Options options = SmallOptions();
  options.wal_dir = "/wal";
  options.enable_blob_files = true;
  Model model;
  {
    const auto db = Open(options, "/db");
    Fill(db.get(), 1000, 1, &model);
  }
  EXPECT_FALSE(Children("/db").empty());
  EXPECT_TRUE(Ok(rocksdb::DestroyDB("/db", options)));
  EXPECT_TRUE(env_->FileExists("/db").IsNotFound());
  EXPECT_TRUE(env_->FileExists("/wal").IsNotFound());
  // And its name is free.
  model.clear();
  const auto db = Open(SmallOptions(), "/db");
  Put(db.get(), 0, 10, 3, &model);
  ExpectHolds(db.get(), model);
}

}  // namespace
}  // namespace diofs
