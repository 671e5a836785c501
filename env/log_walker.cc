#include "env/log_walker.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dio/align.h"
#include "dio/read_batch.h"

namespace diofs {

LogWalker::LogWalker(Stream stream, const LogPosition& from)
    : stream_(std::move(stream)),
      stream_bytes_(stream_.map->blocks() * kBlockBytes),
      position_(from) {
  while (segment_ + 1 < stream_.segments.size() &&
         stream_.segments[segment_ + 1].logical <= from.logical &&
         stream_.segments[segment_ + 1].position <= from.position) {
    ++segment_;
  }
}

void LogWalker::EnterSegments() {
  while (segment_ + 1 < stream_.segments.size() &&
         stream_.segments[segment_ + 1].logical == position_.logical) {
    ++segment_;
    position_.position = segment().position;
    position_.chain = LogChain(segment().generation);
  }
}

uint64_t LogWalker::RunEnd(uint64_t position) const {
  Extent extent;
  const uint64_t block = position / kBlockBytes;
  if (!stream_.map->Lookup(block, &extent)) return position;
  return (block + extent.count) * kBlockBytes;
}

Result LogWalker::ReadWindow(uint64_t begin, uint64_t end) {
  if (window_.size() < end - begin) {
    window_ = BufferPool::Get(end - begin);
    if (!window_) return Result::Error(ENOMEM, "log buffer");
  }
  window_begin_ = window_end_ = begin;
  const ExtentMapper mapper(stream_.map, stream_.map->blocks());
  ReadBatch::File file;
  file.device = stream_.device;
  file.mapper = &mapper;
  file.file_size = stream_bytes_;
  file.block_bytes = kBlockBytes;
  file.io_class = stream_.io_class;
  file.ioprio = stream_.ioprio;
  Result result = ReadRangeNow(file, begin, end - begin, window_.data());
  if (result.ok()) window_end_ = begin + result.bytes();
  return result;
}

Result LogWalker::View(uint64_t position, uint64_t count, const char** bytes) {
  *bytes = nullptr;
  const uint64_t end = position + count;
  if (position < window_begin_ || end > window_end_) {
    const uint64_t from = AlignDown(position, kBlockBytes);
    const uint64_t need = AlignUp(end, kBlockBytes);
    const uint64_t want =
        std::clamp(AlignUp(position + stream_.window_bytes, kBlockBytes), need,
                   std::max(need, stream_bytes_));
    Result result = ReadWindow(from, want);
    // What was only read ahead may lie on a bad block.
    if (!result.ok() && want > need) result = ReadWindow(from, need);
    if (result.error() == ENOMEM || result.error() == ESTALE) return result;
    if (!result.ok()) {
      unreadable_ = true;
      end_reason_ = "unreadable: " + result.ToString();
      return Result::Ok();
    }
    if (end > window_end_) {
      end_reason_ = "the device gives less than it has";
      unreadable_ = true;
      return Result::Ok();
    }
  }
  *bytes = window_.data() + (position - window_begin_);
  return Result::Ok();
}

Result LogWalker::TryAnyFrame(uint64_t position, Frame* frame, bool* found) {
  *found = false;
  // A frame lies in one run of blocks, as it was written.
  const uint64_t run_end = RunEnd(position);
  if (run_end - position < kLogFrameHeaderBytes) {
    end_reason_ = "end of the blocks";
    return Result::Ok();
  }
  const char* bytes = nullptr;
  if (Result r = View(position, kLogFrameHeaderBytes, &bytes);
      !r.ok() || bytes == nullptr) {
    return r;
  }
  if (!LogFrameHeader::Decode(bytes, &frame->header)) {
    end_reason_ = "no frame header";
    return Result::Ok();
  }
  const uint64_t frame_bytes = LogFrameBytes(frame->header.payload_bytes);
  if (frame->header.generation != segment().generation) {
    end_reason_ = "a frame of another segment";
    return Result::Ok();
  }
  if (frame_bytes > run_end - position) {
    end_reason_ = "a frame longer than its blocks";
    return Result::Ok();
  }
  if (Result r = View(position, frame_bytes, &bytes);
      !r.ok() || bytes == nullptr) {
    return r;
  }
  if (frame->header.ComputeCrc(bytes) != frame->header.crc) {
    end_reason_ = "a frame with a wrong checksum";
    return Result::Ok();
  }
  frame->position = position;
  frame->payload = std::string_view(bytes + kLogFrameHeaderBytes,
                                    frame->header.payload_bytes);
  *found = true;
  return Result::Ok();
}

Result LogWalker::TryFrame(uint64_t position, Frame* frame, bool* found) {
  Result result = TryAnyFrame(position, frame, found);
  if (!result.ok() || !*found) return result;
  const LogFrameHeader& header = frame->header;
  const bool last = segment_ + 1 == stream_.segments.size();
  if (header.chain != position_.chain || header.logical != position_.logical) {
    end_reason_ = "a frame that continues another one";
    *found = false;
  } else if (!last && header.end() > stream_.segments[segment_ + 1].logical) {
    // Cut off there: Truncate has copied what it kept of this frame.
    end_reason_ = "a frame across the end of its segment";
    *found = false;
  }
  return result;
}

// Behind a frame the next one may also begin at the next block, or at the start
// of any later run of blocks: its writer found too little room in this one. It
// names the frame before, so that nothing can be taken for it by mistake.
Result LogWalker::FindElsewhere(Frame* frame, bool* found) {
  const uint64_t at = position_.position;
  const std::string reason = end_reason_;
  const uint64_t next_block = AlignUp(at, kBlockBytes);
  const uint64_t run_end = at < stream_bytes_ ? RunEnd(at) : stream_bytes_;
  if (next_block != at && next_block < run_end) {
    if (Result r = TryFrame(next_block, frame, found); !r.ok() || *found) {
      return r;
    }
  }
  for (uint64_t run = run_end; run < stream_bytes_; run = RunEnd(run)) {
    if (Result r = TryFrame(run, frame, found); !r.ok() || *found) return r;
  }
  // What cannot be read may have been the frame.
  if (!unreadable_) end_reason_ = reason;
  return Result::Ok();
}

Result LogWalker::Next(Frame* frame, bool* found) {
  EnterSegments();
  unreadable_ = false;
  Result result = TryFrame(position_.position, frame, found);
  if (result.ok() && !*found) result = FindElsewhere(frame, found);
  if (!result.ok() || !*found) return result;
  unreadable_ = false;
  position_.position =
      frame->position + LogFrameBytes(frame->header.payload_bytes);
  position_.logical = frame->header.end();
  position_.chain = frame->header.crc;
  return result;
}

Result LogWalker::FindProof(bool* found, uint64_t* upto) {
  *found = false;
  const std::string reason = end_reason_;
  const bool unreadable = unreadable_;
  uint64_t claimed_bytes = 0;
  Result result;
  for (uint64_t at = position_.position;
       at + kLogFrameHeaderBytes <= stream_bytes_;) {
    const char* bytes = nullptr;
    result = View(at, kLogFrameHeaderBytes, &bytes);
    if (!result.ok()) return result;
    if (bytes == nullptr) {
      at = AlignUp(at + 1, kBlockBytes);
      continue;
    }
    LogFrameHeader header;
    if (!LogFrameHeader::Decode(bytes, &header) ||
        header.generation != segment().generation ||
        header.durable_upto <= position_.logical) {
      at += kLogFrameAlignBytes;
      continue;
    }
    // Frames follow each other, so their lengths add up to the stream at most.
    // The bound keeps a forged log from costing its size squared.
    claimed_bytes += header.payload_bytes;
    if (claimed_bytes > stream_bytes_) {
      return Result::Error(EUCLEAN, "log frames overlap");
    }
    Frame frame;
    result = TryAnyFrame(at, &frame, found);
    if (!result.ok()) return result;
    if (*found) {
      *upto = header.durable_upto;
      break;
    }
    at += kLogFrameAlignBytes;
  }
  end_reason_ = reason;
  unreadable_ = unreadable;
  return Result::Ok();
}

}  // namespace diofs
