#include "env/staging_reader.h"

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

namespace diofs {
namespace {

bool IsWhole(const StagedBaseSlot& slot) {
  return slot.number != 0 && slot.crc == slot.ComputeCrc();
}

// A process that died while it wrote one slot left the other one whole.
Result ReadBases(const StagingWords& words, std::vector<StagedBase>* bases) {
  const StagedBaseSlot* last = nullptr;
  const StagedBaseSlot* before = nullptr;
  bool empty = true;
  for (const StagedBaseSlot& slot : words.bases) {
    empty = empty && slot.number == 0;
    if (!IsWhole(slot)) continue;
    if (last == nullptr || slot.number > last->number) {
      before = std::exchange(last, &slot);
    } else {
      before = &slot;
    }
  }
  if (last == nullptr) {
    return empty ? Result::Ok()
                 : Result::Error(EUCLEAN, "no base of it is whole");
  }
  bases->push_back({last->sequence, last->chain, last->tentative != 0});
  if (last->tentative != 0 && before != nullptr) {
    bases->push_back({before->sequence, before->chain, false});
  }
  return Result::Ok();
}

}  // namespace

Result ReadStaging(const StagingFile& file, StagedContent* content) {
  *content = StagedContent();
  const StagingWords& words = *file.words();
  content->state = static_cast<StagingState>(words.state.load());
  if (content->state != StagingState::kFresh &&
      content->state != StagingState::kActive &&
      content->state != StagingState::kDone) {
    return Result::Error(EUCLEAN, "its state is none");
  }
  uint64_t head = 0;
  uint64_t tail = 0;
  if (!UnsealPosition(words.head.load(), &head) ||
      !UnsealPosition(words.tail.load(), &tail) || head > tail ||
      tail - head > file.ring_bytes()) {
    return Result::Error(EUCLEAN, "its ends are none");
  }
  std::string_view ring(file.At(head), tail - head);
  while (!ring.empty()) {
    const uint64_t position = tail - ring.size();
    StagedRecord record;
    if (Result r = StagedRecord::DecodeFrom(&ring, position, &record);
        !r.ok()) {
      return std::move(r).With("at " + std::to_string(position));
    }
    content->records.push_back(record);
  }
  return ReadBases(words, &content->bases);
}

}  // namespace diofs
