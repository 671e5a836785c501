#include "tests/byte_model.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dio/align.h"

namespace diofs {

ByteModel::ByteModel(std::string image, uint64_t block_bytes,
                     uint32_t logical_block_bytes, std::mt19937_64* rng)
    : block_bytes_(block_bytes),
      logical_block_bytes_(logical_block_bytes),
      rng_(rng),
      file_(image.size() / 2, '\0'),
      device_(std::move(image)),
      blocks_(file_.size() / block_bytes),
      taken_(device_.size() / block_bytes) {}

ByteModel::Outcome ByteModel::PredictWrite(const DioRequest& request,
                                           uint64_t length, const Plan& plan) {
  plan_ = plan;
  const uint64_t end = request.offset + length;
  const bool overwrite = request.write_mode == WriteMode::kOverwriteOnly;
  Outcome outcome;
  outcome.stop = request.offset;
  if (overwrite && end > file_size_) {
    outcome.error = EAGAIN;
    return outcome;
  }
  for (uint64_t at = request.offset; at < end; ++at) {
    const uint64_t block = at / block_bytes_;
    const bool create =
        request.write_mode == WriteMode::kAllocate ||
        (request.write_mode == WriteMode::kSkipHoles && !InsideFile(block));
    const bool stop = block == plan.stop_block;
    if (stop && plan.stop_error != 0) {
      outcome.error = plan.stop_error;
    } else if (overwrite && StateAt(at) != BlockState::kMapped) {
      outcome.error = EAGAIN;
    } else if (StateAt(at) == BlockState::kHole && (stop || !create)) {
      outcome.fallback = true;
    } else {
      outcome.stop = at + 1;
      continue;
    }
    break;
  }
  if (outcome.error == 0) outcome.bytes = outcome.stop - request.offset;
  return outcome;
}

ByteModel::Outcome ByteModel::PredictRead(const DioRequest& request,
                                          uint64_t length,
                                          std::string* memory) {
  plan_ = Plan();
  Outcome outcome;
  const uint64_t last = AlignUp(file_size_, logical_block_bytes_);
  for (uint64_t i = 0; i < length; ++i) {
    const uint64_t at = request.offset + i;
    if (request.offset >= file_size_ || at >= last) break;
    (*memory)[i] = file_[at];
    if (at < file_size_) ++outcome.bytes;
  }
  outcome.stop = request.offset + outcome.bytes;
  return outcome;
}

std::vector<uint64_t> ByteModel::Apply(const DioRequest& request,
                                       const std::string& data,
                                       const Outcome& outcome) {
  const uint64_t end = request.offset + data.size();
  const uint64_t last = outcome.stop < end || end < request.file_size
                            ? outcome.stop
                            : AlignUp(end, block_bytes_);
  for (uint64_t at = AlignDown(request.offset, block_bytes_);
       outcome.stop > request.offset && at < AlignUp(last, block_bytes_);
       ++at) {
    const bool fresh = StateAt(at) != BlockState::kMapped;
    const bool inside = at >= request.offset && at < outcome.stop;
    // What is zeroed around it: a block that was never written, and what lies
    // behind the end of the file.
    if (!inside && !fresh && (at < outcome.stop || at >= last)) continue;
    const char byte = inside ? data[at - request.offset] : '\0';
    const Block& block = blocks_[at / block_bytes_];
    device_[block.device_block * block_bytes_ + at % block_bytes_] = byte;
    // After an error such a block stays what it was.
    if (!fresh || outcome.error == 0) file_[at] = byte;
  }
  return std::exchange(reservations_, {});
}

void ByteModel::End(uint64_t offset, uint64_t end, uint64_t bytes) {
  for (uint64_t i = offset / block_bytes_; i * block_bytes_ < end; ++i) {
    Block& block = blocks_[i];
    if (block.state == BlockState::kHole) continue;
    if (bytes > 0 && i * block_bytes_ < offset + bytes) {
      block.state = BlockState::kMapped;
    } else if (block.state == BlockState::kNew) {
      Free(i);
    }
  }
}

void ByteModel::Shuffle() {
  const uint64_t first = Below(blocks_.size());
  const uint64_t count = 1 + Below(std::min<uint64_t>(blocks_.size() / 4, 8));
  const uint64_t stop = std::min(first + count, blocks_.size());
  const uint64_t what = Below(5);
  for (uint64_t i = first; i < stop; ++i) {
    Block& block = blocks_[i];
    block.boundary = Below(8) == 0;
    const bool hole = block.state == BlockState::kHole;
    if (what == 0 && hole) Allocate(i, BlockState::kUnwritten);
    if (what == 1 && !hole) Free(i);
    if (what == 2 && !hole) block.state = BlockState::kUnwritten;
    if (what < 3) ZeroBlock(i);
  }
  if (what == 3 && Below(4) == 0) {
    // Inside a block, whose other bytes stay until somebody writes behind them.
    file_size_ = std::min(file_size_,
                          first * block_bytes_ + 1 + Below(block_bytes_ - 1));
    for (uint64_t i = first + 1; i < blocks_.size(); ++i) {
      Block& block = blocks_[i];
      if (block.state == BlockState::kMapped) {
        block.state = BlockState::kUnwritten;
        if (Below(2) == 0) Free(i);
      }
      ZeroBlock(i);
    }
  }
}

void ByteModel::ZeroBlock(uint64_t block) {
  if (blocks_[block].state == BlockState::kMapped) return;
  file_.replace(block * block_bytes_, block_bytes_, block_bytes_, '\0');
}

bool ByteModel::IsOverwrite(uint64_t offset, uint64_t end) const {
  if (end >= file_size_) return false;
  for (uint64_t i = offset / block_bytes_; i * block_bytes_ < end; ++i) {
    if (blocks_[i].state != BlockState::kMapped) return false;
  }
  return true;
}

uint64_t ByteModel::DeviceOffset(uint64_t position) const {
  return blocks_[position / block_bytes_].device_block * block_bytes_ +
         position % block_bytes_;
}

void ByteModel::Allocate(uint64_t block, BlockState state) const {
  uint64_t place = Below(taken_.size());
  if (block > 0 && Below(4) != 0) place = blocks_[block - 1].device_block + 1;
  place %= taken_.size();
  while (taken_[place]) place = (place + 1) % taken_.size();
  taken_[place] = true;
  blocks_[block].device_block = place;
  blocks_[block].state = state;
}

void ByteModel::Free(uint64_t block) const {
  taken_[blocks_[block].device_block] = false;
  blocks_[block].state = BlockState::kHole;
}

Result ByteModel::GetBlocks(uint64_t first, uint64_t count, bool create,
                            BlockMapping* mapping) const {
  const bool stop = first == plan_.stop_block;
  if (stop && plan_.stop_error != 0) return Result::Error(plan_.stop_error);
  // Not always all that could be told.
  if (Below(4) == 0) count = 1 + Below(count);
  if (!stop && plan_.stop_block > first) {
    count = std::min(count, plan_.stop_block - first);
  }
  const bool fill =
      create && !stop && blocks_[first].state == BlockState::kHole;
  uint64_t run = 0;
  for (; run < count && first + run < blocks_.size(); ++run) {
    const uint64_t i = first + run;
    if (run > 0 && blocks_[i - 1].boundary) break;
    if (fill && blocks_[i].state == BlockState::kHole) {
      Allocate(i, BlockState::kNew);
    }
    const Block& begin = blocks_[first];
    if (run == 0) continue;
    if (blocks_[i].state != begin.state) break;
    if (begin.state != BlockState::kHole &&
        blocks_[i].device_block != begin.device_block + run) {
      // Allocated all the same, where it is new: asked for next, or freed.
      if (fill) Free(i);
      break;
    }
  }
  mapping->state = blocks_[first].state;
  mapping->device_block = blocks_[first].device_block;
  mapping->count = run;
  mapping->boundary = blocks_[first + run - 1].boundary;
  if (fill) {
    mapping->reservation = ++last_reservation_;
    reservations_.push_back(last_reservation_);
  }
  return Result::Ok();
}

}  // namespace diofs
