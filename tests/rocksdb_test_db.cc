#include "tests/rocksdb_test_db.h"

#include <cstdio>

#include "rocksdb/cache.h"
#include "rocksdb/table.h"
#include "tests/rocksdb_file_system_fixture.h"

namespace diofs {

using rocksdb::ColumnFamilyHandle;
using rocksdb::DB;
using rocksdb::Options;
using rocksdb::ReadOptions;
using rocksdb::WriteOptions;

DatabaseTest::DatabaseTest() : volume_(Medium::kImage, 256 << 20) { Remount(); }

DatabaseTest::~DatabaseTest() = default;

Options DatabaseTest::SmallOptions() const {
  Options options;
  options.env = env_.get();
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.write_buffer_size = 128 << 10;
  options.target_file_size_base = 128 << 10;
  options.max_bytes_for_level_base = 512 << 10;
  options.compression = rocksdb::kNoCompression;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(64 << 10);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

void DatabaseTest::Remount() {
  env_.reset();
  env_ = volume_.MountEnv();
  ASSERT_NE(env_, nullptr);
}

std::unique_ptr<DB> DatabaseTest::Open(const Options& options,
                                       const std::string& path) {
  DB* db = nullptr;
  EXPECT_TRUE(Ok(DB::Open(options, path, &db)));
  return std::unique_ptr<DB>(db);
}

void DatabaseTest::ExpectHolds(DB* db, ColumnFamilyHandle* family,
                               const Model& model) {
  ReadOptions options;
  options.verify_checksums = true;
  for (const auto& [key, expected] : model) {
    std::string value;
    ASSERT_TRUE(Ok(db->Get(options, family, key, &value))) << key;
    ASSERT_EQ(value, expected) << key;
  }
  const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options, family));
  auto next = model.begin();
  for (it->SeekToFirst(); it->Valid(); it->Next(), ++next) {
    ASSERT_NE(next, model.end()) << "too much: " << it->key().ToString();
    ASSERT_EQ(it->key().ToString(), next->first);
    ASSERT_EQ(it->value().ToString(), next->second) << next->first;
  }
  EXPECT_TRUE(Ok(it->status()));
  EXPECT_EQ(next, model.end()) << "missing: " << next->first;
  EXPECT_TRUE(Ok(db->VerifyChecksum(options)));
}

void DatabaseTest::ExpectHoldsAfterMount(const Options& options,
                                         const std::string& path,
                                         const Model& model) {
  Remount();
  Options again = options;
  again.env = env_.get();
  again.create_if_missing = false;
  const auto db = Open(again, path);
  ASSERT_NE(db, nullptr);
  ExpectHolds(db.get(), model);
  EXPECT_TRUE(Ok(db->Close()));
}

void DatabaseTest::Put(DB* db, ColumnFamilyHandle* family, uint64_t first,
                       uint64_t count, uint64_t seed, Model* model,
                       const WriteOptions& options) {
  for (uint64_t i = first; i < first + count; ++i) {
    const std::string value = Value(i, seed);
    ASSERT_TRUE(Ok(db->Put(options, family, Key(i), value)));
    (*model)[Key(i)] = value;
  }
}

void DatabaseTest::Fill(DB* db, uint64_t count, uint64_t seed, Model* model) {
  Put(db, 0, count, seed, model);
  for (uint64_t i = 0; i < count; i += 3) {
    ASSERT_TRUE(Ok(db->Delete(WriteOptions(), Key(i))));
    model->erase(Key(i));
  }
  ASSERT_TRUE(Ok(db->Flush(rocksdb::FlushOptions())));
  ASSERT_TRUE(
      Ok(db->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr)));
}

std::string DatabaseTest::Key(uint64_t number) {
  char key[32];
  std::snprintf(key, sizeof(key), "key%08llu",
                static_cast<unsigned long long>(number));
  return key;
}

std::string DatabaseTest::Value(uint64_t number, uint64_t seed) {
  return TestBytes(number * 1000003 + seed, 50 + (number * 37 + seed) % 400);
}

std::vector<std::string> DatabaseTest::Children(const std::string& path) const {
  std::vector<std::string> names;
  EXPECT_TRUE(Ok(env_->GetChildren(path, &names)));
  return names;
}

}  // namespace diofs
