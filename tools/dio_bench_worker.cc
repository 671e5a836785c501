#include "tools/dio_bench_worker.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "dio/align.h"

namespace diofs {

namespace {

constexpr uint32_t kBlockBytes = 4096;

Durability DurabilityOf(BenchSync sync) {
  switch (sync) {
    case BenchSync::kFlush:
      return Durability::kFlush;
    case BenchSync::kFua:
      return Durability::kFua;
    default:
      return Durability::kNone;
  }
}

}  // namespace

std::string PatternName(IoDirection direction, bool random) {
  return std::string(random ? "rand" : "") +
         (direction == IoDirection::kRead ? "read" : "write");
}

void BenchRandom::Fill(char* memory, size_t bytes) {
  for (size_t i = 0; i + sizeof(uint64_t) <= bytes; i += sizeof(uint64_t)) {
    const uint64_t number = Next();
    std::memcpy(memory + i, &number, sizeof(number));
  }
}

// ---- BenchWorker -----------------------------------------------------------

BenchWorker::BenchWorker(BlockDevice* device, const WorkOptions& options)
    : device_(device),
      options_(options),
      block_bytes_(
          std::max(kBlockBytes, device->geometry().logical_block_bytes)),
      random_(options.seed),
      requests_in_range_(options.range_bytes / options.request_bytes) {}

BenchWorker::~BenchWorker() = default;

uint64_t BenchWorker::NowNanos() {
  constexpr uint64_t kNanosPerSecond = 1000000000;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kNanosPerSecond +
         static_cast<uint64_t>(now.tv_nsec);
}

uint64_t BenchWorker::NextOffset() {
  uint64_t request = 0;
  if (options_.random) {
    request = random_.Next() % requests_in_range_;
  } else {
    request = next_request_;
    if (++next_request_ == requests_in_range_) next_request_ = 0;
  }
  return options_.start + request * options_.request_bytes;
}

uint32_t BenchWorker::Grant(uint32_t wanted, const std::atomic<bool>& stop) {
  if (failed_ || stop.load(std::memory_order_relaxed)) return 0;
  if (options_.max_ios > 0) {
    wanted = static_cast<uint32_t>(
        std::min<uint64_t>(wanted, options_.max_ios - granted_));
  }
  granted_ += wanted;
  return wanted;
}

void BenchWorker::Account(const Result& result) {
  if (result.ok() && result.bytes() == options_.request_bytes) {
    ++ios_;
  } else {
    Fail(result.ok() ? Result::Error(EIO, "a request was cut short") : result);
  }
}

void BenchWorker::Fail(Result error) {
  if (!failed_) error_ = std::move(error);
  failed_ = true;
}

Result BenchWorker::MakeBuffer(AlignedBuffer* buffer) {
  *buffer = BufferPool::Get(options_.request_bytes);
  if (!*buffer) return Result::Error(ENOMEM, "memory for the requests");
  random_.Fill(buffer->data(), options_.request_bytes);
  return Result::Ok();
}

// ---- DioWorker -------------------------------------------------------------

DioWorker::DioWorker(BlockDevice* device, const WorkOptions& options)
    : BenchWorker(device, options), slots_(options.depth), plug_(device) {}

Result DioWorker::Prepare() {
  for (Slot& slot : slots_) {
    if (Result r = MakeBuffer(&slot.buffer); !r.ok()) return r;
    slot.segment = {slot.buffer.data(), options_.request_bytes};
    slot.request.direction = options_.direction;
    slot.request.segments = &slot.segment;
    slot.request.segment_count = 1;
    slot.request.file_size = AlignDown(device_->size_bytes(), block_bytes_);
    slot.request.mapper = &mapper_;
    slot.request.block_bytes = block_bytes_;
    // One alone is best moved by the thread that waits for it.
    slot.request.async = options_.depth > 1;
    slot.request.waiter = Waiter::kSubmitter;
    slot.request.durability = DurabilityOf(options_.sync);
  }
  in_flight_.reserve(options_.depth);
  done_.resize(options_.depth);
  for (uint32_t i = 0; i < options_.depth; ++i) done_[i] = i;
  return Result::Ok();
}

void DioWorker::Run(const std::atomic<bool>& stop) {
  uint64_t now = options_.latency ? NowNanos() : 0;
  for (uint32_t first = 0; first < options_.depth;) {
    const uint32_t granted =
        Grant(std::min(options_.batch, options_.depth - first), stop);
    if (granted == 0) break;
    Submit(&done_[first], granted, now);
    first += granted;
  }
  while (!in_flight_.empty()) {
    AwaitRound();
    now = EndRound();
    const uint32_t granted = Grant(static_cast<uint32_t>(done_.size()), stop);
    if (granted > 0) Submit(done_.data(), granted, now);
  }
}

void DioWorker::Submit(const uint32_t* slots, uint32_t count, uint64_t now) {
  for (uint32_t i = 0; i < count; ++i) {
    Slot& slot = slots_[slots[i]];
    slot.start_nanos = now;
    slot.request.offset = NextOffset();
    slot.dio.emplace(device_);
    slot.dio->Submit(slot.request, &plug_);
    in_flight_.push_back(slots[i]);
  }
  plug_.Finish();
}

// Fills done_ with a round of requests that have ended.
void DioWorker::AwaitRound() {
  done_.clear();
  const size_t wanted = std::min<size_t>(options_.batch, in_flight_.size());
  TakeDone();
  while (done_.size() < wanted) {
    // Whoever waits for the oldest completes the others, too. Its result is
    // asked for again, below.
    (void)slots_[in_flight_.front()].dio->Wait(
        static_cast<uint32_t>(wanted - done_.size()));
    TakeDone();
  }
}

// Moves what has ended from in_flight_ to done_, no more than a round.
void DioWorker::TakeDone() {
  auto kept = in_flight_.begin();
  auto next = in_flight_.begin();
  while (next != in_flight_.end() && done_.size() < options_.batch) {
    if (slots_[*next].dio->done()) {
      done_.push_back(*next);
    } else {
      *kept++ = *next;
    }
    ++next;
  }
  in_flight_.erase(kept, next);
}

// One look at the clock for all of them.
uint64_t DioWorker::EndRound() {
  for (const uint32_t index : done_) {
    Account(slots_[index].dio->Wait());
    if (options_.sync != BenchSync::kEvery) continue;
    const Result flushed = device_->Flush();
    if (!flushed.ok()) Account(flushed);
  }
  if (!options_.latency) return 0;
  const uint64_t now = NowNanos();
  for (const uint32_t index : done_) {
    latency_.Record(now - slots_[index].start_nanos);
  }
  return now;
}

// ---- ReadBatchWorker -------------------------------------------------------

ReadBatchWorker::ReadBatchWorker(BlockDevice* device,
                                 const WorkOptions& options)
    : BenchWorker(device, options), groups_(options.depth / options.batch) {
  file_.device = device;
  file_.mapper = &mapper_;
  file_.file_size = AlignDown(device->size_bytes(), block_bytes_);
  file_.block_bytes = block_bytes_;
}

Result ReadBatchWorker::Prepare() {
  for (Group& group : groups_) {
    group.buffers.resize(options_.batch);
    group.ranges.resize(options_.batch);
    for (uint32_t i = 0; i < options_.batch; ++i) {
      if (Result r = MakeBuffer(&group.buffers[i]); !r.ok()) return r;
      group.ranges[i].memory = group.buffers[i].data();
      group.ranges[i].length = options_.request_bytes;
    }
  }
  return Result::Ok();
}

void ReadBatchWorker::Run(const std::atomic<bool>& stop) {
  uint64_t now = options_.latency ? NowNanos() : 0;
  for (Group& group : groups_) Submit(&group, stop, now);
  size_t oldest = 0;
  while (groups_[oldest].used > 0) {
    Group* const group = &groups_[oldest];
    now = Complete(group);
    Submit(group, stop, now);
    oldest = (oldest + 1) % groups_.size();
  }
}

void ReadBatchWorker::Submit(Group* group, const std::atomic<bool>& stop,
                             uint64_t now) {
  group->start_nanos = now;
  group->used = Grant(options_.batch, stop);
  if (group->used == 0) return;
  for (uint32_t i = 0; i < group->used; ++i) {
    group->ranges[i].offset = NextOffset();
  }
  group->batch.Submit(file_, group->ranges.data(), group->used,
                      options_.depth > 1);
}

uint64_t ReadBatchWorker::Complete(Group* group) {
  group->batch.Wait();
  const uint64_t now = options_.latency ? NowNanos() : 0;
  for (uint32_t i = 0; i < group->used; ++i) {
    Account(group->ranges[i].result);
    if (options_.latency) latency_.Record(now - group->start_nanos);
  }
  return now;
}

}  // namespace diofs
