// What the kernel may answer to a ring and hardly ever does: this program
// stands between the engine and liburing.

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/open_device.h"
#include "dio/plug.h"
#include "dio/read_batch.h"
#include "dio/ring_pool.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/libc_faults.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

// Of one of liburing's functions: the next `times` calls, after `skip` others,
// return `answer`. Of one thread.
struct Fault {
  int answer = 0;
  int skip = 0;
  int times = 0;

  // True where this call is to be answered so.
  bool Strikes() {
    if (times == 0) return false;
    if (skip > 0) {
      --skip;
      return false;
    }
    --times;
    return true;
  }
};

constexpr int kAlways = 1 << 30;

struct Faults {
  Fault submit;
  Fault wait;
  Fault register_files;
  Fault dontfork;
  bool old_kernel = false;
  Fault own_rings;
  size_t most_registered = SIZE_MAX;  // RLIMIT_MEMLOCK, so to speak
};

Faults g_faults;
// Of every wait in the kernel, how many completions it was for. Of one thread.
std::vector<unsigned> g_waits;
// Of every ring that was asked for. Guarded by g_setups_mutex.
std::vector<unsigned> g_setups;
std::mutex g_setups_mutex;

template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace
}  // namespace diofs

extern "C" {

int io_uring_submit(io_uring* ring) {
  using namespace diofs;
  if (g_faults.submit.Strikes()) return g_faults.submit.answer;
  return Real<int(io_uring*)>("io_uring_submit")(ring);
}

int __io_uring_get_cqe(io_uring* ring, io_uring_cqe** cqe, unsigned submit,
                       unsigned wait_nr, sigset_t* signals) {
  using namespace diofs;
  if (g_faults.wait.Strikes()) return g_faults.wait.answer;
  if (wait_nr > 0) g_waits.push_back(wait_nr);
  return Real<int(io_uring*, io_uring_cqe**, unsigned, unsigned, sigset_t*)>(
      "__io_uring_get_cqe")(ring, cqe, submit, wait_nr, signals);
}

int io_uring_register_files(io_uring* ring, const int* files, unsigned count) {
  using namespace diofs;
  if (g_faults.register_files.Strikes()) return g_faults.register_files.answer;
  return Real<int(io_uring*, const int*, unsigned)>("io_uring_register_files")(
      ring, files, count);
}

int io_uring_ring_dontfork(io_uring* ring) {
  using namespace diofs;
  if (g_faults.dontfork.Strikes()) return g_faults.dontfork.answer;
  return Real<int(io_uring*)>("io_uring_ring_dontfork")(ring);
}

int io_uring_register_buffers(io_uring* ring, const iovec* buffers,
                              unsigned count) {
  using namespace diofs;
  if (buffers->iov_len > g_faults.most_registered) return -ENOMEM;
  return Real<int(io_uring*, const iovec*, unsigned)>(
      "io_uring_register_buffers")(ring, buffers, count);
}

int io_uring_queue_init_params(unsigned entries, io_uring* ring,
                               io_uring_params* params) {
  using namespace diofs;
  {
    const std::lock_guard<std::mutex> lock(g_setups_mutex);
    g_setups.push_back(params->flags);
  }
  if ((params->flags & IORING_SETUP_SINGLE_ISSUER) != 0 &&
      g_faults.own_rings.Strikes()) {
    return g_faults.own_rings.answer;
  }
  const int result = Real<int(unsigned, io_uring*, io_uring_params*)>(
      "io_uring_queue_init_params")(entries, ring, params);
  if (g_faults.old_kernel) params->features &= ~IORING_FEAT_RW_CUR_POS;
  return result;
}

}  // extern "C"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kImageBytes = 16 << 20;

class RingErrors : public testing::Test {
 protected:
  RingErrors()
      : path_(dir_.File("image")), memory_(FilledBuffer(1 << 20, 'm')) {
    EXPECT_TRUE(CreateImageFile(path_, kImageBytes, false).ok());
  }
  ~RingErrors() override { g_faults = Faults(); }

  CheckedDevice Open(const std::string& path, bool read_only = false) {
    log_.clear();
    OpenDeviceOptions options;
    options.read_only = read_only;
    options.log = [this](const std::string& line) { log_ += line + "\n"; };
    std::unique_ptr<BlockDevice> device;
    const Result result = OpenBlockDevice(path, options, &device);
    EXPECT_TRUE(result.ok()) << result.ToString();
    return device;
  }

  // Writes `blocks` blocks to scattered places and reads them back.
  bool RoundTrip(BlockDevice* device, char* memory, uint64_t blocks = 8) {
    const TestMapper mapper(ScatteredBlocks(blocks));
    const uint64_t bytes = blocks * kBlock;
    const std::string content(bytes, static_cast<char>('a' + ++fill_ % 26));
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      if (direction == IoDirection::kWrite) {
        std::memcpy(memory, content.data(), bytes);
      } else {
        std::memset(memory, 0, bytes);
      }
      IoRequest io(direction, mapper, 0, memory, bytes, bytes);
      io->async = true;
      if (RunIo(device, &io).bytes() != bytes) return false;
    }
    return content.compare(0, bytes, memory, bytes) == 0 &&
           device->bios_in_use() == 0;
  }
  bool RoundTrip(BlockDevice* device) {
    return RoundTrip(device, memory_.data());
  }

  TempDir dir_;
  const std::string path_;
  AlignedBuffer memory_;
  std::string log_;
  int fill_ = 0;
};

TEST_F(RingErrors, AnOldKernelHasNoRings) {
  g_faults.old_kernel = true;
  const auto device = Open(path_);
  EXPECT_STREQ("threads", device->backend_name());
  EXPECT_EQ(path_ +
                ": io_uring is not available (io_uring of a kernel before 5.6: "
                "Function not implemented); using a pool of threads\n",
            log_);
  EXPECT_TRUE(RoundTrip(device.get()));
}

// A child could reach into the queues: better none.
TEST_F(RingErrors, QueuesThatAChildWouldInheritAreNotUsed) {
  g_faults.dontfork = {-EINVAL, 0, 1};
  const auto device = Open(path_);
  EXPECT_STREQ("threads", device->backend_name());
  EXPECT_NE(std::string::npos, log_.find("io_uring_ring_dontfork")) << log_;
  EXPECT_TRUE(RoundTrip(device.get()));
}

// Only a convenience.
TEST_F(RingErrors, WithoutARegisteredFileItsNumberDoes) {
  g_faults.register_files = {-EMFILE, 0, kAlways};
  auto device = Open(path_);
  EXPECT_STREQ("uring", device->backend_name());
  EXPECT_EQ("", log_);
  EXPECT_TRUE(RoundTrip(device.get()));
  EXPECT_GT(device->stats().ring_submits, 0u);
  device.reset();

  const LoopDevice loop(path_);
  if (!loop.ok()) GTEST_SKIP() << "no loop devices here";
  const auto block_device = Open(loop.path());
  EXPECT_TRUE(RoundTrip(block_device.get()));
  EXPECT_TRUE(block_device->Discard(0, 1 << 20).ok());
}

TEST_F(RingErrors, AnInterruptedOrBusySubmissionIsTriedAgain) {
  for (const int answer : {-EINTR, 0, -EAGAIN, -EBUSY}) {
    const auto device = Open(path_);
    g_faults.submit = {answer, 0, 20};
    EXPECT_TRUE(RoundTrip(device.get())) << answer;
    EXPECT_EQ(0, g_faults.submit.times) << answer;
    // The write and the read, both through the ring.
    EXPECT_EQ(2u, device->stats().ring_submits) << answer;
  }
}

// The kernel takes none of what is queued: the thread that submits moves it,
// and the ring is not used again. The next request makes another, up to a
// bound.
TEST_F(RingErrors, ABrokenRingIsReplaced) {
  const auto device = Open(path_);
  for (unsigned i = 0; i < 2 * RingPool::kMaxRingsMade; ++i) {
    g_faults.submit = {-EBADF, 0, 1};
    EXPECT_TRUE(RoundTrip(device.get())) << i;
  }
  // Each read had a new ring, until there were no more.
  const uint64_t submits = device->stats().ring_submits;
  EXPECT_EQ(RingPool::kMaxRingsMade - 1, submits);
  g_faults.submit = Fault();
  EXPECT_TRUE(RoundTrip(device.get()));
  EXPECT_EQ(submits, device->stats().ring_submits);
}

TEST_F(RingErrors, DiscardsNeedNoRing) {
  const LoopDevice loop(path_);
  if (!loop.ok()) GTEST_SKIP() << "no loop devices here";
  const auto device = Open(loop.path());
  EXPECT_TRUE(device->Discard(0, 1 << 20).ok());
  for (unsigned i = 0; i < 2 * RingPool::kMaxRingsMade; ++i) {
    g_faults.submit = {-EBADF, 0, 1};
    EXPECT_TRUE(RoundTrip(device.get())) << i;
  }
  g_faults.submit = Fault();
  std::memset(memory_.data(), 'd', 1 << 20);
  ASSERT_TRUE(device->Write(0, memory_.data(), 1 << 20, 0).ok());
  EXPECT_TRUE(device->Discard(0, 1 << 20).ok());
  ASSERT_TRUE(device->Read(0, memory_.data(), 1 << 20, 0).ok());
  EXPECT_EQ(1 << 20, std::count(memory_.data(), memory_.data() + (1 << 20), 0));
}

// A discard finds the ring broken, or breaks it.
TEST_F(RingErrors, ADiscardThatCannotBeSubmittedSaysSo) {
  const int fd = open(path_.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  std::unique_ptr<IoRing> ring;
  ASSERT_TRUE(
      IoRing::Create(fd, 8, IoRing::Kind::kShared, nullptr, &ring).ok());
  g_faults.submit = {-EBADF, 0, 1};
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(EOPNOTSUPP, ring->Discard(0, kBlock).error());
    EXPECT_FALSE(ring->usable());
    EXPECT_EQ(0u, ring->in_flight());
  }
  ring.reset();
  close(fd);
}

// It is the device that refuses: no other way is tried, which would say
// something else here.
TEST_F(RingErrors, TheErrorOfADiscardIsKept) {
  const LoopDevice loop(path_);
  if (!loop.ok()) GTEST_SKIP() << "no loop devices here";
  const FailCall other_way("BLKDISCARD", ENOTTY, 1, kEveryCall);
  if (!Open(loop.path())->Discard(0, 1 << 20).ok()) {
    GTEST_SKIP() << "rings do not discard here";
  }
  const auto device = Open(loop.path(), /*read_only=*/true);
  ASSERT_STREQ("uring", device->backend_name());
  for (int i = 0; i < 2; ++i) {
    const int error = device->Discard(0, 1 << 20).error();
    EXPECT_TRUE(error == EBADF || error == EPERM) << error;
  }
  EXPECT_EQ(0, other_way.calls());
}

TEST_F(RingErrors, AWaitThatFailsIsRepeated) {
  const auto device = Open(path_);
  for (const int answer : {-EINTR, -EBADR, -EAGAIN}) {
    g_faults.wait = {answer, 0, 5};
    // What has completed by then is not waited for.
    while (g_faults.wait.times > 0) {
      ASSERT_TRUE(RoundTrip(device.get())) << answer;
    }
  }
}

// Half of the arena is registered. What lies across the end of that half is
// moved all the same, and is not called registered.
TEST_F(RingErrors, ABufferAcrossTheEndOfTheRegisteredMemory) {
  constexpr size_t kRegistered = BufferArena::kBytes / 2;
  g_faults.most_registered = kRegistered;
  const auto device = Open(path_);
  EXPECT_NE(std::string::npos, log_.find("16 MiB of 32 MiB")) << log_;

  const BufferArena& arena = BufferPool::arena();
  std::vector<AlignedBuffer> all;
  while (true) {
    AlignedBuffer buffer = BufferPool::Get(BufferArena::kMaxBytes);
    if (!arena.Contains(buffer.data())) break;
    all.push_back(std::move(buffer));
  }
  char* const end = arena.base() + kRegistered;
  const auto inside = [&](char* at) {
    return std::any_of(all.begin(), all.end(), [&](const AlignedBuffer& one) {
      return at >= one.data() && at < one.data() + one.size();
    });
  };
  ASSERT_TRUE(inside(end - 1) && inside(end));

  const struct {
    char* memory;
    uint64_t fixed;
  } cases[] = {{end - 2 * kBlock, 1}, {end - kBlock, 0}, {end, 0}};
  for (const auto& one : cases) {
    const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 5, 2));
    IoRequest io(IoDirection::kRead, mapper, 0, one.memory, 2 * kBlock,
                 2 * kBlock);
    io->async = true;
    const uint64_t before = device->stats().fixed_buffer_ios;
    std::memset(one.memory, 'u', 2 * kBlock);
    ASSERT_EQ(2 * kBlock, RunIo(device.get(), &io).bytes());
    EXPECT_EQ(one.fixed, device->stats().fixed_buffer_ios - before);
    EXPECT_EQ(static_cast<int64_t>(2 * kBlock),
              std::count(one.memory, one.memory + 2 * kBlock, 0));
  }
}

// With nothing to share the second ring tries for itself.
TEST_F(RingErrors, NothingRegisteredAnywhere) {
  g_faults.most_registered = 0;
  const auto device = Open(path_);
  EXPECT_NE(std::string::npos, log_.find("none of 32 MiB")) << log_;
  const TestMapper mapper(ScatteredBlocks(4));
  std::memset(memory_.data(), 0, 8 * kBlock);
  IoRequest first(IoDirection::kRead, mapper, 0, memory_.data(), 4 * kBlock,
                  4 * kBlock);
  IoRequest second(IoDirection::kRead, mapper, 0, memory_.data() + 4 * kBlock,
                   4 * kBlock, 4 * kBlock);
  first->async = second->async = true;
  Dio one(device.get());
  Dio other(device.get());
  for (auto& [dio, io] : {std::pair<Dio*, IoRequest*>{&one, &first},
                          std::pair<Dio*, IoRequest*>{&other, &second}}) {
    Plug plug(device.get());
    (void)dio->Submit(io->get(), &plug);
  }
  EXPECT_EQ(4 * kBlock, one.Wait().bytes());
  EXPECT_EQ(4 * kBlock, other.Wait().bytes());
  EXPECT_EQ(0u, device->stats().fixed_buffer_ios);
}

// Stands in front of a device and passes bios on when it is told.
class HoldingDevice final : public BlockDevice {
 public:
  explicit HoldingDevice(BlockDevice* inner)
      : BlockDevice("holding", inner->geometry()), inner_(inner) {}
  ~HoldingDevice() override { ExpectNothingHeld(this); }
  void Release(const std::vector<size_t>& which) {
    std::vector<Bio*> batch;
    batch.reserve(which.size());
    for (const size_t i : which) batch.push_back(held_[i]);
    inner_->Submit(batch.data(), batch.size());
  }
  void Wait(Dio* dio, uint32_t wait_nr) override { inner_->Wait(dio, wait_nr); }
  int64_t DoMove(Bio* bio) override { return inner_->MoveNow(bio); }
  const char* backend_name() const override { return "holding"; }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    held_.insert(held_.end(), bios, bios + count);
  }
  Result DoFlush() override { return inner_->Flush(); }
  Result DoDiscard(uint64_t, uint64_t) override { return Result::Ok(); }

  BlockDevice* const inner_;
  std::vector<Bio*> held_;
};

// A batch of bios whose requests have begun on different rings: each is waited
// for on its own.
TEST_F(RingErrors, OneBatchForTwoRings) {
  const auto inner = Open(path_);
  HoldingDevice device(inner.get());
  const TestMapper mapper(ScatteredBlocks(4));
  std::memset(memory_.data(), 'u', 8 * kBlock);
  std::vector<std::unique_ptr<Dio>> dios;
  for (uint64_t i = 0; i < 2; ++i) {
    IoRequest io(IoDirection::kRead, mapper, 0, memory_.data() + 4 * i * kBlock,
                 4 * kBlock, 4 * kBlock);
    io->async = true;
    dios.push_back(std::make_unique<Dio>(&device));
    Plug plug(&device);
    EXPECT_EQ(Dio::Submission::kQueued, dios[i]->Submit(io.get(), &plug));
  }
  // Nobody reaps in between, so that the second takes a ring of its own.
  device.Release({0, 1});
  device.Release({4, 5});
  ASSERT_NE(dios[0]->ring(), dios[1]->ring());
  device.Release({2, 6, 3, 7});
  for (const auto& dio : dios) EXPECT_EQ(4 * kBlock, dio->Wait().bytes());
  EXPECT_EQ(static_cast<int64_t>(8 * kBlock),
            std::count(memory_.data(), memory_.data() + 8 * kBlock, 0));
}

// Reads for which their submitter waits.
IoRequest OwnReads(const TestMapper& mapper, char* memory, uint64_t bytes) {
  IoRequest io(IoDirection::kRead, mapper, 0, memory, bytes, bytes);
  io->async = true;
  io->waiter = Waiter::kSubmitter;
  return io;
}

// Runs one of them, of eight bios.
void ReadAsSubmitter(BlockDevice* device, char* memory) {
  const TestMapper mapper(ScatteredBlocks(8));
  IoRequest io = OwnReads(mapper, memory, 8 * kBlock);
  EXPECT_EQ(8 * kBlock, RunIo(device, &io).bytes());
}

// The other requests', and of writes all, are any thread's.
TEST_F(RingErrors, OnlyReadsForTheirSubmitterHaveARingOfOneThread) {
  const auto device = Open(path_);
  const TestMapper mapper(ScatteredBlocks(8));
  g_setups.clear();
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    IoRequest io = OwnReads(mapper, memory_.data(), 8 * kBlock);
    io->direction = direction;
    EXPECT_EQ(8 * kBlock, RunIo(device.get(), &io).bytes());
    ASSERT_EQ(direction == IoDirection::kRead ? 1u : 0u, g_setups.size());
  }
  EXPECT_EQ(g_setups[0], 1u << 8 | 1u << 9 | 1u << 12 | 1u << 13);
}

// Who waits for a batch is woken once, and for its own completions only: on a
// ring that others share the next one may be theirs.
TEST_F(RingErrors, ABatchIsWaitedForAtOnce) {
  const auto device = Open(path_);
  const TestMapper mapper(ScatteredBlocks(64));
  ReadBatch::File file;
  file.device = device.get();
  file.mapper = &mapper;
  file.file_size = 64 * kBlock;
  std::vector<ReadRange> ranges(20);
  for (const bool async : {false, true}) {
    for (uint64_t i = 0; i < ranges.size(); ++i) {
      ranges[i].offset = 3 * i * kBlock;
      ranges[i].length = kBlock;
      ranges[i].memory = memory_.data() + i * kBlock;
    }
    ReadBatch batch;
    g_waits.clear();
    batch.Submit(file, ranges.data(), ranges.size(), async);
    batch.Wait();
    for (const ReadRange& range : ranges) {
      EXPECT_EQ(kBlock, range.result.bytes());
    }
    if (async) {
      EXPECT_EQ(std::count(g_waits.begin(), g_waits.end(), 1u),
                static_cast<int64_t>(g_waits.size()));
    } else {
      EXPECT_EQ(g_waits, std::vector<unsigned>({20}));
    }
  }
}

// More than is in flight would be waited for without end.
TEST_F(RingErrors, NobodyWaitsForMoreThanIsInFlight) {
  const auto device = Open(path_);
  const TestMapper mapper(ScatteredBlocks(8));
  IoRequest io = OwnReads(mapper, memory_.data(), 8 * kBlock);
  Dio dio(device.get());
  {
    Plug plug(device.get());
    (void)dio.Submit(io.get(), &plug);
  }
  g_waits.clear();
  EXPECT_EQ(8 * kBlock, dio.Wait(1000).bytes());
  EXPECT_EQ(g_waits, std::vector<unsigned>({8}));
}

TEST_F(RingErrors, WithoutRingsOfOneThreadTheSharedOnesDo) {
  g_faults.own_rings = {-EINVAL, 0, kAlways};
  const auto device = Open(path_);
  g_setups.clear();
  for (int i = 0; i < 3; ++i) ReadAsSubmitter(device.get(), memory_.data());
  // Asked for once.
  EXPECT_EQ(1u, g_setups.size());
  EXPECT_EQ(3u, device->stats().ring_submits);
  EXPECT_EQ("", log_);
}

// What is missing for a moment does not end it for good.
TEST_F(RingErrors, ARingOfOneThreadIsAskedForAgain) {
  g_faults.own_rings = {-EMFILE, 0, 2};
  const auto device = Open(path_);
  g_setups.clear();
  for (int i = 0; i < 5; ++i) ReadAsSubmitter(device.get(), memory_.data());
  EXPECT_EQ(3u, g_setups.size());
}

// Its thread goes on with the shared ones.
TEST_F(RingErrors, ABrokenOwnRingIsNotUsedAgain) {
  const auto device = Open(path_);
  for (int i = 0; i < 3; ++i) {
    if (i == 1) g_faults.submit = {-EBADF, 0, 1};
    ReadAsSubmitter(device.get(), memory_.data());
    EXPECT_EQ(0u, device->bios_in_use());
  }
  EXPECT_EQ(2u, device->stats().ring_submits);
}

// Flags with which completions wait until the thread that submits enters the
// kernel once more, with which a second thread may not submit, or with which
// the kernel polls. By number, for headers of liburing may lack them.
constexpr struct {
  unsigned flag;
  const char* name;
} kUnwanted[] = {{1u << 0, "IOPOLL"},
                 {1u << 1, "SQPOLL"},
                 {1u << 8, "COOP_TASKRUN"},
                 {1u << 12, "SINGLE_ISSUER"},
                 {1u << 13, "DEFER_TASKRUN"}};

TEST_F(RingErrors, NoOtherRingBelongsToOneThread) {
  g_setups.clear();
  const auto device = Open(path_);
  // A request that nobody reaps keeps its ring from the next one.
  const TestMapper mapper(ScatteredBlocks(4));
  std::vector<std::unique_ptr<Dio>> dios;
  for (uint64_t i = 0; i < 4; ++i) {
    IoRequest io(IoDirection::kRead, mapper, 0, memory_.data() + 4 * i * kBlock,
                 4 * kBlock, 4 * kBlock);
    io->async = true;
    dios.push_back(std::make_unique<Dio>(device.get()));
    Plug plug(device.get());
    (void)dios[i]->Submit(io.get(), &plug);
  }
  for (const auto& dio : dios) EXPECT_EQ(4 * kBlock, dio->Wait().bytes());
  EXPECT_LE(2u, g_setups.size());
  for (const unsigned flags : g_setups) {
    for (const auto& unwanted : kUnwanted) {
      EXPECT_EQ(0u, flags & unwanted.flag) << unwanted.name;
    }
  }
}

}  // namespace
}  // namespace diofs
