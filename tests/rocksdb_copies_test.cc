// Tables and databases that move: ingestion, checkpoint, export, backup.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "rocksdb/db.h"
#include "rocksdb/sst_file_writer.h"
#include "rocksdb/utilities/backup_engine.h"
#include "rocksdb/utilities/checkpoint.h"
#include "tests/rocksdb_file_system_fixture.h"
#include "tests/rocksdb_test_db.h"

namespace diofs {
namespace {

using rocksdb::BackupEngine;
using rocksdb::BackupEngineOptions;
using rocksdb::Env;
using rocksdb::IngestExternalFileOptions;
using rocksdb::Options;

class RocksDBCopies : public DatabaseTest {
 protected:
  // A table of `count` keys, to be ingested.
  void WriteTable(const std::string& path, uint64_t first, uint64_t count,
                  uint64_t seed, Model* model) {
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), SmallOptions());
    ASSERT_TRUE(Ok(writer.Open(path)));
    for (uint64_t i = first; i < first + count; ++i) {
      ASSERT_TRUE(Ok(writer.Put(Key(i), Value(i, seed))));
      (*model)[Key(i)] = Value(i, seed);
    }
    ASSERT_TRUE(Ok(writer.Finish()));
  }

  void Ingest(bool move, bool write_global_seqno) {
    Model model;
    ASSERT_TRUE(Ok(env_->CreateDirIfMissing("/tables")));
    {
      const auto db = Open(SmallOptions(), "/db");
      Put(db.get(), 0, 1000, 1, &model);
      // A snapshot, and keys that are there already, so that the tables need a
      // sequence number of their own.
      const rocksdb::Snapshot* const snapshot = db->GetSnapshot();
      WriteTable("/tables/one.sst", 500, 300, 2, &model);
      WriteTable("/tables/two.sst", 900, 400, 3, &model);
      IngestExternalFileOptions options;
      options.move_files = move;
      options.write_global_seqno = write_global_seqno;
      options.verify_checksums_before_ingest = true;
      ASSERT_TRUE(Ok(db->IngestExternalFile(
          {"/tables/one.sst", "/tables/two.sst"}, options)));
      db->ReleaseSnapshot(snapshot);
      EXPECT_EQ(env_->FileExists("/tables/one.sst").IsNotFound(), move);
      ExpectHolds(db.get(), model);
      EXPECT_TRUE(Ok(db->Close()));
    }
    ExpectHoldsAfterMount(SmallOptions(), "/db", model);
  }

  static std::unique_ptr<BackupEngine> OpenBackups(
      const BackupEngineOptions& options) {
    BackupEngine* engine = nullptr;
    EXPECT_TRUE(Ok(BackupEngine::Open(options, Env::Default(), &engine)));
    return std::unique_ptr<BackupEngine>(engine);
  }
};

TEST_F(RocksDBCopies, IngestByMove) { Ingest(true, false); }
TEST_F(RocksDBCopies, IngestByMoveAndWriteASequenceNumber) {
  Ingest(true, true);
}
TEST_F(RocksDBCopies, IngestByCopy) { Ingest(false, false); }
TEST_F(RocksDBCopies, IngestByCopyAndWriteASequenceNumber) {
  Ingest(false, true);
}

TEST_F(RocksDBCopies, ACheckpointIsADatabaseOfItsOwn) {
  Options options = SmallOptions();
  options.enable_blob_files = true;
  options.min_blob_size = 300;
  Model then;
  Model now;
  {
    const auto db = Open(options, "/db");
    Fill(db.get(), 1500, 1, &then);
    Put(db.get(), 2000, 100, 1, &then);
    rocksdb::Checkpoint* made = nullptr;
    ASSERT_TRUE(Ok(rocksdb::Checkpoint::Create(db.get(), &made)));
    const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
    ASSERT_TRUE(Ok(checkpoint->CreateCheckpoint("/checkpoint")));
    EXPECT_TRUE(env_->FileExists("/checkpoint.tmp").IsNotFound());
    // Without flushing: the live WAL is copied.
    ASSERT_TRUE(Ok(checkpoint->CreateCheckpoint("/with_wal", 1 << 30)));

    now = then;
    Fill(db.get(), 1500, 2, &now);
    ExpectHolds(db.get(), now);
    EXPECT_TRUE(Ok(db->Close()));
  }
  ExpectHoldsAfterMount(options, "/db", now);
  ExpectHoldsAfterMount(options, "/checkpoint", then);
  ExpectHoldsAfterMount(options, "/with_wal", then);
  // The tables they share stay.
  options.env = env_.get();
  EXPECT_TRUE(Ok(rocksdb::DestroyDB("/db", options)));
  ExpectHoldsAfterMount(options, "/checkpoint", then);
}

TEST_F(RocksDBCopies, AColumnFamilyIsExportedAndImported) {
  Model model;
  const auto db = Open(SmallOptions(), "/db");
  Fill(db.get(), 1500, 1, &model);
  rocksdb::Checkpoint* made = nullptr;
  ASSERT_TRUE(Ok(rocksdb::Checkpoint::Create(db.get(), &made)));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  rocksdb::ExportImportFilesMetaData* exported = nullptr;
  ASSERT_TRUE(Ok(checkpoint->ExportColumnFamily(db->DefaultColumnFamily(),
                                                "/export", &exported)));
  const std::unique_ptr<rocksdb::ExportImportFilesMetaData> metadata(exported);

  const auto other = Open(SmallOptions(), "/other");
  rocksdb::ImportColumnFamilyOptions by_link;
  by_link.move_files = true;
  rocksdb::ColumnFamilyHandle* family = nullptr;
  ASSERT_TRUE(Ok(other->CreateColumnFamilyWithImport(
      SmallOptions(), "imported", by_link, *metadata, &family)));
  ExpectHolds(other.get(), family, model);
  EXPECT_TRUE(Ok(other->DestroyColumnFamilyHandle(family)));
}

TEST_F(RocksDBCopies, BackupToTheHostAndBack) {
  BackupEngineOptions backups(volume_.HostFile("backups"), Env::Default());
  Model model;
  {
    const auto db = Open(SmallOptions(), "/db");
    Fill(db.get(), 1500, 1, &model);
    Put(db.get(), 2000, 100, 1, &model);
    BackupEngine* engine = nullptr;
    ASSERT_TRUE(Ok(BackupEngine::Open(backups, env_.get(), &engine)));
    const std::unique_ptr<BackupEngine> guard(engine);
    ASSERT_TRUE(Ok(engine->CreateNewBackup(db.get())));
    ASSERT_TRUE(Ok(engine->VerifyBackup(1, /*verify_with_checksum=*/true)));
    ASSERT_TRUE(
        Ok(engine->RestoreDBFromLatestBackup("/restored", "/restored")));
  }
  ExpectHoldsAfterMount(SmallOptions(), "/restored", model);

  // Also to the host's own file system.
  const auto engine = OpenBackups(backups);
  const std::string restored = volume_.HostFile("restored");
  ASSERT_TRUE(Ok(engine->RestoreDBFromLatestBackup(restored, restored)));
  Options options = SmallOptions();
  options.env = Env::Default();
  const auto db = Open(options, restored);
  ExpectHolds(db.get(), model);
}

TEST_F(RocksDBCopies, BackupFromTheHostAndItsRestoreThere) {
  BackupEngineOptions backups("/backups/of/host", env_.get());
  Options options = SmallOptions();
  options.env = Env::Default();
  Model model;
  {
    const auto db = Open(options, volume_.HostFile("db"));
    Fill(db.get(), 1500, 1, &model);
    const auto engine = OpenBackups(backups);
    ASSERT_TRUE(Ok(engine->CreateNewBackup(db.get())));
    Put(db.get(), 0, 300, 9, &model);
    ASSERT_TRUE(Ok(engine->CreateNewBackup(db.get())));
    ASSERT_TRUE(Ok(engine->PurgeOldBackups(1)));
    ASSERT_TRUE(Ok(engine->GarbageCollect()));
  }
  Remount();
  backups.backup_env = env_.get();
  const auto engine = OpenBackups(backups);
  ASSERT_TRUE(Ok(engine->VerifyBackup(2, /*verify_with_checksum=*/true)));
  const std::string restored = volume_.HostFile("restored");
  ASSERT_TRUE(Ok(engine->RestoreDBFromLatestBackup(restored, restored)));
  const auto db = Open(options, restored);
  ExpectHolds(db.get(), model);
}

}  // namespace
}  // namespace diofs
