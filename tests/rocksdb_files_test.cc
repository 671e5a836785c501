// The files that a FileSystem opens, one after another as RocksDB uses them.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "env/coding.h"
#include "env/crc32c.h"
#include "env/rocksdb_loaded_file.h"
#include "env/rocksdb_random_access_file.h"
#include "env/rocksdb_random_rw_file.h"
#include "env/rocksdb_sequential_file.h"
#include "env/rocksdb_writable_file.h"
#include "tests/rocksdb_file_system_fixture.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

using rocksdb::DataVerificationInfo;
using rocksdb::FileOptions;
using rocksdb::FSReadRequest;
using rocksdb::IOStatus;
using rocksdb::Slice;

class RocksDBFiles : public FileSystemTest {};
INSTANTIATE_TEST_SUITE_P(On, RocksDBFiles, AllMedia(), NameOfMedium);

// ---- Writing ---------------------------------------------------------------

TEST_P(RocksDBFiles, WhatIsFlushedIsSeenWhileTheFileIsOpen) {
  const auto file = Create("/000001.log");
  EXPECT_EQ(SizeOf("/000001.log"), 0U);
  file->SetPreallocationBlockSize(4 << 20);
  std::string expected;
  for (size_t bytes : {1, 4095, 1, 4096, 140, 100000, 3}) {
    const std::string piece = TestBytes(bytes, bytes);
    file->PrepareWrite(expected.size(), bytes, io_options_, nullptr);
    ASSERT_TRUE(Ok(Append(file.get(), piece)));
    expected += piece;
    EXPECT_EQ(file->GetFileSize(io_options_, nullptr), expected.size());
    ASSERT_TRUE(Ok(Flush(file.get())));
    // Without what was allocated ahead.
    EXPECT_EQ(SizeOf("/000001.log"), expected.size());
    EXPECT_EQ(Read("/000001.log"), expected);
  }
  EXPECT_TRUE(Ok(Sync(file.get())));
  EXPECT_TRUE(Ok(file->Fsync(io_options_, nullptr)));
  EXPECT_TRUE(Ok(file->RangeSync(0, 4096, io_options_, nullptr)));
  EXPECT_TRUE(Ok(Close(file.get())));
  EXPECT_TRUE(Ok(Close(file.get())));
  EXPECT_EQ(Read("/000001.log"), expected);
}

TEST_P(RocksDBFiles, TheDestructorCloses) {
  {
    const auto file = Create("/000001.dbtmp");
    ASSERT_TRUE(Ok(Append(file.get(), "MANIFEST-000001\n")));
  }
  EXPECT_EQ(Read("/000001.dbtmp"), "MANIFEST-000001\n");
  Remount();
  EXPECT_EQ(Read("/000001.dbtmp"), "MANIFEST-000001\n");
}

TEST_P(RocksDBFiles, WhatRocksDBIsToldAboutAFile) {
  const auto file = Create("/000001.log");
  EXPECT_TRUE(file->IsSyncThreadSafe());
  EXPECT_FALSE(file->use_direct_io());
  EXPECT_EQ(file->GetRequiredBufferAlignment(), 4096U);
  EXPECT_TRUE(Ok(file->InvalidateCache(0, 0)));
  size_t block = 0;
  size_t last = 1;
  file->SetPreallocationBlockSize(12345);
  file->GetPreallocationStatus(&block, &last);
  EXPECT_EQ(block, 12345U);
  const auto random = OpenRandom("/000001.log");
  EXPECT_FALSE(random->use_direct_io());
  EXPECT_EQ(random->GetRequiredBufferAlignment(), 4096U);
  EXPECT_TRUE(random->Prefetch(0, 4096, io_options_, nullptr).IsNotSupported());
  EXPECT_TRUE(Ok(random->InvalidateCache(0, 0)));
  const auto sequential = OpenSequential("/000001.log");
  EXPECT_FALSE(sequential->use_direct_io());
  EXPECT_EQ(sequential->GetRequiredBufferAlignment(), 4096U);
  Write("/file", "");
  EXPECT_FALSE(OpenRandomRW("/file")->use_direct_io());
}

// RocksDB changes no log in place.
TEST_P(RocksDBFiles, ALogIsNotOpenedToBeChangedInPlace) {
  Write("/000001.log", "content");
  std::unique_ptr<rocksdb::FSRandomRWFile> file;
  EXPECT_TRUE(fs_->NewRandomRWFile("/000001.log", file_options_, &file, nullptr)
                  .IsNotSupported());
  EXPECT_EQ(file, nullptr);
}

TEST_P(RocksDBFiles, ANewFileUnderAnOldNameLeavesReadersTheirs) {
  Write("/file", "old content");
  const auto reader = OpenRandom("/file");
  const auto file = Create("/file");
  EXPECT_EQ(Read("/file"), "");
  ASSERT_TRUE(Ok(Append(file.get(), "new")));
  ASSERT_TRUE(Ok(Close(file.get())));
  EXPECT_EQ(ReadAt(*reader, 0, 100), "old content");
  EXPECT_EQ(Read("/file"), "new");
}

TEST_P(RocksDBFiles, ReopenAppendsAndCreates) {
  Write("/file", "one ");
  auto file = Reopen("/file");
  EXPECT_EQ(file->GetFileSize(io_options_, nullptr), 4U);
  ASSERT_TRUE(Ok(Append(file.get(), "two")));
  ASSERT_TRUE(Ok(Close(file.get())));
  EXPECT_EQ(Read("/file"), "one two");
  file = Reopen("/new");
  ASSERT_TRUE(Ok(Append(file.get(), "three")));
  ASSERT_TRUE(Ok(Sync(file.get())));
  EXPECT_EQ(Read("/new"), "three");
}

TEST_P(RocksDBFiles, ReuseStartsAnEmptyFileInPlaceOfTheOld) {
  Write("/000001.log", "old records");
  Write("/000002.log", "in the way");
  std::unique_ptr<rocksdb::FSWritableFile> file;
  ASSERT_TRUE(Ok(fs_->ReuseWritableFile("/000002.log", "/000001.log",
                                        file_options_, &file, nullptr)));
  EXPECT_TRUE(Exists("/000001.log").IsNotFound());
  EXPECT_EQ(Read("/000002.log"), "");
  ASSERT_TRUE(Ok(Append(file.get(), "new")));
  ASSERT_TRUE(Ok(Sync(file.get())));
  EXPECT_EQ(Read("/000002.log"), "new");
}

TEST_P(RocksDBFiles, TruncateCutsAndAppendGoesOnThere) {
  const std::string data = TestBytes(3, 20000);
  const auto file = Create("/000001.log");
  ASSERT_TRUE(Ok(Append(file.get(), data)));
  ASSERT_TRUE(Ok(file->Truncate(5001, io_options_, nullptr)));
  EXPECT_EQ(file->GetFileSize(io_options_, nullptr), 5001U);
  ASSERT_TRUE(Ok(Append(file.get(), "tail")));
  ASSERT_TRUE(Ok(Close(file.get())));
  EXPECT_EQ(Read("/000001.log"), data.substr(0, 5001) + "tail");
  EXPECT_TRUE(Ok(fs_->Truncate("/000001.log", 100, io_options_, nullptr)));
  EXPECT_EQ(Read("/000001.log"), data.substr(0, 100));
  Remount();
  EXPECT_EQ(Read("/000001.log"), data.substr(0, 100));
}

TEST_P(RocksDBFiles, PositionedAppendOverwritesAndExtends) {
  const auto file = Create("/file");
  ASSERT_TRUE(Ok(
      file->PositionedAppend(std::string(6000, 'a'), 0, io_options_, nullptr)));
  ASSERT_TRUE(Ok(file->PositionedAppend(std::string(6000, 'b'), 4096,
                                        io_options_, nullptr)));
  EXPECT_EQ(file->GetFileSize(io_options_, nullptr), 10096U);
  ASSERT_TRUE(Ok(Close(file.get())));
  EXPECT_EQ(Read("/file"), std::string(4096, 'a') + std::string(6000, 'b'));
}

TEST_P(RocksDBFiles, AnAppendThatDoesNotMatchItsChecksumWritesNothing) {
  const auto file = Create("/000001.sst");
  const std::string data = TestBytes(9, 5000);
  std::string checksum;
  PutFixed32(&checksum, Crc32c(data.data(), data.size()));
  DataVerificationInfo good;
  good.checksum = checksum;
  EXPECT_TRUE(Ok(file->Append(data, io_options_, good, nullptr)));
  EXPECT_TRUE(Ok(
      file->PositionedAppend(data, data.size(), io_options_, good, nullptr)));
  EXPECT_TRUE(
      Ok(file->Append("x", io_options_, DataVerificationInfo(), nullptr)));

  std::string changed = data;
  changed[1234] = static_cast<char>(changed[1234] ^ 0x10);
  for (const IOStatus& status :
       {file->Append(changed, io_options_, good, nullptr),
        file->PositionedAppend(changed, 10001, io_options_, good, nullptr)}) {
    EXPECT_TRUE(status.IsCorruption()) << status.ToString();
    EXPECT_NE(status.ToString().find("/000001.sst"), std::string::npos);
  }
  DataVerificationInfo strange;
  strange.checksum = "12345678";
  EXPECT_TRUE(
      file->Append(data, io_options_, strange, nullptr).IsInvalidArgument());
  EXPECT_EQ(file->GetFileSize(io_options_, nullptr), 10001U);
  EXPECT_TRUE(Ok(Close(file.get())));
  EXPECT_EQ(Read("/000001.sst"), data + data + "x");
}

TEST_P(RocksDBFiles, SyncRunsBesideAppend) {
  const auto file = Create("/000001.log");
  std::atomic<bool> done{false};
  std::atomic<int> syncs{0};
  std::thread syncer([&] {
    while (!done) {
      EXPECT_TRUE(Ok(Sync(file.get())));
      ++syncs;
    }
  });
  std::string expected;
  for (int i = 0; i < 300 || syncs == 0; ++i) {
    const std::string piece = TestBytes(i, 1 + i % 700);
    EXPECT_TRUE(Ok(Append(file.get(), piece)));
    EXPECT_TRUE(Ok(Flush(file.get())));
    expected += piece;
  }
  done = true;
  syncer.join();
  EXPECT_TRUE(Ok(Close(file.get())));
  EXPECT_EQ(Read("/000001.log"), expected);
}

TEST_P(RocksDBFiles, ADeletedFileStaysWithWhoHasItOpen) {
  Write("/000001.sst", "table");
  const auto reader = OpenRandom("/000001.sst");
  const auto writer = Create("/000002.log");
  ASSERT_TRUE(Ok(Append(writer.get(), "before ")));
  const auto log_reader = OpenSequential("/000002.log");
  EXPECT_TRUE(Ok(fs_->DeleteFile("/000001.sst", io_options_, nullptr)));
  EXPECT_TRUE(Ok(fs_->DeleteFile("/000002.log", io_options_, nullptr)));
  EXPECT_TRUE(Children("/").empty());
  ASSERT_TRUE(Ok(Append(writer.get(), "after")));
  ASSERT_TRUE(Ok(Sync(writer.get())));
  // Its blocks are not given to anybody else.
  Write("/other", std::string(100000, 'z'));
  EXPECT_EQ(ReadAt(*reader, 0, 100), "table");
  EXPECT_EQ(ReadOn(log_reader.get()), "before after");
}

// ---- Reading ---------------------------------------------------------------

TEST_P(RocksDBFiles, SequentialReadsSkipsAndGoesOnAfterTheEnd) {
  const std::string data = TestBytes(5, 200001);
  const auto writer = Create("/000001.log");
  ASSERT_TRUE(Ok(Append(writer.get(), data)));
  ASSERT_TRUE(Ok(Flush(writer.get())));
  auto file = OpenSequential("/000001.log");
  EXPECT_EQ(ReadOn(file.get(), 32768), data);
  // TransactionLogIterator waits at the end for more.
  ASSERT_TRUE(Ok(Append(writer.get(), "more")));
  ASSERT_TRUE(Ok(Flush(writer.get())));
  EXPECT_EQ(ReadOn(file.get()), "more");

  file = OpenSequential("/000001.log");
  std::string scratch(1000, '\0');
  Slice part;
  ASSERT_TRUE(
      Ok(file->Read(1000, io_options_, &part, scratch.data(), nullptr)));
  EXPECT_EQ(part.data(), scratch.data());
  ASSERT_TRUE(Ok(file->Skip(5000)));
  ASSERT_TRUE(
      Ok(file->Read(1000, io_options_, &part, scratch.data(), nullptr)));
  EXPECT_EQ(part.ToString(), data.substr(6000, 1000));
  EXPECT_TRUE(Ok(file->PositionedRead(17, 1000, io_options_, &part,
                                      scratch.data(), nullptr)));
  EXPECT_EQ(part.ToString(), data.substr(17, 1000));
  EXPECT_TRUE(Ok(file->InvalidateCache(0, 0)));
  EXPECT_TRUE(Ok(file->Skip(1 << 30)));
  EXPECT_EQ(ReadOn(file.get()), "");
}

TEST_P(RocksDBFiles, RandomReadsOfAnyOffsetAndLength) {
  const std::string data = TestBytes(11, 300007);
  Write("/000001.sst", data);
  const auto file = OpenRandom("/000001.sst");
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 200; ++i) {
    const uint64_t offset = random() % (data.size() + 5000);
    const size_t length = random() % (i % 4 == 0 ? 100000 : 9000);
    const std::string expected =
        offset < data.size() ? data.substr(offset, length) : "";
    ASSERT_EQ(ReadAt(*file, offset, length), expected)
        << offset << "+" << length;
  }
  Slice part("x", 1);
  EXPECT_TRUE(file->Read(0, 10, io_options_, &part, nullptr, nullptr)
                  .IsInvalidArgument());
  EXPECT_TRUE(part.empty());
}

TEST_P(RocksDBFiles, MultiReadAnswersEveryRequestForItself) {
  const std::string data = TestBytes(13, 300007);
  Write("/000001.sst", data);
  const auto file = OpenRandom("/000001.sst");
  std::mt19937_64 random(TestSeed());
  for (const size_t count : {0, 1, 2, 32, 150}) {
    std::vector<FSReadRequest> requests(count);
    std::vector<std::string> memory(count);
    for (size_t i = 0; i < count; ++i) {
      requests[i].offset = random() % (data.size() + 3000);
      requests[i].len = i % 7 == 3 ? 0 : random() % 6000;
      memory[i].resize(requests[i].len);
      requests[i].scratch = memory[i].data();
      requests[i].status = IOStatus::Busy();
    }
    const uint64_t submits = fs_->volume()->device()->stats().ring_submits;
    ASSERT_TRUE(
        Ok(file->MultiRead(requests.data(), count, io_options_, nullptr)));
    EXPECT_LE(fs_->volume()->device()->stats().ring_submits - submits,
              1 + count / 64);
    for (const FSReadRequest& request : requests) {
      EXPECT_TRUE(Ok(request.status));
      const std::string expected =
          request.offset < data.size()
              ? data.substr(request.offset, request.len)
              : "";
      ASSERT_EQ(request.result.ToString(), expected);
      EXPECT_TRUE(expected.empty() || request.result.data() == request.scratch);
    }
  }
  FSReadRequest without_memory;
  without_memory.offset = 0;
  without_memory.len = 10;
  without_memory.scratch = nullptr;
  EXPECT_TRUE(file->MultiRead(&without_memory, 1, io_options_, nullptr)
                  .IsInvalidArgument());
}

// PlainTable and CuckooTable pass no memory and keep what they are given.
TEST_P(RocksDBFiles, AFileOpenedAsMappedIsReadIntoMemory) {
  const std::string data = TestBytes(17, 100003);
  Write("/000001.sst", data);
  Write("/empty", "");
  FileOptions mapped;
  mapped.use_mmap_reads = true;
  std::unique_ptr<rocksdb::FSRandomAccessFile> file;
  ASSERT_TRUE(
      Ok(fs_->NewRandomAccessFile("/000001.sst", mapped, &file, nullptr)));
  EXPECT_TRUE(Ok(fs_->DeleteFile("/000001.sst", io_options_, nullptr)));
  Slice first;
  Slice second;
  ASSERT_TRUE(Ok(file->Read(10, 5000, io_options_, &first, nullptr, nullptr)));
  ASSERT_TRUE(
      Ok(file->Read(100000, 5000, io_options_, &second, nullptr, nullptr)));
  EXPECT_EQ(first.ToString(), data.substr(10, 5000));
  EXPECT_EQ(second.ToString(), data.substr(100000));
  EXPECT_EQ(ReadAt(*file, 77, 9000), data.substr(77, 9000));
  EXPECT_TRUE(Ok(file->Read(200000, 1, io_options_, &first, nullptr, nullptr)));
  EXPECT_TRUE(first.empty());
  ASSERT_TRUE(Ok(fs_->NewRandomAccessFile("/empty", mapped, &file, nullptr)));
  EXPECT_EQ(ReadAt(*file, 0, 10), "");
}

// ---- Reading and writing ---------------------------------------------------

TEST_P(RocksDBFiles, RandomRWChangesAFileInPlace) {
  std::string data = TestBytes(19, 20001);
  Write("/000001.sst", data);
  EXPECT_TRUE(
      Ok(fs_->LinkFile("/000001.sst", "/link.sst", io_options_, nullptr)));
  const auto open_before = OpenRandom("/link.sst");
  {
    const auto file = OpenRandomRW("/000001.sst");
    data.replace(8191, 8, "sequence");
    ASSERT_TRUE(Ok(file->Write(8191, "sequence", io_options_, nullptr)));
    EXPECT_EQ(ReadAt(*file, 8000, 500), data.substr(8000, 500));
    EXPECT_EQ(ReadAt(*open_before, 8000, 500), data.substr(8000, 500));
    data += "longer";
    ASSERT_TRUE(Ok(file->Write(20001, "longer", io_options_, nullptr)));
    ASSERT_TRUE(Ok(file->Flush(io_options_, nullptr)));
    ASSERT_TRUE(Ok(file->Sync(io_options_, nullptr)));
    ASSERT_TRUE(Ok(file->Fsync(io_options_, nullptr)));
    ASSERT_TRUE(Ok(file->Close(io_options_, nullptr)));
  }
  EXPECT_EQ(Read("/link.sst"), data);
  Remount();
  EXPECT_EQ(Read("/000001.sst"), data);
}

}  // namespace
}  // namespace diofs
