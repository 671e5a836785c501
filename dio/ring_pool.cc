#include "dio/ring_pool.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <new>
#include <utility>

#include "dio/fork_guard.h"

namespace diofs {

struct RingPool::OwnRings {
  // Never reallocated, so that a child finds it whole whenever it is forked.
  OwnRings() { rings.reserve(kMaxOwnRings); }

  const ForkGuard fork_guard;
  std::mutex mutex;                            // before a ring's mutexes
  std::vector<std::unique_ptr<IoRing>> rings;  // guarded by mutex
  // The kernel has none (before 6.1).
  std::atomic<bool> unknown{false};

  // Of a thread that ends. What it left in flight is completed first.
  void Release(const IoRing* ring) {
    // A parent's lock, which nobody may hold the key to any more.
    if (fork_guard.Crossed()) return;
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found =
        std::find_if(rings.begin(), rings.end(),
                     [ring](const auto& other) { return other.get() == ring; });
    // Unless the pool was faster.
    if (found == rings.end()) return;
    IoRing* const left = found->get();
    left->WaitUntil([left] { return left->in_flight() == 0; });
    rings.erase(found);
  }
};

// The own rings of one thread, one for each device at most.
class RingPool::ThreadRings {
 public:
  ThreadRings() = default;
  ThreadRings(const ThreadRings&) = delete;
  ThreadRings& operator=(const ThreadRings&) = delete;
  ~ThreadRings() {
    t_ended_ = true;
    for (const Entry& entry : entries_) {
      if (const auto pool = entry.pool.lock()) pool->Release(entry.ring);
    }
  }

  // Null for a thread that is ending: others of its destructors may still read.
  static ThreadRings* Get() {
    if (t_ended_) return nullptr;
    static thread_local ThreadRings rings;
    return &rings;
  }

  IoRing* Find(const OwnRings* pool) const {
    for (const Entry& entry : entries_) {
      if (entry.key == pool) return entry.ring;
    }
    return nullptr;
  }
  // False where there is no memory.
  bool Add(const std::shared_ptr<OwnRings>& pool, IoRing* ring) {
    entries_.erase(
        std::remove_if(entries_.begin(), entries_.end(),
                       [](const Entry& old) { return old.pool.expired(); }),
        entries_.end());
    try {
      entries_.push_back({pool.get(), pool, ring});
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }

 private:
  struct Entry {
    // Names no other pool while `pool` exists, for it keeps the memory.
    const OwnRings* key;
    std::weak_ptr<OwnRings> pool;
    IoRing* ring;
  };

  static thread_local bool t_ended_;
  std::vector<Entry> entries_;
};

thread_local bool RingPool::ThreadRings::t_ended_ = false;

RingPool::RingPool(int fd, IoRing::CompleteFn complete)
    : fd_(fd),
      complete_(std::move(complete)),
      // With make_shared, so that a weak reference keeps its address.
      own_(std::make_shared<OwnRings>()) {
  rings_.reserve(kMaxRingsMade);
}

RingPool::~RingPool() {
  if (own_->fork_guard.Crossed()) return;
  // Here, whoever else holds a reference just now: the device is to be closed.
  const std::lock_guard<std::mutex> lock(own_->mutex);
  own_->rings.clear();
}

Result RingPool::Make(IoRing::Kind kind, const IoRing* sibling,
                      std::unique_ptr<IoRing>* ring) const {
  try {
    Result made = IoRing::Create(fd_, kEntries, kind, sibling, ring);
    if (made.ok()) (*ring)->set_complete(complete_);
    return made;
  } catch (const std::bad_alloc&) {
    return Result::Error(ENOMEM);
  }
}

void RingPool::Adopt(std::unique_ptr<IoRing> ring) {
  ring->set_complete(complete_);
  const std::lock_guard<std::mutex> lock(mutex_);
  rings_.push_back(std::move(ring));
}

IoRing* RingPool::Pick() {
  const std::lock_guard<std::mutex> lock(mutex_);
  IoRing* best = nullptr;
  unsigned usable = 0;
  for (const auto& ring : rings_) {
    if (!ring->usable()) continue;
    ++usable;
    if (best == nullptr || ring->in_flight() < best->in_flight()) {
      best = ring.get();
    }
  }
  if (best != nullptr && best->in_flight() == 0) return best;
  if (!exhausted_ && usable < kMaxRings && rings_.size() < kMaxRingsMade) {
    const IoRing* const sibling = rings_.empty() ? nullptr : rings_[0].get();
    std::unique_ptr<IoRing> ring;
    if (Make(IoRing::Kind::kShared, sibling, &ring).ok()) {
      rings_.push_back(std::move(ring));
      return rings_.back().get();
    }
    exhausted_ = true;
  }
  return best;
}

IoRing* RingPool::Own() {
  IoRing* ring = FindOwn();
  if (ring == nullptr) ring = MakeOwn();
  return ring != nullptr && ring->usable() ? ring : nullptr;
}

bool RingPool::MayUse(const IoRing* ring) {
  if (ring == FindOwn()) return true;
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::any_of(rings_.begin(), rings_.end(), [ring](const auto& shared) {
    return shared.get() == ring;
  });
}

IoRing* RingPool::FindOwn() const {
  const ThreadRings* const thread = ThreadRings::Get();
  return thread == nullptr ? nullptr : thread->Find(own_.get());
}

IoRing* RingPool::MakeOwn() {
  ThreadRings* const thread = ThreadRings::Get();
  if (thread == nullptr || own_->unknown.load(std::memory_order_relaxed)) {
    return nullptr;
  }
  const IoRing* sibling = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!rings_.empty()) sibling = rings_[0].get();
  }
  const std::lock_guard<std::mutex> lock(own_->mutex);
  if (own_->rings.size() == kMaxOwnRings) return nullptr;
  std::unique_ptr<IoRing> ring;
  const Result made = Make(IoRing::Kind::kOwn, sibling, &ring);
  if (!made.ok() || !thread->Add(own_, ring.get())) {
    // Descriptors or memory, which other errors are about, may be had later.
    if (made.error() == EINVAL) {
      own_->unknown.store(true, std::memory_order_relaxed);
    }
    return nullptr;
  }
  own_->rings.push_back(std::move(ring));
  return own_->rings.back().get();
}

void RingPool::ReapAll() {
  // Rings are only ever added, up to kMaxRingsMade; so their addresses stay.
  std::array<IoRing*, kMaxRingsMade> rings;
  size_t count = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& ring : rings_) rings[count++] = ring.get();
  }
  for (size_t i = 0; i < count; ++i) rings[i]->Reap();
  if (IoRing* const own = FindOwn()) own->Reap();
}

}  // namespace diofs
