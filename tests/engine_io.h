#ifndef DIOFS_TESTS_ENGINE_IO_H_
#define DIOFS_TESTS_ENGINE_IO_H_

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/plug.h"
#include "tests/test_mapper.h"
#include "tests/test_seed.h"

namespace diofs {

// Aligned memory, filled with one byte or with bytes that tell places apart.
inline AlignedBuffer FilledBuffer(size_t bytes, char fill) {
  AlignedBuffer memory = BufferPool::Get(bytes);
  std::memset(memory.data(), fill, memory.size());
  return memory;
}
inline AlignedBuffer PatternBuffer(size_t bytes, uint64_t seed) {
  AlignedBuffer memory = BufferPool::Get(bytes);
  for (size_t i = 0; i < memory.size(); ++i) {
    memory.data()[i] = static_cast<char>((i / 512 * 31 + i + seed) % 251 + 1);
  }
  return memory;
}

// `count` blocks, each followed by a gap on the device, so that each is a bio
// of its own.
inline std::vector<TestMapper::Block> ScatteredBlocks(
    uint64_t count, BlockState state = BlockState::kMapped,
    uint64_t first_device_block = 0) {
  std::vector<TestMapper::Block> blocks(count);
  for (uint64_t i = 0; i < count; ++i) {
    blocks[i] = {state, first_device_block + 2 * i, false};
  }
  return blocks;
}

// A request and the segments it points to; starts with one segment. Owned by
// the test, at a fixed place.
struct IoRequest {
  IoRequest(IoDirection direction, const BlockMapper& mapper, uint64_t offset,
            void* memory, size_t bytes, uint64_t file_size)
      : segments({{memory, bytes}}) {
    request.direction = direction;
    request.mapper = &mapper;
    request.offset = offset;
    request.file_size = file_size;
  }
  const DioRequest& get() {
    request.segments = segments.data();
    request.segment_count = static_cast<int>(segments.size());
    return request;
  }
  DioRequest* operator->() { return &request; }

  std::vector<iovec> segments;
  DioRequest request;
};

// Submits and waits; *dio, where given, keeps what else is to be known.
inline Result RunIo(BlockDevice* device, IoRequest* io,
                    std::unique_ptr<Dio>* kept = nullptr) {
  auto dio = std::make_unique<Dio>(device);
  {
    Plug plug(device);
    (void)dio->Submit(io->get(), &plug);
  }
  Result result = dio->Wait();
  if (kept != nullptr) *kept = std::move(dio);
  return result;
}

// Writes down how requests end. Used by the test's thread alone.
class EndRecorder : public DioObserver {
 public:
  struct End {
    uint64_t offset;
    uint64_t bytes;
    int error;
    std::vector<uint64_t> reservations;
    std::thread::id thread;
  };

  Result EndIo(const DioEnd& end) override {
    ends.push_back(
        {end.offset, end.bytes, end.error,
         std::vector<uint64_t>(end.reservations,
                               end.reservations + end.reservation_count),
         std::this_thread::get_id()});
    if (end.error != 0) return Result::Error(end.error);
    return Result::Bytes(end.bytes);
  }
  void Complete(Dio*, const Result& result) override {
    completions.push_back(result);
    complete_thread = std::this_thread::get_id();
  }

  std::vector<End> ends;
  std::vector<Result> completions;
  std::thread::id complete_thread;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_ENGINE_IO_H_
