#include "dio/uring_device.h"

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "dio/dio.h"

namespace diofs {

namespace {

// How often a request is looked at that only another thread can complete.
constexpr std::chrono::microseconds kForeignWait(100);

// Never a write: another thread may wait for one of the same blocks.
bool WantsOwnRing(const Dio& dio) {
  return dio.waiter() == Waiter::kSubmitter &&
         dio.direction() == IoDirection::kRead;
}

}  // namespace

Result UringDevice::Create(std::string name, const Geometry& geometry,
                           ScopedFd* fd, std::unique_ptr<BlockDevice>* device,
                           std::string* note) {
  // Made before the device owns `fd`.
  std::unique_ptr<IoRing> first;
  Result result = IoRing::Create(fd->get(), RingPool::kEntries,
                                 IoRing::Kind::kShared, nullptr, &first);
  if (!result.ok()) return result;
  *note = first->note();
  std::unique_ptr<UringDevice> made(
      new UringDevice(std::move(name), geometry, std::move(*fd)));
  made->rings_.Adopt(std::move(first));
  *device = std::move(made);
  return Result::Ok();
}

UringDevice::UringDevice(std::string name, const Geometry& geometry,
                         ScopedFd fd)
    : SyncDevice(std::move(name), geometry, std::move(fd)),
      rings_(this->fd(),
             [this](Bio* bio, int result) { Complete(bio, result); }),
      ring_discard_(geometry.is_block_device) {}

void UringDevice::DoSubmit(Bio* const* bios, size_t count) {
  if (count == 1 && !bios[0]->dio()->async() && !bios[0]->fua() &&
      bios[0]->ioprio() == 0) {
    return SyncDevice::DoSubmit(bios, count);
  }
  // One ring for the whole batch, and for what follows of a request that is
  // longer than one: its waiter looks in one place.
  IoRing* ring = bios[0]->dio()->ring();
  if (ring == nullptr) ring = RingFor(*bios[0]->dio());
  if (ring == nullptr) return SyncDevice::DoSubmit(bios, count);
  size_t taken = 0;
  uint64_t fixed = 0;
  const bool own = WantsOwnRing(*bios[0]->dio());
  for (; taken < count; ++taken) {
    Dio* const dio = bios[taken]->dio();
    if (WantsOwnRing(*dio) != own) break;
    if (dio->ring() == nullptr) dio->set_ring(ring);
    if (dio->ring() != ring) break;
    if (ring->IsFixed(*bios[taken])) ++fixed;
  }
  if (fixed > 0) {
    stats().fixed_buffer_ios.fetch_add(fixed, std::memory_order_relaxed);
  }
  const unsigned enters = ring->Submit(bios, taken);
  stats().ring_submits.fetch_add(enters, std::memory_order_relaxed);
  if (taken < count) DoSubmit(bios + taken, count - taken);
}

IoRing* UringDevice::RingFor(const Dio& dio) {
  IoRing* ring = WantsOwnRing(dio) ? rings_.Own() : nullptr;
  if (ring == nullptr) ring = rings_.Pick();
  return ring;
}

void UringDevice::Wait(Dio* dio, uint32_t wait_nr) {
  IoRing* const ring = dio->ring();
  if (ring == nullptr) return SyncDevice::Wait(dio, wait_nr);
  if (WantsOwnRing(*dio) && !rings_.MayUse(ring)) {
    while (!dio->done()) std::this_thread::sleep_for(kForeignWait);
    return;
  }
  ring->WaitUntil([dio] { return dio->done(); }, wait_nr);
}

void UringDevice::Poll() {
  if (!stale()) rings_.ReapAll();
}

Result UringDevice::DoDiscard(uint64_t offset, uint64_t bytes) {
  if (ring_discard_.load(std::memory_order_relaxed)) {
    IoRing* const ring = rings_.Pick();
    Result result = ring == nullptr ? Result::Error(EOPNOTSUPP)
                                    : ring->Discard(offset, bytes);
    if (result.ok()) return result;
    // An older kernel, or a device that wants it the old way (zram).
    if (result.error() != EOPNOTSUPP && result.error() != EINVAL) {
      return result;
    }
    ring_discard_.store(false, std::memory_order_relaxed);
  }
  return SyncDevice::DoDiscard(offset, bytes);
}

}  // namespace diofs
