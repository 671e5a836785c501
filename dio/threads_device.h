#ifndef DIOFS_DIO_THREADS_DEVICE_H_
#define DIOFS_DIO_THREADS_DEVICE_H_

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dio/sync_device.h"

namespace diofs {

// The backend for where io_uring is not to be had, or would hand each request
// to a kernel thread anyway: pread and pwrite on a bounded pool of threads.
// A lone synchronous bio is moved by the calling thread, and a thread that
// waits moves what is queued meanwhile. Thread-safe.
class ThreadsDevice final : public SyncDevice {
 public:
  // As many requests as are moved at once; threads are started as they are
  // needed and stay.
  static constexpr size_t kMaxThreads = 32;
  // Behind so many the submitter moves its bios itself.
  static constexpr size_t kMaxQueuedBios = 256;

  ThreadsDevice(std::string name, const Geometry& geometry, ScopedFd fd);
  ~ThreadsDevice() override;

  void Wait(Dio* dio, uint32_t wait_nr) override;
  void Poll() override;
  const char* backend_name() const override { return "threads"; }

 private:
  // What the threads share. Theirs to use until they have been joined; in a
  // forked child, where none of them lives, nobody's.
  struct Pool {
    std::mutex mutex;
    std::condition_variable work;       // a bio was queued, or stopping
    std::condition_variable completed;  // a bio has ended
    // Guarded by mutex.
    std::array<Bio*, kMaxQueuedBios> queue;  // a ring
    size_t first = 0;
    size_t queued = 0;
    std::vector<std::thread> threads;
    size_t idle = 0;
    bool stopping = false;
  };

  void DoSubmit(Bio* const* bios, size_t count) override;
  // There is room; the pool's lock is held.
  void Enqueue(Bio* bio);
  // Starts a thread where queued bios outnumber idle threads; the pool's lock
  // is held. A thread that cannot be had is done without.
  void StartThread();
  void Run();
  // Moves the first queued bio; the lock is given up meanwhile.
  void MoveFirst(std::unique_lock<std::mutex>* lock);

  std::unique_ptr<Pool> pool_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_THREADS_DEVICE_H_
