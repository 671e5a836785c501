#include "env/rocksdb_async_read.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/rocksdb_file_system_fixture.h"

namespace diofs {
namespace {

using rocksdb::FSReadRequest;
using rocksdb::IOHandleDeleter;
using rocksdb::IOStatus;

// One read as FilePrefetchBuffer asks for it, and what its callback was told.
struct Pending {
  ~Pending() {
    if (handle != nullptr) deleter(handle);
  }
  std::string memory;
  void* handle = nullptr;
  IOHandleDeleter deleter;
  int calls = 0;
  std::thread::id thread;
  IOStatus status;
  std::string data;
};

class RocksDBAsyncRead : public FileSystemTest {
 protected:
  void SetUp() override {
    FileSystemTest::SetUp();
    if (fs_ == nullptr) return;
    data_ = TestBytes(23, 500003);
    Write("/000001.sst", data_);
    file_ = OpenRandom("/000001.sst");
  }
  void TearDown() override { file_.reset(); }

  std::unique_ptr<Pending> Start(uint64_t offset, size_t length) {
    auto pending = std::make_unique<Pending>();
    pending->memory.resize(length);
    {
      FSReadRequest request;  // gone before the read is over
      request.offset = offset;
      request.len = length;
      request.scratch = pending->memory.data();
      EXPECT_TRUE(Ok(file_->ReadAsync(
          request, io_options_,
          [](const FSReadRequest& done, void* argument) {
            auto* const told = static_cast<Pending*>(argument);
            ++told->calls;
            told->thread = std::this_thread::get_id();
            told->status = done.status;
            told->data = done.result.ToString();
            EXPECT_TRUE(done.result.empty() ||
                        done.result.data() == told->memory.data());
          },
          pending.get(), &pending->handle, &pending->deleter, nullptr)));
    }
    return pending;
  }
  IOStatus Poll(const std::vector<Pending*>& reads) {
    std::vector<void*> handles = HandlesOf(reads);
    return fs_->Poll(handles, 1);
  }
  IOStatus Abort(const std::vector<Pending*>& reads) {
    std::vector<void*> handles = HandlesOf(reads);
    return fs_->AbortIO(handles);
  }

  std::string data_;
  std::unique_ptr<rocksdb::FSRandomAccessFile> file_;

 private:
  static std::vector<void*> HandlesOf(const std::vector<Pending*>& reads) {
    std::vector<void*> handles;
    handles.reserve(reads.size());
    for (Pending* const read : reads) handles.push_back(read->handle);
    return handles;
  }
};
INSTANTIATE_TEST_SUITE_P(On, RocksDBAsyncRead, AllMedia(), NameOfMedium);

TEST_P(RocksDBAsyncRead, PollCallsBackOnceOnItsOwnThread) {
  const auto aligned = Start(8192, 131072);
  const auto odd = Start(12345, 777);
  const auto at_end = Start(data_.size() - 10, 4096);
  const auto behind = Start(data_.size() + 10, 4096);
  EXPECT_NE(aligned->handle, nullptr);
  for (const Pending* const read :
       {aligned.get(), odd.get(), at_end.get(), behind.get()}) {
    EXPECT_EQ(read->calls, 0) << "called back before Poll";
  }
  ASSERT_TRUE(Ok(Poll({odd.get()})));
  EXPECT_EQ(odd->calls, 1);
  EXPECT_EQ(aligned->calls, 0);
  ASSERT_TRUE(Ok(Poll({aligned.get(), at_end.get(), behind.get()})));
  ASSERT_TRUE(Ok(Poll({odd.get()})));
  for (const auto& [read, expected] :
       std::vector<std::pair<const Pending*, std::string>>{
           {aligned.get(), data_.substr(8192, 131072)},
           {odd.get(), data_.substr(12345, 777)},
           {at_end.get(), data_.substr(data_.size() - 10)},
           {behind.get(), ""}}) {
    EXPECT_EQ(read->calls, 1);
    EXPECT_TRUE(Ok(read->status));
    EXPECT_EQ(read->data, expected);
    EXPECT_EQ(read->thread, std::this_thread::get_id());
  }
}

TEST_P(RocksDBAsyncRead, AnotherThreadMayPoll) {
  std::vector<std::unique_ptr<Pending>> reads;
  for (uint64_t i = 0; i < 16; ++i) reads.push_back(Start(i * 20000, 30000));
  std::thread::id poller;
  std::thread thread([&] {
    poller = std::this_thread::get_id();
    for (const auto& read : reads) EXPECT_TRUE(Ok(Poll({read.get()})));
  });
  thread.join();
  for (uint64_t i = 0; i < reads.size(); ++i) {
    EXPECT_EQ(reads[i]->calls, 1);
    EXPECT_EQ(reads[i]->thread, poller);
    EXPECT_EQ(reads[i]->data, data_.substr(i * 20000, 30000));
  }
}

// RocksDB frees what belongs to a read in its callback, so AbortIO calls back.
TEST_P(RocksDBAsyncRead, AbortCallsBackOnceWithAborted) {
  const auto first = Start(0, 100000);
  const auto second = Start(100000, 100000);
  const auto third = Start(200000, 1000);
  ASSERT_TRUE(Ok(Poll({second.get()})));
  ASSERT_TRUE(Ok(Abort({first.get(), second.get()})));
  ASSERT_TRUE(Ok(Abort({first.get()})));
  ASSERT_TRUE(Ok(Poll({first.get()})));
  EXPECT_EQ(first->calls, 1);
  EXPECT_TRUE(first->status.IsAborted()) << first->status.ToString();
  EXPECT_EQ(first->data, "");
  EXPECT_EQ(second->calls, 1);
  EXPECT_TRUE(Ok(second->status));
  // The others go on.
  EXPECT_EQ(third->calls, 0);
  ASSERT_TRUE(Ok(Poll({third.get()})));
  EXPECT_EQ(third->data, data_.substr(200000, 1000));
}

TEST_P(RocksDBAsyncRead, AHandleOutlivesItsFile) {
  const auto polled = Start(4096, 65536);
  const auto deleted = Start(1, 65536);
  file_.reset();
  EXPECT_TRUE(Ok(fs_->DeleteFile("/000001.sst", io_options_, nullptr)));
  Write("/other", std::string(1 << 20, 'x'));
  ASSERT_TRUE(Ok(Poll({polled.get()})));
  EXPECT_EQ(polled->data, data_.substr(4096, 65536));
  // `deleted` is never polled: its deleter waits, and nobody is called.
  EXPECT_EQ(deleted->calls, 0);
}

TEST_P(RocksDBAsyncRead, ARequestThatCannotStartNeverCallsBack) {
  Pending pending;
  FSReadRequest request;
  request.offset = 0;
  request.len = 100;
  request.scratch = nullptr;
  const IOStatus status = file_->ReadAsync(
      request, io_options_,
      [](const FSReadRequest&, void* argument) {
        ++static_cast<Pending*>(argument)->calls;
      },
      &pending, &pending.handle, &pending.deleter, nullptr);
  EXPECT_TRUE(status.IsInvalidArgument()) << status.ToString();
  EXPECT_EQ(pending.handle, nullptr);
  EXPECT_EQ(pending.calls, 0);
}

}  // namespace
}  // namespace diofs
