#ifndef DIOFS_ENV_REPAIR_H_
#define DIOFS_ENV_REPAIR_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/result.h"

namespace diofs {

// Puts right what can be without inventing anything:
//   - superblock copies that are damaged or behind, from one that is not
//   - a volume that was not unmounted: its journal is replayed
//   - with `lost_cache`, because somebody says that the device has lost power
//     while the host went on: a journal of which a frame is missing that this
//     boot wrote, and no later one shows to have been durable. It counts as
//     torn, and what follows is given up
// *done gets one line for each; empty where there was nothing to do. What it
// cannot put right it leaves as it is: check again. `open` opens the device for
// writing, more than once. An error means that a step failed half way; all that
// it leaves can be repaired again.
using OpenForRepair = std::function<Result(std::unique_ptr<BlockDevice>*)>;
Result Repair(const OpenForRepair& open, bool lost_cache,
              std::vector<std::string>* done);

}  // namespace diofs

#endif  // DIOFS_ENV_REPAIR_H_
