#include "tests/gauges.h"

#include <gtest/gtest.h>

namespace diofs {

void ExpectNothingHeld(BlockDevice* device) {
  if (device == nullptr || device->stale()) return;
  EXPECT_EQ(0u, device->bios_in_use()) << device->name();
  EXPECT_EQ(0u, device->writes_in_flight()) << device->name();
  EXPECT_EQ(0, device->stats().bounces) << device->name();
  EXPECT_EQ(0, device->stats().reservations) << device->name();
}

}  // namespace diofs
