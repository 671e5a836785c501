#ifndef DIOFS_ENV_LOG_PLAN_H_
#define DIOFS_ENV_LOG_PLAN_H_

#include <cstdint>
#include <vector>

#include "env/extent_map.h"

namespace diofs {

// Where a frame of a log goes.
struct PlannedFrame {
  uint64_t position = 0;  // in the stream
  uint32_t payload_bytes = 0;
};

// Finds room for `bytes` more bytes of a log from `position` on: frames as long
// as can be, each in one run of device blocks, so that it is one write. Where
// the rest of a run is too short for a frame, the next run that is not takes
// it,
//
//   bytes = 9000:  |…frame|   4000   |  |    16384     |
//                                       ^ one frame of 9000 here
//
// and only where none is long enough it is cut to pieces. False where the
// blocks do not suffice; *frames is what fits then.
bool PlanLogFrames(const ExtentMap& map, uint64_t position, uint64_t bytes,
                   std::vector<PlannedFrame>* frames);

// Blocks that hold a log's next `bytes` bytes, however scattered they are.
uint64_t BlocksForLog(uint64_t bytes);

}  // namespace diofs

#endif  // DIOFS_ENV_LOG_PLAN_H_
