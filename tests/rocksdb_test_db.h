#ifndef DIOFS_TESTS_ROCKSDB_TEST_DB_H_
#define DIOFS_TESTS_ROCKSDB_TEST_DB_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rocksdb/db.h"
#include "rocksdb/options.h"
#include "tests/rocksdb_test_volume.h"

namespace diofs {

// What a column family is to hold.
using Model = std::map<std::string, std::string>;

// Whole databases on a volume of their own, each beside a Model of it. Closing
// and opening a database again is how a test asks whether everything is on the
// device.
class DatabaseTest : public testing::Test {
 protected:
  DatabaseTest();
  ~DatabaseTest() override;

  // Buffers, files and caches small enough that flush, compaction and reads
  // from the device all happen with a few thousand keys.
  rocksdb::Options SmallOptions() const;

  // Unmounts and mounts again; every database has to be closed.
  void Remount();

  std::unique_ptr<rocksdb::DB> Open(const rocksdb::Options& options,
                                    const std::string& path);
  // Of the default column family.
  static void ExpectHolds(rocksdb::DB* db, const Model& model) {
    ExpectHolds(db, db->DefaultColumnFamily(), model);
  }
  // Every key by Get and in order by an iterator, checksums verified.
  static void ExpectHolds(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family,
                          const Model& model);
  // Opens, expects and closes, after a mount of its own.
  void ExpectHoldsAfterMount(const rocksdb::Options& options,
                             const std::string& path, const Model& model);

  // `count` keys from number `first` on, with values that `seed` decides, into
  // `db` and `model`.
  static void Put(rocksdb::DB* db, rocksdb::ColumnFamilyHandle* family,
                  uint64_t first, uint64_t count, uint64_t seed, Model* model,
                  const rocksdb::WriteOptions& options = {});
  static void Put(rocksdb::DB* db, uint64_t first, uint64_t count,
                  uint64_t seed, Model* model,
                  const rocksdb::WriteOptions& options = {}) {
    Put(db, db->DefaultColumnFamily(), first, count, seed, model, options);
  }
  // As Put, then deletes every third of the keys, flushes and compacts.
  static void Fill(rocksdb::DB* db, uint64_t count, uint64_t seed,
                   Model* model);

  static std::string Key(uint64_t number);
  static std::string Value(uint64_t number, uint64_t seed);
  std::vector<std::string> Children(const std::string& path) const;

  TestVolume volume_;
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_ROCKSDB_TEST_DB_H_
