#ifndef DIOFS_DIO_URING_DEVICE_H_
#define DIOFS_DIO_URING_DEVICE_H_

#include <memory>
#include <string>

#include "dio/io_ring.h"
#include "dio/sync_device.h"

namespace diofs {

// The io_uring backend. Batches of two or more bios, and asynchronous ones,
// leave through a leased ring in one io_uring_enter; a lone synchronous bio is
// moved by the calling thread, which costs the same and needs no ring. Flush
// and discard are those of SyncDevice. Thread-safe.
class UringDevice final : public SyncDevice {
 public:
  // Fails, closing nothing, where io_uring is not to be had; `fd` is owned only
  // on success.
  static Result Create(std::string name, const Geometry& geometry, int fd,
                       std::unique_ptr<BlockDevice>* device);

  void Wait(Dio* dio) override;
  void Poll() override;
  const char* backend_name() const override { return "uring"; }

 private:
  UringDevice(std::string name, const Geometry& geometry, int fd);
  void DoSubmit(Bio* const* bios, size_t count) override;
  // Runs on the reaping thread for each completion; finishes there, with plain
  // system calls, what was cut short or not even tried.
  void Complete(Bio* bio, int result);

  RingPool rings_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_URING_DEVICE_H_
