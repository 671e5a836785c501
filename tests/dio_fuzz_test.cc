#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/plug.h"
#include "tests/byte_model.h"
#include "tests/engine_device.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

// A backend, its logical blocks and the blocks of the file system on it.
struct FuzzParam {
  EngineParam engine;
  uint32_t block_bytes;
};

std::string FuzzName(const FuzzParam& param) {
  return EngineName(param.engine) + "_" + std::to_string(param.block_bytes);
}
std::string FuzzTestName(const testing::TestParamInfo<FuzzParam>& info) {
  return FuzzName(info.param);
}
std::ostream& operator<<(std::ostream& out, const FuzzParam& param) {
  return out << FuzzName(param);
}

std::vector<FuzzParam> AllGeometries() {
  std::vector<FuzzParam> params;
  for (const EngineParam& engine : AllEngines()) {
    for (const uint32_t bytes : {4096, 16384})
      params.push_back({engine, bytes});
  }
  return params;
}

// DIOFS_TEST_REQUESTS is for a backend; it has four geometries.
uint64_t Requests() {
  const char* const given = std::getenv("DIOFS_TEST_REQUESTS");
  const uint64_t requests =
      given == nullptr ? 2400 : std::strtoull(given, nullptr, 0);
  return std::max<uint64_t>(requests / 4, 1);
}

// One request of a batch, from its making to its end; also the observer that
// commits what it made. Used again and again by the test's thread.
struct Slot final : public DioObserver {
  static constexpr uint64_t kMaxBytes = 64 << 10;

  Slot() : memory(BufferPool::Get(8 * kMaxBytes)) {}

  Result EndIo(const DioEnd& end) override {
    ++ends;
    if (end.direction == IoDirection::kWrite) {
      model->End(end.offset, end.offset + length, end.bytes);
    }
    EXPECT_EQ(expected.error, end.error);
    EXPECT_EQ(expected.bytes, end.bytes);
    EXPECT_EQ(reservations,
              std::vector<uint64_t>(end.reservations,
                                    end.reservations + end.reservation_count));
    return end.error == 0 ? Result::Bytes(end.bytes) : Result::Error(end.error);
  }
  void Complete(Dio* /*dio*/, const Result& /*result*/) override {
    EXPECT_EQ(1, ends);
    ++completions;
  }

  ByteModel* model = nullptr;
  AlignedBuffer memory;
  DioRequest request;
  std::vector<iovec> segments;
  uint64_t length = 0;
  uint64_t used_bytes = 0;  // of memory, gaps between segments included
  std::string data;         // what the segments hold, in the file's order
  std::string after;        // what `memory` has to hold in the end
  ByteModel::Outcome expected;
  std::vector<uint64_t> reservations;
  std::optional<Dio> dio;
  Dio::Submission submission = Dio::Submission::kDone;
  int ends = 0;
  int completions = 0;
};

class DioFuzz : public testing::TestWithParam<FuzzParam> {
 protected:
  static constexpr uint64_t kFileBlocks = 24;
  static constexpr char kUntouched = 0x5A;

  DioFuzz()
      : block_bytes_(GetParam().block_bytes),
        sector_(GetParam().engine.logical_block_bytes),
        device_(
            GetParam().engine, 2 * kFileBlocks * block_bytes_,
            [](Geometry* geometry) {
              geometry->max_bio_bytes = 8 * 4096;
              geometry->max_bio_segments = 5;
              geometry->fua = true;
            },
            /*max_bios=*/40),
        rng_(TestSeed()),
        noise_(4 * Slot::kMaxBytes, '\0') {
    for (char& byte : noise_) byte = static_cast<char>(rng_());
  }

  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
    model_.emplace(device_.Image(), block_bytes_, sector_, &rng_);
    for (Slot& slot : slots_) slot.model = &*model_;
  }

  uint64_t Below(uint64_t limit) { return rng_() % limit; }
  bool OneIn(uint64_t number) { return Below(number) == 0; }

  // Cuts the request's memory into segments, forwards or backwards, with gaps
  // or without.
  void Scatter(Slot* slot) {
    slot->segments.clear();
    const bool small = OneIn(4);
    for (uint64_t left = slot->length; left > 0;) {
      const uint64_t piece =
          std::min(left, sector_ * (1 + Below(small ? 2 : 20)));
      slot->segments.push_back({nullptr, piece});
      left -= piece;
      if (OneIn(32)) slot->segments.push_back({nullptr, 0});
    }
    const uint64_t gaps = OneIn(2) ? 1 : 3;
    uint64_t next = 512 * Below(8);
    const auto place = [&](iovec* segment) {
      segment->iov_base = slot->memory.data() + next;
      next += segment->iov_len + 512 * Below(gaps);
    };
    auto& segments = slot->segments;
    if (OneIn(2)) {
      std::for_each(segments.rbegin(), segments.rend(),
                    [&](iovec& segment) { place(&segment); });
    } else {
      for (iovec& segment : segments) place(&segment);
    }
    slot->used_bytes = next;
    std::memset(slot->memory.data(), kUntouched, next);
  }

  // Copies `data` to where the segments lie in `memory`, a copy of the slot's.
  static void Spread(const Slot& slot, const std::string& data, char* memory) {
    uint64_t position = 0;
    for (const iovec& segment : slot.segments) {
      data.copy(
          memory + (static_cast<char*>(segment.iov_base) - slot.memory.data()),
          segment.iov_len, position);
      position += segment.iov_len;
    }
  }

  // True where the batch has room for it: no two requests share a block, but
  // for reads, and for writes that change nothing besides their own bytes.
  bool Admit(uint64_t first, uint64_t last, char kind) {
    for (uint64_t i = first; i <= last; ++i) {
      if (used_[i] != 0 && (used_[i] != kind || kind == 'w')) return false;
    }
    std::fill(used_.begin() + static_cast<std::ptrdiff_t>(first),
              used_.begin() + static_cast<std::ptrdiff_t>(last) + 1, kind);
    return true;
  }

  // Any range of whole sectors; false where it does not fit the batch.
  bool MakeRequest(Slot* slot) {
    const uint64_t sectors = model_->max_file_bytes() / sector_;
    const uint64_t first = Below(sectors);
    const uint64_t most =
        std::min(sectors - first, (Slot::kMaxBytes / sector_) >> Below(8));
    slot->length = (1 + Below(std::max<uint64_t>(most, 1))) * sector_;
    DioRequest& request = slot->request;
    request = DioRequest();
    request.direction = OneIn(2) ? IoDirection::kWrite : IoDirection::kRead;
    request.offset = first * sector_;
    const uint64_t end = request.offset + slot->length;
    const bool write = request.direction == IoDirection::kWrite;
    const char kind = !write                                     ? 'r'
                      : model_->IsOverwrite(request.offset, end) ? 'o'
                                                                 : 'w';
    if (!Admit(request.offset / block_bytes_, (end - 1) / block_bytes_, kind)) {
      return false;
    }
    Scatter(slot);
    request.segments = slot->segments.data();
    request.segment_count = static_cast<int>(slot->segments.size());
    request.file_size = model_->file_size();
    request.mapper = &*model_;
    request.block_bytes = GetParam().block_bytes;
    request.async = OneIn(2);
    request.waiter = OneIn(2) ? Waiter::kAnyThread : Waiter::kSubmitter;
    request.observer = slot;
    slot->ends = slot->completions = 0;
    slot->after.assign(slot->memory.data(), slot->used_bytes);
    if (write) {
      PrepareWrite(slot);
    } else {
      slot->data.assign(slot->length, kUntouched);
      slot->expected = model_->PredictRead(request, slot->length, &slot->data);
      // Where nothing has to arrive, nothing may.
      Spread(*slot, slot->data, slot->after.data());
    }
    return true;
  }

  void PrepareWrite(Slot* slot) {
    DioRequest& request = slot->request;
    const uint64_t end = request.offset + slot->length;
    if (OneIn(8)) request.write_mode = WriteMode::kSkipHoles;
    if (OneIn(8)) request.write_mode = WriteMode::kOverwriteOnly;
    // A flush of a real file takes a hundred times as long as a write.
    if (OneIn(device_.sim() != nullptr ? 8 : 512)) {
      request.durability = OneIn(2) ? Durability::kFlush : Durability::kFua;
    }
    slot->data.assign(noise_, Below(noise_.size() - slot->length),
                      slot->length);
    // As a writer does that pads: the file ends inside the last sector.
    pad_bytes_ = end > model_->file_size() && OneIn(2) ? Below(sector_) : 0;
    std::fill_n(slot->data.rbegin(), pad_bytes_, '\0');
    Spread(*slot, slot->data, slot->memory.data());
    slot->after.assign(slot->memory.data(), slot->used_bytes);
    ByteModel::Plan plan;
    if (OneIn(8)) {
      plan.stop_block = (request.offset + Below(slot->length)) / block_bytes_;
      if (OneIn(2)) plan.stop_error = ENOSPC;
    }
    slot->expected = model_->PredictWrite(request, slot->length, plan);
  }

  void Submit(Slot* slot, Plug* plug) {
    slot->dio.emplace(device_.get());
    slot->submission = slot->dio->Submit(slot->request, plug);
    if (slot->request.direction == IoDirection::kRead) return;
    slot->reservations =
        model_->Apply(slot->request, slot->data, slot->expected);
    const uint64_t stop = slot->expected.stop;
    const bool whole = stop == slot->request.offset + slot->length;
    if (slot->expected.bytes == 0) return;
    new_size_ = std::max(new_size_, whole ? stop - pad_bytes_ : stop);
  }

  // Waits for the request, or forgets it, and looks at all it has done.
  void End(Slot* slot, bool alone) {
    const ByteModel::Outcome& expected = slot->expected;
    if (OneIn(8)) {
      slot->dio.reset();
    } else {
      const Result result = slot->dio->Wait();
      ASSERT_EQ(expected.error, result.error()) << result.ToString();
      ASSERT_EQ(expected.bytes, result.bytes());
      ASSERT_EQ(expected.fallback, slot->dio->fallback());
      if (alone) CheckDurable(*slot);
      slot->dio.reset();
    }
    ASSERT_EQ(1, slot->ends);
    ASSERT_EQ(slot->submission == Dio::Submission::kQueued ? 1 : 0,
              slot->completions);
    ASSERT_EQ(0, std::memcmp(slot->after.data(), slot->memory.data(),
                             slot->used_bytes));
    slot->reservations.clear();
  }

  // What was to be durable is, on the device that can tell. Nobody else may
  // have written there since.
  void CheckDurable(const Slot& slot) {
    if (device_.sim() == nullptr || slot.expected.bytes == 0 ||
        slot.request.durability == Durability::kNone) {
      return;
    }
    const std::string durable = device_.sim()->DurableImage();
    const std::string now = device_.sim()->Image();
    for (uint64_t i = 0; i < slot.expected.bytes; i += sector_) {
      const uint64_t at = model_->DeviceOffset(slot.request.offset + i);
      ASSERT_EQ(0, durable.compare(at, sector_, now, at, sector_)) << at;
    }
  }

  // Some requests of one plug; returns how many.
  uint64_t RunBatch() {
    std::fill(used_.begin(), used_.end(), '\0');
    new_size_ = model_->file_size();
    const size_t wanted = OneIn(2) ? 1 : 1 + Below(slots_.size());
    std::vector<Slot*> started;
    {
      Plug plug(device_.get());
      while (started.size() < wanted && MakeRequest(&slots_[started.size()])) {
        Slot* const slot = &slots_[started.size()];
        Submit(slot, &plug);
        started.push_back(slot);
      }
    }
    if (OneIn(4)) device_->Poll();
    std::shuffle(started.begin(), started.end(), rng_);
    for (Slot* const slot : started) {
      End(slot, started.size() == 1);
      if (HasFailure()) Tell(*slot);
    }
    model_->SetFileSize(new_size_);
    return started.size();
  }

  static void Tell(const Slot& slot) {
    const DioRequest& request = slot.request;
    ADD_FAILURE() << (request.direction == IoDirection::kRead ? "read of "
                                                              : "write of ")
                  << slot.length << " bytes at " << request.offset << " of "
                  << request.file_size << ", mode "
                  << static_cast<int>(request.write_mode) << ", "
                  << slot.segments.size() << " segments";
  }

  const uint64_t block_bytes_;
  const uint64_t sector_;
  EngineDevice device_;
  std::mt19937_64 rng_;
  std::optional<ByteModel> model_;
  std::string noise_;  // what is written is cut from
  std::array<Slot, 6> slots_;
  // By block of the file, in this batch: read, overwritten, written.
  std::array<char, kFileBlocks> used_{};
  uint64_t pad_bytes_ = 0;
  uint64_t new_size_ = 0;
};

TEST_P(DioFuzz, AgreesWithAByteModel) {
  const uint64_t requests = Requests();
  uint64_t done = 0;
  for (uint64_t batch = 0; done < requests; ++batch) {
    done += RunBatch();
    ASSERT_FALSE(HasFailure()) << "request " << done << ", batch " << batch;
    model_->Shuffle();
    if (batch % 64 != 0) continue;
    device_->ClearTrace();
    if (device_.sim() != nullptr) {
      ASSERT_TRUE(device_->Flush().ok());
      device_.sim()->ClearEvents();
    }
    // No byte has changed but those that were to.
    ASSERT_TRUE(device_.Image() == model_->device()) << "request " << done;
  }
  ASSERT_TRUE(device_->Flush().ok());
  EXPECT_TRUE(device_.Image() == model_->device());
}

INSTANTIATE_TEST_SUITE_P(All, DioFuzz, testing::ValuesIn(AllGeometries()),
                         FuzzTestName);

}  // namespace
}  // namespace diofs
