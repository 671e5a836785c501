#include "env/staging.h"

#include <algorithm>
#include <utility>

namespace diofs {

Staging::Hold::Hold(Staging* staging) : staging_(staging) {
  if (staging_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(staging_->mutex_);
  staging_->holds_.insert(this);
}

Staging::Hold::~Hold() {
  // The copy of the mutex may be held for ever.
  if (staging_ == nullptr || staging_->fork_guard_.Crossed()) return;
  const std::lock_guard<std::mutex> lock(staging_->mutex_);
  staging_->holds_.erase(this);
}

bool Staging::Hold::Stage(StagedType type, uint64_t number, uint64_t offset,
                          std::string_view body) {
  if (staging_ == nullptr) return false;
  StagedRecord record;
  record.type = type;
  record.number = number;
  record.offset = offset;
  record.body = body;
  return staging_->Append(record, this);
}

void Staging::Hold::Release(uint64_t mark) {
  if (staging_ != nullptr) staging_->Release(this, mark);
}

bool Staging::Hold::OlderThan(uint64_t position) const {
  if (staging_ == nullptr) return false;
  const std::lock_guard<std::mutex> lock(staging_->mutex_);
  return from_ < position;
}

Staging::Staging(std::unique_ptr<StagingFile> file) : file_(std::move(file)) {}

void Staging::Start() {
  file_->words()->state.store(static_cast<uint64_t>(StagingState::kActive),
                              std::memory_order_release);
}

bool Staging::Append(const StagedRecord& record, Hold* hold) {
  const uint64_t bytes = record.bytes();
  const uint64_t ring_bytes = file_->ring_bytes();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_ || record.body.size() >= ring_bytes) return false;
  const auto used = [&] { return tail_ + bytes - head_; };
  if (used() > ring_bytes / 2 && tail_ >= look_at_) {
    AdvanceHead();
    look_at_ = tail_ + ring_bytes / 16;
  }
  if (used() > ring_bytes) AdvanceHead();
  crowded_.store(used() > ring_bytes / 2, std::memory_order_relaxed);
  if (used() > ring_bytes) return false;
  record.EncodeTo(file_->At(tail_), tail_);
  if (hold->from_ == UINT64_MAX) hold->from_ = tail_;
  tail_ += bytes;
  hold->end_ = tail_;
  file_->words()->tail.store(SealPosition(tail_), std::memory_order_release);
  return true;
}

// What lies before the head may be written over as soon as the head has moved,
// and not before.
void Staging::AdvanceHead() {
  uint64_t head = tail_;
  for (const Hold* const hold : holds_) head = std::min(head, hold->from_);
  if (head == head_) return;
  head_ = head;
  file_->words()->head.store(SealPosition(head), std::memory_order_release);
  // For the compiler: whoever looks comes after the death, when every store of
  // the program has arrived, up to one of them.
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Staging::Release(Hold* hold, uint64_t mark) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (mark <= hold->from_) return;
  hold->from_ = mark < hold->end_ ? mark : UINT64_MAX;
}

uint64_t Staging::old() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return tail_ - std::min(tail_, file_->ring_bytes() / 4);
}

void Staging::NoteBase(const StagedBase& base) {
  const std::lock_guard<std::mutex> lock(mutex_);
  StagedBaseSlot slot;
  slot.number = ++bases_;
  slot.sequence = base.sequence;
  slot.chain = base.chain;
  slot.tentative = base.tentative ? 1 : 0;
  slot.crc = slot.ComputeCrc();
  file_->words()->bases[slot.number % 2] = slot;
}

bool Staging::Close(const Hold& except) {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  return std::any_of(holds_.begin(), holds_.end(), [&](const Hold* hold) {
    return hold != &except && hold->from_ != UINT64_MAX;
  });
}

void Staging::SetDone() {
  file_->words()->state.store(static_cast<uint64_t>(StagingState::kDone),
                              std::memory_order_release);
}

}  // namespace diofs
