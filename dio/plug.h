#ifndef DIOFS_DIO_PLUG_H_
#define DIOFS_DIO_PLUG_H_

#include <vector>

#include "dio/bio.h"

namespace diofs {

class BlockDevice;

// Gathers the bios of one or more requests so that they reach the device in one
// submission. Lives on the stack of the submitting thread; not thread-safe.
class Plug {
 public:
  explicit Plug(BlockDevice* device) : device_(device) {}
  Plug(const Plug&) = delete;
  Plug& operator=(const Plug&) = delete;
  ~Plug() { Finish(); }

  // Takes a filled bio; a full plug submits what it holds.
  void Add(Bio* bio);
  // Submits all that has gathered.
  void Finish();

 private:
  BlockDevice* const device_;
  std::vector<Bio*> bios_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_PLUG_H_
