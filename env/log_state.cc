#include "env/log_state.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "env/log_frame.h"

namespace diofs {
namespace {

bool IsBefore(uint64_t logical, const LogPosition& mark) {
  return logical < mark.logical;
}

}  // namespace

LogState::Journaled LogState::journaled() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return journaled_;
}

LogPosition LogState::known() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return journaled_.known;
}

bool LogState::empty() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return journaled_.segments.empty();
}

bool LogState::Fits(const LogSegment& segment) const {
  if (segment.logical > kMaxLogBytes || segment.position > kMaxLogBytes ||
      segment.position % kBlockBytes != 0) {
    return false;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::vector<LogSegment>& segments = journaled_.segments;
  const auto behind =
      std::lower_bound(segments.begin(), segments.end(), segment.logical,
                       [](const LogSegment& old, uint64_t logical) {
                         return old.logical < logical;
                       });
  if (behind == segments.begin()) return segment.logical == 0;
  const LogSegment& last = *std::prev(behind);
  return segment.position > last.position &&
         segment.logical - last.logical <= segment.position - last.position;
}

int64_t LogState::Begin(const LogSegment& segment) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<LogSegment>& segments = journaled_.segments;
  const auto before = static_cast<int64_t>(segments.size());
  while (!segments.empty() && segments.back().logical >= segment.logical) {
    segments.pop_back();
  }
  segments.push_back(segment);
  const LogPosition start = {segment.logical, segment.position,
                             LogChain(segment.generation)};
  journaled_.known = start;
  journaled_.closed = false;
  left_ = false;
  while (!marks_.empty() && marks_.back().logical >= segment.logical) {
    marks_.pop_back();
  }
  marks_.push_back(start);
  end_ = start;
  if (damaged_from_ >= segment.logical) damaged_from_ = UINT64_MAX;
  return static_cast<int64_t>(segments.size()) - before;
}

bool LogState::Fits(const LogPosition& known) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (journaled_.segments.empty() || known.logical > kMaxLogBytes ||
      known.position > kMaxLogBytes ||
      known.position % kLogFrameAlignBytes != 0) {
    return false;
  }
  const LogSegment& last = journaled_.segments.back();
  return known.logical >= last.logical && known.position >= last.position &&
         known.logical - last.logical <= known.position - last.position;
}

void LogState::SetKnown(const LogPosition& known, bool closed) {
  const std::lock_guard<std::mutex> lock(mutex_);
  journaled_.known = known;
  journaled_.closed = closed;
}

bool LogState::sized() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return sized_;
}

LogPosition LogState::end() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return end_;
}

void LogState::SetEnd(const LogPosition& end) {
  const std::lock_guard<std::mutex> lock(mutex_);
  end_ = end;
  sized_ = true;
}

void LogState::LeaveSegment() {
  const std::lock_guard<std::mutex> lock(mutex_);
  left_ = true;
}

bool LogState::TakeSegment() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(left_, false);
}

void LogState::SetDamage(uint64_t from, const std::string& why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  damaged_from_ = from;
  damage_ = why;
}

uint64_t LogState::damaged_from(std::string* why) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (why != nullptr) *why = damage_;
  return damaged_from_;
}

LogPosition LogState::FindMark(uint64_t logical,
                               std::vector<LogSegment>* segments) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  *segments = journaled_.segments;
  const auto behind =
      std::upper_bound(marks_.begin(), marks_.end(), logical, IsBefore);
  return behind == marks_.begin() ? LogPosition() : *std::prev(behind);
}

void LogState::AddMark(const LogPosition& place, uint64_t generation) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::vector<LogSegment>& segments = journaled_.segments;
  const auto next =
      std::upper_bound(segments.begin(), segments.end(), place.logical,
                       [](uint64_t logical, const LogSegment& segment) {
                         return logical < segment.logical;
                       });
  // Of a segment that has been replaced since.
  if (next == segments.begin() || std::prev(next)->generation != generation) {
    return;
  }
  const auto behind =
      std::upper_bound(marks_.begin(), marks_.end(), place.logical, IsBefore);
  if (behind == marks_.begin()) return;
  const LogPosition& before = *std::prev(behind);
  if (place.logical == before.logical ||
      place.position < before.position + kMarkBytes) {
    return;
  }
  if (behind != marks_.end() &&
      behind->position < place.position + kMarkBytes) {
    return;
  }
  marks_.insert(behind, place);
}

}  // namespace diofs
