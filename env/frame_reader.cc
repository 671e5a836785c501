#include "env/frame_reader.h"

#include <algorithm>
#include <cerrno>

#include "env/file_kind.h"

namespace diofs {

FrameReader::FrameReader(BlockDevice* device, uint64_t region_offset,
                         uint64_t region_bytes, const RegionHeader& header)
    : device_(device),
      region_offset_(region_offset),
      region_bytes_(region_bytes),
      region_(header) {
  position_.sequence = header.first_sequence;
  position_.chain = FirstChain(header.nonce);
}

Result FrameReader::View(uint64_t offset, uint64_t count, const char** bytes) {
  if (offset < window_begin_ || offset + count > window_end_) {
    const uint64_t want =
        std::min(std::max(count, kWindowBytes), region_bytes_ - offset);
    window_begin_ = window_end_ = 0;
    if (window_.size() < want) window_ = BufferPool::Get(want);
    if (!window_) return Result::Error(ENOMEM, "journal");
    Result result = device_->Read(region_offset_ + offset, window_.data(), want,
                                  kIoClassJournal);
    if (!result.ok()) return result;
    window_begin_ = offset;
    window_end_ = offset + want;
  }
  *bytes = window_.data() + (offset - window_begin_);
  return Result::Ok();
}

Result FrameReader::ReadHeader(uint64_t offset, FrameHeader* header,
                               const char** problem) {
  if (offset > region_bytes_ - kBlockBytes) {
    *problem = "end of the region";
    return Result::Ok();
  }
  const char* bytes = nullptr;
  Result result = View(offset, kBlockBytes, &bytes);
  if (!result.ok()) return result;
  if (!FrameHeader::Decode(bytes, header)) {
    *problem = "no frame header";
  } else if (header->nonce != region_.nonce) {
    *problem = "a frame of an earlier use of the region";
  } else if (header->payload_bytes >
             region_bytes_ - offset - kFrameHeaderBytes) {
    *problem = "a length beyond the end of the region";
  } else {
    *problem = nullptr;
  }
  return Result::Ok();
}

Result FrameReader::ReadBody(Frame* frame, const char** problem) {
  const char* bytes = nullptr;
  Result result = View(frame->offset, frame->header.frame_bytes(), &bytes);
  if (!result.ok()) return result;
  frame->payload =
      std::string_view(bytes + kFrameHeaderBytes, frame->header.payload_bytes);
  *problem = frame->header.ComputeCrc(bytes) == frame->header.crc
                 ? nullptr
                 : "a frame with a wrong checksum";
  return Result::Ok();
}

// What cannot be in a frame that its writer finished, or null.
const char* FrameReader::Contradiction(const FrameHeader& header) const {
  const uint64_t index = header.sequence - region_.first_sequence;
  if (index >= region_.snapshot_frames) {
    if (header.snapshot()) return "snapshot frame behind the snapshot";
    return header.first_lsn == position_.last_lsn + 1 ? nullptr
                                                      : "gap in the numbers";
  }
  const bool last = index + 1 == region_.snapshot_frames;
  if (!header.snapshot() ||
      last != ((header.flags & FrameHeader::kSnapshotEnd) != 0)) {
    return "snapshot and header of the region disagree";
  }
  if (last &&
      position_.offset + header.frame_bytes() != region_.deltas_offset()) {
    return "length of the snapshot";
  }
  const bool same = index == 0 || header.last_lsn == position_.last_lsn;
  return header.first_lsn == 1 && same ? nullptr : "numbers of the snapshot";
}

Result FrameReader::Next(Frame* frame, bool* found) {
  *found = false;
  frame->offset = position_.offset;
  const char* problem = nullptr;
  Result result = ReadHeader(frame->offset, &frame->header, &problem);
  if (!result.ok()) return result;
  if (problem == nullptr) {
    result = ReadBody(frame, &problem);
    if (!result.ok()) return result;
  }
  const FrameHeader& header = frame->header;
  if (problem == nullptr && header.sequence != position_.sequence) {
    problem = "a frame of another sequence";
  }
  if (problem == nullptr && header.chain != position_.chain) {
    problem = "a frame of another chain";
  }
  if (problem != nullptr) {
    end_reason_ = problem;
    return Result::Ok();
  }
  problem = Contradiction(header);
  if (problem != nullptr) {
    return Result::Error(
        EUCLEAN, "frame " + std::to_string(header.sequence) + ": " + problem);
  }
  *found = true;
  position_.offset += header.frame_bytes();
  position_.sequence = header.sequence + 1;
  position_.chain = header.crc;
  position_.last_lsn = header.last_lsn;
  return Result::Ok();
}

Result FrameReader::FindProof(Proof proof, Frame* frame, bool* found) {
  *found = false;
  const uint64_t missing = position_.sequence;
  uint64_t claimed_bytes = 0;
  for (uint64_t offset = position_.offset; offset < region_bytes_;
       offset += kBlockBytes) {
    const char* problem = nullptr;
    frame->offset = offset;
    Result result = ReadHeader(offset, &frame->header, &problem);
    if (!result.ok()) return result;
    if (problem != nullptr || frame->header.sequence <= missing ||
        (proof == Proof::kDurable &&
         frame->header.durable_sequence < missing)) {
      continue;
    }
    // Frames follow each other, so their lengths add up to a region at most.
    // The bound keeps a forged region from costing its size squared.
    claimed_bytes += frame->header.frame_bytes();
    if (claimed_bytes > region_bytes_) {
      return Result::Error(EUCLEAN, "frames overlap");
    }
    result = ReadBody(frame, &problem);
    if (!result.ok()) return result;
    if (problem == nullptr) {
      *found = true;
      return Result::Ok();
    }
  }
  return Result::Ok();
}

}  // namespace diofs
