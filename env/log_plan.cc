#include "env/log_plan.h"

#include <algorithm>

#include "dio/align.h"
#include "env/log_frame.h"

namespace diofs {
namespace {

// Shorter pieces of a frame are not worth a write of their own.
constexpr uint64_t kMinPieceBytes = 512;

struct Run {
  uint64_t begin = 0;  // in the stream
  uint64_t end = 0;
  uint64_t bytes() const { return end - begin; }
};

// The rest of the run that holds `position`, and all that follow.
std::vector<Run> RunsFrom(const ExtentMap& map, uint64_t position) {
  std::vector<Run> runs;
  Extent extent;
  while (map.Lookup(position / kBlockBytes, &extent)) {
    const uint64_t end =
        AlignDown(position, kBlockBytes) + extent.count * kBlockBytes;
    runs.push_back({position, end});
    position = end;
  }
  return runs;
}

// What a frame in so many bytes can carry.
uint64_t PayloadIn(uint64_t bytes) {
  bytes = AlignDown(bytes, kLogFrameAlignBytes);
  return bytes <= kLogFrameHeaderBytes ? 0 : bytes - kLogFrameHeaderBytes;
}

}  // namespace

bool PlanLogFrames(const ExtentMap& map, uint64_t position, uint64_t bytes,
                   std::vector<PlannedFrame>* frames) {
  frames->clear();
  std::vector<Run> runs = RunsFrom(map, position);
  auto run = runs.begin();
  // What one frame can carry leaves as one piece of work, whatever follows it:
  // the plan for more bytes begins with the plan for fewer.
  uint64_t together = 0;
  while (bytes > 0) {
    if (together == 0) together = std::min<uint64_t>(bytes, kMaxLogPayload);
    uint64_t payload = together;
    const uint64_t whole = LogFrameBytes(payload);
    auto fits = std::find_if(run, runs.end(), [whole](const Run& candidate) {
      return candidate.bytes() >= whole;
    });
    if (fits == runs.end()) {
      fits = std::find_if(run, runs.end(), [](const Run& candidate) {
        return PayloadIn(candidate.bytes()) >= kMinPieceBytes;
      });
      if (fits == runs.end()) return false;
      payload = PayloadIn(fits->bytes());
    }
    run = fits;
    frames->push_back({run->begin, static_cast<uint32_t>(payload)});
    run->begin += LogFrameBytes(payload);
    bytes -= payload;
    together -= payload;
  }
  return true;
}

uint64_t BlocksForLog(uint64_t bytes) {
  // In the worst case each block is a run of its own.
  return DivideRoundUp(bytes, PayloadIn(kBlockBytes)) + 1;
}

}  // namespace diofs
