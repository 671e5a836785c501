#include "dio/uring_device.h"

#include <cerrno>
#include <utility>

#include "dio/dio.h"

namespace diofs {

Result UringDevice::Create(std::string name, const Geometry& geometry, int fd,
                           std::unique_ptr<BlockDevice>* device) {
  // Tried before the device owns `fd`.
  std::unique_ptr<IoRing> trial;
  Result result = IoRing::Create(
      fd, RingPool::kEntries, [](Bio*, int) {}, &trial);
  if (!result.ok()) return result;
  trial.reset();
  device->reset(new UringDevice(std::move(name), geometry, fd));
  return Result::Ok();
}

UringDevice::UringDevice(std::string name, const Geometry& geometry, int fd)
    : SyncDevice(std::move(name), geometry, fd),
      rings_(fd, [this](Bio* bio, int result) { Complete(bio, result); }) {}

void UringDevice::DoSubmit(Bio* const* bios, size_t count) {
  Dio* const only = count == 1 ? bios[0]->dio() : nullptr;
  if (only != nullptr && !only->async_) return CompleteHere(bios[0]);

  // One ring for the whole batch, and for what follows of a request that is
  // longer than one: its waiter looks in one place.
  IoRing* ring = bios[0]->dio()->ring_;
  if (ring == nullptr) ring = rings_.Pick();
  if (ring == nullptr) return SyncDevice::DoSubmit(bios, count);
  size_t taken = 0;
  for (; taken < count; ++taken) {
    Dio* const dio = bios[taken]->dio();
    if (dio->ring_ == nullptr) dio->ring_ = ring;
    if (dio->ring_ != ring) break;
  }
  const unsigned enters = ring->Submit(bios, taken);
  stats().ring_submits.fetch_add(enters, std::memory_order_relaxed);
  if (taken < count) DoSubmit(bios + taken, count - taken);
}

void UringDevice::Wait(Dio* dio) {
  if (dio->ring_ == nullptr) return SyncDevice::Wait(dio);
  dio->ring_->WaitUntil([dio] { return dio->done(); });
}

void UringDevice::Poll() {
  if (!stale()) rings_.ReapAll();
}

void UringDevice::Complete(Bio* bio, int result) {
  if (result > 0) {
    Advance(bio, static_cast<uint32_t>(result));
  } else if (result != 0 && result != -EAGAIN && result != -EINTR &&
             result != -ECANCELED) {
    return Finish(bio, result);
  }
  CompleteHere(bio);
}

}  // namespace diofs
