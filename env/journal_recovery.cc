#include <cerrno>
#include <string>
#include <utility>

#include "dio/buffer_pool.h"
#include "env/file_kind.h"
#include "env/frame_reader.h"
#include "env/journal.h"

namespace diofs {

struct Journal::Survey {
  FrameReader::Position snapshot;  // behind the snapshot
  FrameReader::Position end;       // behind the last whole frame
};

Result Journal::Recover(const RecoveryInput& input, const ApplyFn& apply,
                        RecoveryReport* report) {
  *report = RecoveryReport();
  State state;
  Survey survey;
  Result result = ChooseRegion(&state.region, &state.header);
  if (!result.ok()) return std::move(result).With("journal");
  result = SurveyRegion(input, state, &survey, report);
  if (!result.ok()) return std::move(result).With("journal");
  result = ApplyFrames(survey, state, apply, report);
  if (!result.ok()) return std::move(result).With("journal");

  report->region = state.region;
  report->region_used_bytes = survey.end.offset;
  // What survived a power cut is durable; what the same boot wrote may still
  // lie in the device's cache.
  const bool may_be_cached = input.same_boot && input.clean_sequence == 0;
  const FrameReader::Position& durable =
      may_be_cached ? survey.snapshot : survey.end;
  state.write_offset = survey.end.offset;
  state.sequence = survey.end.sequence;
  state.chain = survey.end.chain;
  state.must_switch = input.clean_sequence == 0;

  std::lock_guard<std::mutex> lock(mutex_);
  state_ = state;
  tail_lsn_ = survey.end.last_lsn;
  written_lsn_ = survey.end.last_lsn;
  safe_lsn_ = survey.end.last_lsn;
  durable_ = {durable.last_lsn, durable.sequence - 1};
  if (!report->corruption.empty()) {
    error_ = Result::Error(EUCLEAN, "journal: " + report->corruption);
  }
  return Result::Ok();
}

Result Journal::ChooseRegion(uint32_t* region, RegionHeader* header) {
  std::array<RegionHeader, 2> headers;
  std::array<Result, 2> results;
  AlignedBuffer buffer = BufferPool::Get(kRegionHeaderBytes);
  if (!buffer) return Result::Error(ENOMEM);
  for (const uint32_t i : {0, 1}) {
    Result result = device_->Read(layout_.region_offset[i], buffer.data(),
                                  kRegionHeaderBytes, kIoClassJournal);
    if (!result.ok()) return result;
    results[i] = RegionHeader::Decode(
        std::string_view(buffer.data(), kRegionHeaderBytes), layout_.uuid,
        layout_.region_bytes, &headers[i]);
  }
  if (!results[0].ok() && !results[1].ok()) {
    return Result::Error(
        EUCLEAN, "no region is valid: region 0: " + results[0].context() +
                     "; region 1: " + results[1].context());
  }
  const auto live = [&](uint32_t i) {
    return results[i].ok() && !headers[i].tombstone();
  };
  if (live(0) && live(1)) {
    // A crash came between the new header and the tombstone on the old one.
    if (headers[0].first_sequence == headers[1].first_sequence) {
      return Result::Error(EUCLEAN, "both regions begin at one sequence");
    }
    *region = headers[0].first_sequence > headers[1].first_sequence ? 0 : 1;
  } else {
    *region = live(0) ? 0 : 1;
    // A header that is not valid was torn while it was being written, and the
    // other one counts; but nobody writes on a tombstone's successor.
    const RegionHeader& dead = headers[1 - *region];
    const bool named = !results[1 - *region].ok() ||
                       dead.successor_nonce == headers[*region].nonce;
    if (!live(*region) || !named) {
      return Result::Error(EUCLEAN, "the region that took over is lost");
    }
  }
  *header = headers[*region];
  return Result::Ok();
}

// Walks all frames without applying one, and finds out how many count.
Result Journal::SurveyRegion(const RecoveryInput& input, const State& state,
                             Survey* survey, RecoveryReport* report) {
  FrameReader reader(device_, layout_.region_offset[state.region],
                     layout_.region_bytes, state.header);
  const uint64_t deltas_sequence =
      state.header.first_sequence + state.header.snapshot_frames;
  const auto note_bases = [&] {
    for (const StagedBase& base : input.bases) {
      report->base_found |= base.sequence == reader.position().sequence &&
                            base.chain == reader.position().chain;
    }
  };
  FrameReader::Frame frame;
  bool found = true;
  while (true) {
    note_bases();
    Result result = reader.Next(&frame, &found);
    if (!result.ok()) return result;
    if (!found) break;
    if (frame.header.snapshot()) survey->snapshot = reader.position();
  }
  survey->end = reader.position();
  const std::string missing = std::to_string(survey->end.sequence) +
                              " at byte " + std::to_string(survey->end.offset) +
                              " of region " + std::to_string(state.region);
  if (survey->end.sequence < deltas_sequence) {
    return Result::Error(EUCLEAN, "snapshot frame " + missing +
                                      " is missing: " + reader.end_reason());
  }
  if (input.clean_sequence != 0) {
    if (input.clean_sequence != survey->end.sequence ||
        input.clean_region_nonce != state.header.nonce) {
      report->corruption = "a clean unmount left the next frame to be " +
                           std::to_string(input.clean_sequence) +
                           ", but it is " + missing +
                           (input.clean_region_nonce == state.header.nonce
                                ? ": " + reader.end_reason()
                                : ", and another use of the region");
    }
    return Result::Ok();
  }
  Result result =
      reader.FindProof(input.same_boot ? FrameReader::Proof::kWritten
                                       : FrameReader::Proof::kDurable,
                       &frame, &found);
  if (!result.ok() || !found) return result;
  report->corruption =
      "frame " + missing + " is missing (" + reader.end_reason() +
      "), but frame " + std::to_string(frame.header.sequence) + " at byte " +
      std::to_string(frame.offset) +
      (frame.header.durable_sequence >= survey->end.sequence
           ? " names it durable"
           : " was written after it, and no power was lost since");
  return Result::Ok();
}

Result Journal::ApplyFrames(const Survey& survey, const State& state,
                            const ApplyFn& apply, RecoveryReport* report) {
  FrameReader reader(device_, layout_.region_offset[state.region],
                     layout_.region_bytes, state.header);
  while (reader.position().sequence != survey.end.sequence) {
    FrameReader::Frame frame;
    bool found = false;
    Result result = reader.Next(&frame, &found);
    if (!result.ok()) return result;
    const std::string name = "frame " + std::to_string(frame.header.sequence);
    if (!found) {
      return Result::Error(EIO, "a frame reads differently the second time");
    }
    uint32_t op_count = 0;
    if (!CountOperations(frame.payload, &op_count) ||
        op_count != frame.header.op_count) {
      return Result::Error(EUCLEAN, name + ": count of operations");
    }
    if (op_count > 0) {
      result = apply(frame.payload);
      if (!result.ok()) return std::move(result).With(name);
    }
    report->operations += op_count;
    ++(frame.header.snapshot() ? report->snapshot_frames
                               : report->delta_frames);
  }
  return Result::Ok();
}

}  // namespace diofs
