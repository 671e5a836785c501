#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <cstring>
#include <string>
#include <thread>

#include "dio/annotate.h"
#include "dio/buffer_pool.h"
#include "tests/child_process.h"
#include "tests/engine_io.h"
#include "tests/queue_device.h"
#include "tests/sim_device.h"

namespace diofs {
namespace {

constexpr size_t kBytes = 4096;

// What the tools say about a byte, without making them complain.
enum class ByteState { kDefined, kUndefined, kForbidden, kUnknown };

ByteState StateOf([[maybe_unused]] const char* byte) {
#if defined(DIOFS_ANNOTATE_ASAN)
  return __asan_address_is_poisoned(byte) != 0 ? ByteState::kForbidden
                                               : ByteState::kUnknown;
#elif defined(DIOFS_VALGRIND)
  unsigned char undefined_bits = 0;
  switch (VALGRIND_GET_VBITS(byte, &undefined_bits, 1)) {
    case 1:
      return undefined_bits == 0 ? ByteState::kDefined : ByteState::kUndefined;
    case 3:
      return ByteState::kForbidden;
  }
#endif
  return ByteState::kUnknown;
}

// The states of the first bytes and of the last one, in the tools that know.
void ExpectStates(const char* memory, ByteState link, ByteState rest) {
  const auto expect = [memory](size_t offset, ByteState wanted) {
    const ByteState state = StateOf(memory + offset);
    if (state == ByteState::kUnknown) {
#if defined(DIOFS_ANNOTATE_ASAN)
      // Which knows nothing but what is forbidden.
      EXPECT_NE(ByteState::kForbidden, wanted) << "byte " << offset;
#endif
      return;
    }
    EXPECT_EQ(wanted, state) << "byte " << offset;
  };
  expect(0, link);
  expect(kAnnotatedLinkBytes - 1, link);
  expect(kAnnotatedLinkBytes, rest);
  expect(kBytes - 1, rest);
}

class DioAnnotate : public testing::Test {
 protected:
  DioAnnotate() { std::memset(memory_.data(), 'x', kBytes); }
  // Whatever a test has said about it, it is an array again.
  ~DioAnnotate() override { AnnotateBufferTaken(memory_.data(), kBytes); }

  alignas(16) std::array<char, kBytes> memory_;
};

TEST_F(DioAnnotate, AReturnedBufferIsForbiddenButForItsLink) {
  ExpectStates(memory_.data(), ByteState::kDefined, ByteState::kDefined);
  AnnotateBufferReturned(memory_.data(), kBytes);
  ExpectStates(memory_.data(), ByteState::kDefined, ByteState::kForbidden);
  AnnotateBufferTaken(memory_.data(), kBytes);
  ExpectStates(memory_.data(), ByteState::kUndefined, ByteState::kUndefined);
  std::memset(memory_.data(), 'y', kBytes);
  ExpectStates(memory_.data(), ByteState::kDefined, ByteState::kDefined);
}

TEST_F(DioAnnotate, WhatTheDeviceHasWrittenIsDefined) {
  AnnotateBufferTaken(memory_.data(), kBytes);
  const std::array<iovec, 2> segments = {
      iovec{memory_.data(), kAnnotatedLinkBytes},
      iovec{memory_.data() + kBytes - 1, 1}};
  AnnotateReadCompleted(segments.data(), 1);
  ExpectStates(memory_.data(), ByteState::kDefined, ByteState::kUndefined);
  AnnotateReadCompleted(segments.data(), 2);
  if (StateOf(memory_.data()) == ByteState::kDefined) {
    EXPECT_EQ(ByteState::kUndefined,
              StateOf(memory_.data() + kAnnotatedLinkBytes));
    EXPECT_EQ(ByteState::kDefined, StateOf(memory_.data() + kBytes - 1));
  }
}

// The device that moves nothing stands for a kernel of which the tools do not
// know what it writes.
TEST_F(DioAnnotate, WhatTheEngineHasReadIsDefined) {
  QueueDevice device(SimDevice::MakeGeometry(1 << 20));
  const TestMapper mapper(ScatteredBlocks(1));
  AlignedBuffer buffer = BufferPool::Get(kBytes);
  AnnotateBufferTaken(buffer.data(), kBytes);
  IoRequest io(IoDirection::kRead, mapper, 0, buffer.data(), kBytes, kBytes);
  Dio dio(&device);
  {
    Plug plug(&device);
    (void)dio.Submit(io.get(), &plug);
  }
  ExpectStates(buffer.data(), ByteState::kUndefined, ByteState::kUndefined);
  device.End(0);
  EXPECT_EQ(kBytes, dio.Wait().bytes());
  ExpectStates(buffer.data(), ByteState::kDefined, ByteState::kDefined);
}

// Writes two blocks; of the second one, `count` bytes have a value.
bool WriteSecondBlock(size_t count) {
  SimDevice device(SimDevice::MakeGeometry(1 << 20));
  AlignedBuffer buffer = BufferPool::Get(2 * kBytes);
  AnnotateBufferTaken(buffer.data(), 2 * kBytes);
  std::memset(buffer.data(), 'x', kBytes + count);
  return device.Write(0, buffer.data(), 2 * kBytes, 0).ok();
}

// A child fails if memcheck found something in it.
int StatusOfChild(bool (*body)()) {
  ChildProcess child([body](const ChildProcess::Parent&) { return body(); });
  const int status = child.Wait();
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(DioAnnotate, AWrittenByteWithoutAValueIsReported) {
#if defined(DIOFS_VALGRIND)
  const int reported = RUNNING_ON_VALGRIND != 0 ? 1 : 0;
#else
  const int reported = 0;
#endif
  EXPECT_EQ(0, StatusOfChild([] { return WriteSecondBlock(kBytes); }));
  EXPECT_EQ(reported,
            StatusOfChild([] { return WriteSecondBlock(kBytes - 1); }));
}

#if defined(DIOFS_ANNOTATE_TSAN)
// One thread reaps a read while another uses the memory, and nothing orders
// the two. The child ends with ThreadSanitizer's own status.
TEST_F(DioAnnotate, WhoDoesNotWaitForItsReadIsReported) {
  EXPECT_EQ(66, StatusOfChild([] {
              static std::array<char, kBytes> memory;
              std::thread reaper([] {
                const iovec segment = {memory.data(), kBytes};
                AnnotateReadCompleted(&segment, 1);
              });
              [[maybe_unused]] static volatile char seen = 0;
              std::thread user([] { seen = memory[kBytes / 2]; });
              reaper.join();
              user.join();
              return true;
            }));
}

TEST_F(DioAnnotate, WhoChangesWhatIsBeingWrittenIsReported) {
  EXPECT_EQ(66, StatusOfChild([] {
              static std::array<char, kBytes> memory;
              std::thread submitter([] {
                const iovec segment = {memory.data(), kBytes};
                AnnotateWriteSubmitted(&segment, 1);
              });
              std::thread user([] { memory[kBytes / 2] = 'x'; });
              submitter.join();
              user.join();
              return true;
            }));
}
#endif

}  // namespace
}  // namespace diofs
