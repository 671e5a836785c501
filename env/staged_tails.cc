#include "env/staged_tails.h"

#include "env/metadata_op.h"

namespace diofs {

void StagedTails::Add(uint64_t ino, uint64_t offset, std::string_view bytes) {
  if (bytes.empty()) return;
  Cut(ino, offset);
  Tail& tail = tails_[ino];
  // Between two that do not meet lies what found no room here and went to the
  // device, and everything before it with it.
  if (tail.end() != offset) tail = {offset, {}};
  tail.bytes += bytes;
}

Result StagedTails::Cut(std::string_view operations) {
  while (!operations.empty()) {
    MetadataOp op;
    if (Result r = MetadataOp::DecodeFrom(&operations, &op); !r.ok()) return r;
    // A size that grows has nothing behind it: it was staged last.
    if (op.type == OpType::kSize) Cut(op.ino, op.size);
    if (op.type == OpType::kSegment) Cut(op.ino, op.segment.logical);
  }
  return Result::Ok();
}

void StagedTails::Cut(uint64_t ino, uint64_t end) {
  const auto found = tails_.find(ino);
  if (found == tails_.end() || found->second.end() <= end) return;
  Tail& tail = found->second;
  if (end <= tail.offset) {
    tails_.erase(found);
  } else {
    tail.bytes.resize(end - tail.offset);
  }
}

}  // namespace diofs
