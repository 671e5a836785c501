#ifndef DIOFS_DIO_URING_DEVICE_H_
#define DIOFS_DIO_URING_DEVICE_H_

#include <atomic>
#include <memory>
#include <string>

#include "dio/ring_pool.h"
#include "dio/sync_device.h"

namespace diofs {

// The io_uring backend. Batches of two or more bios, asynchronous ones and
// those a plain system call cannot express leave through a leased ring in one
// io_uring_enter; any other lone bio is moved by the calling thread, which
// costs the same and needs no ring. Of what takes a ring, reads for which the
// submitter waits leave through that thread's own ring. Thread-safe.
class UringDevice final : public SyncDevice {
 public:
  // Takes *fd where it succeeds; it fails where io_uring is not to be had.
  // *note is left empty, or says in one line what is not as good as it could
  // be.
  static Result Create(std::string name, const Geometry& geometry, ScopedFd* fd,
                       std::unique_ptr<BlockDevice>* device, std::string* note);

  void Wait(Dio* dio, uint32_t wait_nr) override;
  void Poll() override;
  // Through a ring a durable write is one request, with FUA.
  bool CanFua() const override { return geometry().fua; }
  const char* backend_name() const override { return "uring"; }

 private:
  UringDevice(std::string name, const Geometry& geometry, ScopedFd fd);
  void DoSubmit(Bio* const* bios, size_t count) override;
  // The ring for a request that has none yet; null where there is none.
  IoRing* RingFor(const Dio& dio);
  Result DoDiscard(uint64_t offset, uint64_t bytes) override;

  RingPool rings_;
  // BLOCK_URING_CMD_DISCARD (Linux 6.12) has not been refused yet.
  std::atomic<bool> ring_discard_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_URING_DEVICE_H_
