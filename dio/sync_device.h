#ifndef DIOFS_DIO_SYNC_DEVICE_H_
#define DIOFS_DIO_SYNC_DEVICE_H_

#include <string>

#include "dio/block_device.h"

namespace diofs {

// The backend that always works: preadv2 and pwritev2 on the submitting thread.
// Owns `fd`. Thread-safe.
class SyncDevice : public BlockDevice {
 public:
  SyncDevice(std::string name, const Geometry& geometry, int fd);
  ~SyncDevice() override;

  void Wait(Dio* dio) override;
  const char* backend_name() const override { return "sync"; }

 protected:
  int fd() const { return fd_; }
  void DoSubmit(Bio* const* bios, size_t count) override;
  Result DoFlush() override;
  Result DoDiscard(uint64_t offset, uint64_t bytes) override;
  // Moves what is left of `bio`, on this thread, and ends it. Short transfers
  // go on where they stopped; EINTR and EAGAIN are retried up to kMaxRetries.
  void CompleteHere(Bio* bio);
  // Counts `moved` bytes of a completion, down to a whole block.
  void Advance(Bio* bio, uint32_t moved) const;
  // Ends `bio` with all its bytes or -errno.
  void Finish(Bio* bio, int64_t result);

 private:
  static constexpr uint32_t kMaxRetries = 100;

  const int fd_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_SYNC_DEVICE_H_
