#ifndef DIOFS_DIO_SYNC_DEVICE_H_
#define DIOFS_DIO_SYNC_DEVICE_H_

#include <string>

#include "dio/block_device.h"
#include "dio/scoped_fd.h"

namespace diofs {

// The backend that always works: pread and pwrite on the submitting thread.
// Owns `fd`. Thread-safe.
class SyncDevice : public BlockDevice {
 public:
  SyncDevice(std::string name, const Geometry& geometry, ScopedFd fd);
  ~SyncDevice() override;

  void Wait(Dio* dio, uint32_t wait_nr) override;
  // A synchronous write that asks for durability costs a flush of its own
  // beside the write; a shared one is never worse.
  bool CanFua() const override { return false; }
  const char* backend_name() const override { return "sync"; }

 protected:
  int fd() const { return fd_.get(); }
  void DoSubmit(Bio* const* bios, size_t count) override;
  int64_t DoMove(Bio* bio) override;
  Result DoFlush() override;
  Result DoDiscard(uint64_t offset, uint64_t bytes) override;

 private:
  const ScopedFd fd_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_SYNC_DEVICE_H_
