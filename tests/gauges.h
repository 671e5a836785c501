#ifndef DIOFS_TESTS_GAUGES_H_
#define DIOFS_TESTS_GAUGES_H_

#include <memory>

#include "dio/block_device.h"

namespace diofs {

// Fails the test where `device` still holds anything: bios, which pin memory,
// writes in flight, bounce buffers, reservations of mappers. Null, and in a
// forked child the device of its parent, hold nothing. Devices made for tests
// do so when they go away; what buffers are out, tests/gauge_listener.cc looks
// after, in every program.
void ExpectNothingHeld(BlockDevice* device);

// A device of the engine's own kinds, checked in the same way.
struct DeleteChecked {
  DeleteChecked() = default;
  // Any device may become one. NOLINTNEXTLINE(google-explicit-constructor)
  DeleteChecked(const std::default_delete<BlockDevice>&) {}
  void operator()(BlockDevice* device) const {
    ExpectNothingHeld(device);
    delete device;
  }
};
using CheckedDevice = std::unique_ptr<BlockDevice, DeleteChecked>;

}  // namespace diofs

#endif  // DIOFS_TESTS_GAUGES_H_
