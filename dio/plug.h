#ifndef DIOFS_DIO_PLUG_H_
#define DIOFS_DIO_PLUG_H_

#include <array>
#include <cstddef>

#include "dio/bio.h"

namespace diofs {

class BlockDevice;

// Gathers the bios of one or more requests so that they reach the device in one
// submission. Lives on the stack of the submitting thread; not thread-safe. A
// thread has one plug for a device at a time.
class Plug {
 public:
  // A full plug submits what it holds and completes what is ready, so that the
  // bios of a long request do not all wait for its end.
  static constexpr size_t kMaxBios = 64;

  // Not value-initialised: the array needs none.
  explicit Plug(BlockDevice* device) : device_(device) {}
  Plug(const Plug&) = delete;
  Plug& operator=(const Plug&) = delete;
  ~Plug() { Finish(); }

  // Takes a filled bio.
  void Add(Bio* bio);
  // Submits all that has gathered.
  void Finish();

 private:
  BlockDevice* const device_;
  size_t count_ = 0;
  std::array<Bio*, kMaxBios> bios_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_PLUG_H_
