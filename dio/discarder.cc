#include "dio/discarder.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "dio/background_thread.h"
#include "dio/out_of_memory.h"

namespace diofs {

Discarder::Discarder(BlockDevice* device, const Options& options, DoneFn done)
    : device_(device),
      options_(options),
      done_(std::move(done)),
      state_(std::make_unique<State>()) {
  state_->thread = StartBackgroundThread("diofs-discard", [this] { Run(); });
}

Discarder::~Discarder() {
  if (fork_guard_.Crossed()) {
    (void)state_.release();
    return;
  }
  {
    const Lock lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_all();
  if (state_->thread.joinable()) state_->thread.join();
}

void Discarder::Add(const DeviceRange& range) {
  {
    const Lock lock(state_->mutex);
    auto& ranges = state_->ranges;
    uint64_t offset = range.offset;
    uint64_t bytes = range.bytes;
    auto next = ranges.lower_bound(offset);
    if (next != ranges.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == offset) {
        offset = before->first;
        bytes += before->second;
        ranges.erase(before);
      }
    }
    if (next != ranges.end() && offset + bytes == next->first) {
      bytes += next->second;
      ranges.erase(next);
    }
    ranges[offset] = bytes;
    state_->bytes += range.bytes;
  }
  state_->changed.notify_all();
}

std::vector<DeviceRange> Discarder::TakeBack() {
  std::vector<DeviceRange> back;
  Lock lock(state_->mutex);
  for (const auto& [offset, bytes] : state_->ranges) {
    back.push_back({offset, bytes});
  }
  state_->ranges.clear();
  state_->bytes = 0;
  state_->changed.notify_all();
  while (state_->busy) state_->changed.wait(lock);
  return back;
}

void Discarder::Drain() {
  Lock lock(state_->mutex);
  ++state_->hurried;
  state_->changed.notify_all();
  while (state_->thread.joinable() &&
         (state_->busy || !state_->ranges.empty())) {
    state_->changed.wait(lock);
  }
  --state_->hurried;
}

uint64_t Discarder::pending_bytes() const {
  const Lock lock(state_->mutex);
  return state_->bytes;
}

void Discarder::Run() {
  Lock lock(state_->mutex);
  bool useful = true;
  DeviceRange piece = {};
  while (TakePiece(&lock, &piece)) {
    state_->busy = true;
    lock.unlock();
    if (useful) {
      const Result result = CatchBadAlloc(
          [&] { return device_->Discard(piece.offset, piece.bytes); });
      useful = result.error() != EOPNOTSUPP;
    }
    done_(piece);
    lock.lock();
    state_->busy = false;
    state_->changed.notify_all();
    if (useful) Pause(&lock, piece.bytes);
  }
}

bool Discarder::TakePiece(Lock* lock, DeviceRange* piece) {
  auto& ranges = state_->ranges;
  while (!state_->stopping) {
    const auto largest = std::max_element(
        ranges.begin(), ranges.end(),
        [](const auto& a, const auto& b) { return a.second < b.second; });
    if (largest == ranges.end()) {
      state_->deadline.reset();
      state_->changed.wait(*lock);
      continue;
    }
    if (largest->second < options_.gather_bytes && state_->hurried == 0) {
      const auto now = std::chrono::steady_clock::now();
      if (!state_->deadline.has_value()) {
        state_->deadline = now + std::chrono::milliseconds(options_.gather_ms);
      }
      if (now < *state_->deadline) {
        state_->changed.wait_until(*lock, *state_->deadline);
        continue;
      }
    }
    // The front of it; the rest keeps its end.
    auto node = ranges.extract(largest);
    *piece = {node.key(), std::min(node.mapped(), options_.piece_bytes)};
    if (node.mapped() > piece->bytes) {
      node.key() += piece->bytes;
      node.mapped() -= piece->bytes;
      ranges.insert(std::move(node));
    }
    state_->bytes -= piece->bytes;
    return true;
  }
  return false;
}

void Discarder::Pause(Lock* lock, uint64_t bytes) {
  if (options_.bytes_per_second == 0) return;
  using Clock = std::chrono::steady_clock;
  const double seconds = static_cast<double>(bytes) /
                         static_cast<double>(options_.bytes_per_second);
  const std::chrono::duration<double> pause(seconds);
  const auto until =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(pause);
  while (!state_->stopping &&
         state_->changed.wait_until(*lock, until) != std::cv_status::timeout) {
  }
}

}  // namespace diofs
