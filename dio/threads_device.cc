#include "dio/threads_device.h"

#include <utility>

#include "dio/background_thread.h"
#include "dio/dio.h"

namespace diofs {

ThreadsDevice::ThreadsDevice(std::string name, const Geometry& geometry,
                             ScopedFd fd)
    : SyncDevice(std::move(name), geometry, std::move(fd)),
      pool_(std::make_unique<Pool>()) {
  pool_->threads.reserve(kMaxThreads);
}

ThreadsDevice::~ThreadsDevice() {
  if (stale()) {
    // Its threads and whoever waited stayed with the parent.
    (void)pool_.release();
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(pool_->mutex);
    pool_->stopping = true;
  }
  pool_->work.notify_all();
  for (std::thread& thread : pool_->threads) thread.join();
}

void ThreadsDevice::DoSubmit(Bio* const* bios, size_t count) {
  if (count == 1 && !bios[0]->dio()->async()) {
    return SyncDevice::DoSubmit(bios, count);
  }
  size_t taken = 0;
  {
    const std::lock_guard<std::mutex> lock(pool_->mutex);
    for (; taken < count && pool_->queued < kMaxQueuedBios; ++taken) {
      Enqueue(bios[taken]);
      if (pool_->idle < pool_->queued) StartThread();
    }
    // Without a single thread the queue would wait for a waiter.
    if (pool_->threads.empty()) {
      pool_->queued = 0;
      taken = 0;
    }
  }
  if (taken == 1) {
    pool_->work.notify_one();
  } else if (taken > 1) {
    pool_->work.notify_all();
  }
  if (taken < count) SyncDevice::DoSubmit(bios + taken, count - taken);
}

void ThreadsDevice::Enqueue(Bio* bio) {
  pool_->queue[(pool_->first + pool_->queued) % kMaxQueuedBios] = bio;
  ++pool_->queued;
}

void ThreadsDevice::StartThread() {
  if (pool_->threads.size() == kMaxThreads) return;
  std::thread thread = StartBackgroundThread("diofs-io", [this] { Run(); });
  // Else those there are do the work.
  if (thread.joinable()) pool_->threads.push_back(std::move(thread));
}

void ThreadsDevice::Run() {
  std::unique_lock<std::mutex> lock(pool_->mutex);
  while (true) {
    while (pool_->queued > 0) MoveFirst(&lock);
    if (pool_->stopping) return;
    ++pool_->idle;
    pool_->work.wait(lock);
    --pool_->idle;
  }
}

void ThreadsDevice::MoveFirst(std::unique_lock<std::mutex>* lock) {
  Bio* const bio = pool_->queue[pool_->first];
  pool_->first = (pool_->first + 1) % kMaxQueuedBios;
  --pool_->queued;
  lock->unlock();
  Complete(bio, MoveNow(bio));
  lock->lock();
  pool_->completed.notify_all();
}

void ThreadsDevice::Wait(Dio* dio, uint32_t /*wait_nr*/) {
  std::unique_lock<std::mutex> lock(pool_->mutex);
  // What ends a bio takes the lock afterwards, so its notification cannot fall
  // between the check and the sleep.
  while (!dio->done()) {
    if (pool_->queued == 0) {
      pool_->completed.wait(lock);
    } else {
      MoveFirst(&lock);
    }
  }
}

void ThreadsDevice::Poll() {
  if (stale()) return;
  std::unique_lock<std::mutex> lock(pool_->mutex);
  if (pool_->queued > 0) MoveFirst(&lock);
}

}  // namespace diofs
