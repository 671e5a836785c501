#include "env/log_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "dio/align.h"
#include "dio/out_of_memory.h"
#include "env/format.h"
#include "env/log_frame.h"
#include "env/log_walker.h"
#include "env/superblock.h"
#include "env/volume.h"

namespace diofs {
namespace {

// Growth of a log whose final size nobody has told: doubled from the first to
// the second.
constexpr uint64_t kMinGrowthBytes = 256 << 10;
constexpr uint64_t kMaxGrowthBytes = 64 << 20;
constexpr uint64_t kFirstBufferBytes = 64 << 10;

}  // namespace

// One frame as it leaves: whole blocks of the stream.
struct LogWriter::Piece {
  uint64_t position = 0;
  uint64_t bytes = 0;
  char* memory = nullptr;
  AlignedBuffer own;  // where it is not the writer's buffer
};

LogWriter::LogWriter(WriterClaim claim) : FileWriter(std::move(claim)) {}

LogWriter::~LogWriter() {
  if (volume_->forked()) return;
  CloseQuietly();
}

Result LogWriter::Start() {
  const InodePtr& inode = file_->inode();
  if (Result r = volume_->SizeLog(inode); !r.ok()) return r;
  std::string damage;
  if (inode->log->damaged_from(&damage) != UINT64_MAX) {
    return Result::Error(EUCLEAN, "not to be appended to: " + damage);
  }
  const Lock lock(this);
  map_ = inode->map();
  tail_ = written_ = inode->log->end();
  size_.store(tail_.logical, std::memory_order_release);
  return Result::Ok();
}

// ---- Appending --------------------------------------------------------------

Result LogWriter::Append(const char* data, size_t bytes) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lock lock(this);
  if (!error_.ok()) return error_;
  return AppendLocked(&lock, data, bytes);
}

Result LogWriter::AppendLocked(Lock* lock, const char* data, size_t bytes) {
  if (bytes == 0) return Result::Ok();
  if (Result r = Admit(bytes); !r.ok()) return r;
  while (bytes > 0) {
    if (pending_ == kMaxLogPayload) {
      const uint64_t full = size();
      if (Result r = AwaitWritten(lock, full); !r.ok()) return r;
      // While the lock was released another one may have taken the room, or
      // closed the log. A part of this append is there already, so that there
      // is no way back.
      if (Result r = Admit(bytes); !r.ok()) return Fail(std::move(r));
      continue;
    }
    const size_t chunk = std::min<uint64_t>(bytes, kMaxLogPayload - pending_);
    if (Result r = EnsureBuffer(pending_ + chunk); !r.ok()) {
      return Fail(std::move(r));
    }
    std::memcpy(buffer_.data() + front_ + kLogFrameHeaderBytes + pending_, data,
                chunk);
    pending_ += chunk;
    data += chunk;
    bytes -= chunk;
    size_.store(tail_.logical + pending_, std::memory_order_release);
  }
  inode_->visible_bytes.store(size(), std::memory_order_release);
  return Result::Ok();
}

Result LogWriter::WriteAt(uint64_t offset, const char* data, size_t bytes) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lock lock(this);
  if (!error_.ok()) return error_;
  if (offset != size()) {
    return Result::Error(ENOTSUP, "a log can only be appended to");
  }
  return AppendLocked(&lock, data, bytes);
}

Result LogWriter::Admit(uint64_t more) {
  uint64_t end = 0;
  if (!CheckedAdd(size(), more, &end) || end > kMaxLogBytes) {
    return Result::Error(EFBIG, "file size overflows");
  }
  if (Result r = volume_->CheckAlive(); !r.ok()) return r;
  if (Result r = EnsureSegment(); !r.ok()) return r;
  if (Result r = EnsureSpace(more); !r.ok()) return r;
  changed_ = true;
  return Result::Ok();
}

Result LogWriter::EnsureSegment() {
  if (has_segment_) return Result::Ok();
  if (pending_ != 0) {
    return Fail(Result::Error(EIO, "internal error: bytes of no segment"));
  }
  LogSegment segment;
  bool goes_on = false;
  if (Result r = volume_->ContinueLog(file_->inode(), &segment, &goes_on);
      !r.ok()) {
    return r;
  }
  generation_ = segment.generation;
  if (!goes_on) {
    tail_ = {segment.logical, segment.position, LogChain(generation_)};
  }
  tail_.position = AlignUp(tail_.position, kBlockBytes);
  written_ = durable_ = tail_;
  front_ = 0;
  has_segment_ = true;
  return Result::Ok();
}

bool LogWriter::FitsRun(uint64_t payload) const {
  Extent run;
  if (payload > kMaxLogPayload ||
      !map_->Lookup(tail_.position / kBlockBytes, &run)) {
    return false;
  }
  const uint64_t run_end = AlignDown(tail_.position, kBlockBytes) +
                           run.count * uint64_t{kBlockBytes};
  return LogFrameBytes(payload) <= run_end - tail_.position;
}

Result LogWriter::EnsureSpace(uint64_t more) {
  const uint64_t total = pending_ + more;
  if (FitsRun(total)) {
    UseBlocks(tail_.position + LogFrameBytes(total));
    return Result::Ok();
  }
  std::vector<PlannedFrame> frames;
  // Blocks that the plan skips, for the frame fits into later ones, may have to
  // be made up for; each turn finds room for one more frame at least.
  while (!PlanLogFrames(*map_, tail_.position, total, &frames)) {
    const uint64_t have = map_->blocks() * uint64_t{kBlockBytes};
    uint64_t left = total;
    for (const PlannedFrame& frame : frames) left -= frame.payload_bytes;
    const uint64_t need = BlocksForLog(left);
    const uint64_t hint = preallocation_bytes_;
    const uint64_t growth =
        hint > have ? hint - have
                    : std::clamp(have, kMinGrowthBytes, kMaxGrowthBytes);
    Result result = volume_->ExtendLog(
        file_->inode(), need, std::max(need, BlocksFor(growth)), durable_);
    map_ = file_->inode()->map();
    if (!result.ok()) return result;
    growth_ = map_->blocks() * uint64_t{kBlockBytes} - have;
  }
  UseBlocks(frames.back().position +
            LogFrameBytes(frames.back().payload_bytes));
  return Result::Ok();
}

void LogWriter::UseAhead(uint64_t end) {
  if (ahead_lsn_ == 0 || end <= ahead_from_) return;
  Volume::NoteNamed(inode_, ahead_lsn_);
  ahead_lsn_ = 0;
}

void LogWriter::UseBlocks(uint64_t end) {
  UseAhead(end);
  const uint64_t have = map_->blocks() * uint64_t{kBlockBytes};
  if (ahead_lsn_ != 0 || growth_ == 0 || have - end >= growth_ / 4) return;
  // A quarter of what was allocated last is left: the journal can learn of more
  // before it is needed.
  const uint64_t growth = std::clamp(have, kMinGrowthBytes, kMaxGrowthBytes);
  Lsn lsn = 0;
  const Result result = volume_->ExtendLogAhead(
      file_->inode(), growth / kBlockBytes, durable_, &lsn);
  map_ = file_->inode()->map();
  // Whoever needs it and finds none says so.
  growth_ = map_->blocks() * uint64_t{kBlockBytes} - have;
  if (!result.ok()) return;
  ahead_lsn_ = lsn;
  ahead_from_ = have;
}

Result LogWriter::EnsureBuffer(uint64_t payload) {
  const uint64_t need = AlignUp(front_ + LogFrameBytes(payload), kBlockBytes);
  if (buffer_.size() >= need) return Result::Ok();
  uint64_t bytes = std::max(kFirstBufferBytes, buffer_.size());
  while (bytes < need) bytes *= 2;
  constexpr uint64_t kMost =
      AlignUp(kBlockBytes + kLogFrameHeaderBytes + kMaxLogPayload,
              uint64_t{kBlockBytes});
  AlignedBuffer larger = BufferPool::Get(std::min(bytes, kMost));
  if (!larger) return Result::Error(ENOMEM, "write buffer");
  if (buffer_) {
    std::memcpy(larger.data(), buffer_.data(),
                front_ + kLogFrameHeaderBytes + pending_);
  }
  buffer_ = std::move(larger);
  return Result::Ok();
}

// ---- Writing ----------------------------------------------------------------

Result LogWriter::WritePending(Lock* lock, bool through) {
  if (Result r = volume_->CheckAlive(); !r.ok()) return r;
  if (pending_ == 0) return Result::Ok();
  std::vector<PlannedFrame> frames;
  if (FitsRun(pending_)) {
    frames.push_back({tail_.position, static_cast<uint32_t>(pending_)});
  } else if (!PlanLogFrames(*map_, tail_.position, pending_, &frames)) {
    return Fail(Result::Error(EIO, "internal error: no room for a frame"));
  }
  // Behind a plan for the same bytes more blocks may have come, ahead of need,
  // which change where they go.
  UseAhead(frames.back().position + LogFrameBytes(frames.back().payload_bytes));
  const LogPosition before = tail_;
  AlignedBuffer source;
  std::vector<Piece> pieces;
  if (Result r = BuildPieces(frames, &source, &pieces); !r.ok()) {
    return Fail(std::move(r));
  }
  const LogPosition after = tail_;
  const std::shared_ptr<const ExtentMap> map = map_;
  through = through && pieces.size() == 1;
  writing_ = true;
  lock->unlock();
  Result result;
  for (const Piece& piece : pieces) {
    if (result.ok()) result = WritePiece(piece, map, through);
  }
  lock->lock();
  writing_ = false;
  idle_.NotifyAll();
  if (!result.ok()) return Fail(std::move(result).With("write"));
  inode_->log->AddMark(before, generation_);
  inode_->log->SetEnd(after);
  inode_->written_bytes.store(after.logical, std::memory_order_release);
  written_ = after;
  if (through) durable_ = after;
  return Result::Ok();
}

// Makes frames of what is pending, in the buffer itself where they need not be
// moved; `source` keeps it. The tail moves behind them, and a new buffer is
// begun.
Result LogWriter::BuildPieces(const std::vector<PlannedFrame>& frames,
                              AlignedBuffer* source,
                              std::vector<Piece>* pieces) {
  const char* payload = buffer_.data() + front_ + kLogFrameHeaderBytes;
  // The block that holds the end of the frame before.
  const char* front_block = buffer_.data();
  for (const PlannedFrame& frame : frames) {
    Piece piece;
    const uint64_t front = frame.position % kBlockBytes;
    const uint64_t frame_bytes = LogFrameBytes(frame.payload_bytes);
    piece.position = frame.position - front;
    piece.bytes = AlignUp(front + frame_bytes, kBlockBytes);
    if (frames.size() == 1 && frame.position == tail_.position) {
      piece.memory = buffer_.data();
    } else {
      piece.own = BufferPool::Get(piece.bytes);
      if (!piece.own) return Result::Error(ENOMEM, "write buffer");
      piece.memory = piece.own.data();
      std::memcpy(piece.memory, front_block, front);
      std::memcpy(piece.memory + front + kLogFrameHeaderBytes, payload,
                  frame.payload_bytes);
    }
    LogFrameHeader header;
    header.payload_bytes = frame.payload_bytes;
    header.generation = generation_;
    header.logical = tail_.logical;
    header.durable_upto = durable_.logical;
    header.chain = tail_.chain;
    header.Encode(piece.memory + front);
    std::memset(piece.memory + front + frame_bytes, 0,
                piece.bytes - front - frame_bytes);
    tail_ = {header.end(), frame.position + frame_bytes, header.crc};
    payload += frame.payload_bytes;
    front_block = piece.memory +
                  (AlignDown(tail_.position, kBlockBytes) - piece.position);
    pieces->push_back(std::move(piece));
  }
  *source = std::move(buffer_);
  buffer_ = AlignedBuffer();
  pending_ = 0;
  front_ = tail_.position % kBlockBytes;
  if (front_ == 0) return Result::Ok();
  if (Result r = EnsureBuffer(0); !r.ok()) return r;
  std::memcpy(buffer_.data(), front_block, front_);
  return Result::Ok();
}

Result LogWriter::WritePiece(const Piece& piece,
                             const std::shared_ptr<const ExtentMap>& map,
                             bool through) const {
  const ExtentMapper mapper(map, map->blocks());
  ReadBatch::File file = BytesOf(mapper, map->blocks() * kBlockBytes);
  file.ioprio = ioprio_;
  return WriteNow(file, piece.position, piece.memory, piece.bytes,
                  through ? Durability::kFua : Durability::kNone);
}

// A Truncate may come while the lock is released: nobody waits for what is
// gone.
uint64_t LogWriter::Reachable(uint64_t size) const {
  return std::min(size, tail_.logical + pending_);
}

// What was written before is made durable by a flush alone, never by writing
// something else through.
Result LogWriter::Advance(Lock* lock, bool through) {
  if (!writing_) return WritePending(lock, through && written_ == durable_);
  idle_.Wait(lock);
  return Result::Ok();
}

Result LogWriter::AwaitIdle(Lock* lock) {
  while (error_.ok() && (writing_ || pending_ > 0)) {
    if (Result r = Advance(lock, false); !r.ok()) return r;
  }
  return error_;
}

Result LogWriter::AwaitWritten(Lock* lock, uint64_t size) {
  while (error_.ok() && written_.logical < Reachable(size)) {
    if (Result r = Advance(lock, false); !r.ok()) return r;
  }
  return error_;
}

Result LogWriter::AwaitDurable(Lock* lock, uint64_t size) {
  while (error_.ok() && durable_.logical < Reachable(size)) {
    if (written_.logical < Reachable(size)) {
      if (Result r = Advance(lock, volume_->write_through()); !r.ok()) return r;
      continue;
    }
    const LogPosition upto = written_;
    const uint64_t generation = generation_;
    lock->unlock();
    Result result = volume_->FlushDevice();
    lock->lock();
    if (!result.ok()) return Fail(std::move(result).With("sync"));
    if (generation == generation_ && durable_.logical < upto.logical) {
      durable_ = upto;
    }
  }
  return error_;
}

Result LogWriter::WriteOut() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lock lock(this);
  return AwaitWritten(&lock, size());
}

Result LogWriter::StartWriteback() { return WriteOut(); }

Result LogWriter::Flush() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  {
    Lock lock(this);
    if (!error_.ok() || volume_->flush_mode() == FlushMode::kMemory) {
      return error_;
    }
    if (Result r = AwaitWritten(&lock, size()); !r.ok()) return r;
  }
  return volume_->Settle(volume_->NamedBy(*inode_));
}

Result LogWriter::Sync() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  if (!volume_->write_through()) {
    // On the device before the flush that makes the data durable, so that there
    // need not be another one.
    Result r = volume_->CommitWritten(volume_->NamedBy(*inode_));
    if (!r.ok()) return r;
  }
  {
    Lock lock(this);
    if (Result r = AwaitDurable(&lock, size()); !r.ok()) return r;
  }
  Result result = volume_->CommitDurable(volume_->NamedBy(*inode_));
  if (result.ok()) return result;
  // A sync that failed must not be followed by one that succeeds.
  Lock lock(this);
  return Fail(std::move(result).With("sync"));
}

// ---- Ends -------------------------------------------------------------------

Result LogWriter::Close() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lsn lsn = 0;
  {
    Lock lock(this);
    if (!changed_) return error_;
    // Others may go on appending until all is written and the lock is held.
    if (Result r = AwaitIdle(&lock); !r.ok()) return r;
    // The journal names the end of what is durable.
    if (Result r = volume_->FlushDevice(); !r.ok()) return Fail(std::move(r));
    durable_ = written_;
    if (Result r = volume_->CloseLog(file_->inode(), written_,
                                     /*may_go_on=*/has_segment_, &lsn);
        !r.ok()) {
      return Fail(std::move(r));
    }
    map_ = file_->inode()->map();
    has_segment_ = false;
    growth_ = ahead_lsn_ = 0;
    changed_ = false;
  }
  return volume_->Settle(lsn);
}

Result LogWriter::Truncate(uint64_t bytes) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lock lock(this);
  if (!error_.ok()) return error_;
  static const char kZeros[kBlockBytes] = {};
  if (bytes > size()) {
    if (Result r = Admit(bytes - size()); !r.ok()) return r;
  }
  while (size() < bytes) {
    if (Result r = AppendLocked(
            &lock, kZeros, std::min<uint64_t>(sizeof(kZeros), bytes - size()));
        !r.ok()) {
      return r;
    }
  }
  if (Result r = AwaitIdle(&lock); !r.ok()) return r;
  changed_ = true;  // Close gives back what lies behind
  if (bytes >= size()) return Result::Ok();
  Lsn lsn = 0;
  if (Result r = CutTo(bytes, &lsn); !r.ok()) return r;
  lock.unlock();
  return volume_->Settle(lsn);
}

// The frame that `bytes` lies in is void from the new segment on, which begins
// with a copy of what is kept of it, in other blocks: until the journal names
// them, the log is what it was.
Result LogWriter::CutTo(uint64_t bytes, Lsn* lsn) {
  LogPosition cut;
  std::string kept;
  if (bytes > 0) {
    if (Result r = FindFrame(bytes, &cut, &kept); !r.ok()) return r;
  }
  const uint64_t keep_blocks = cut.logical == 0 ? 0 : BlocksFor(cut.position);
  LogSegment segment;
  segment.logical = cut.logical;
  segment.position = keep_blocks * uint64_t{kBlockBytes};
  if (Result r = RandomNonce(&segment.generation); !r.ok()) return r;
  Volume::LogCut new_log;
  if (Result r = volume_->PrepareCut(
          file_->inode(), keep_blocks,
          kept.empty() ? 0 : BlocksForLog(kept.size()), &new_log);
      !r.ok()) {
    return r;
  }
  map_ = new_log.map;
  growth_ = ahead_lsn_ = 0;
  generation_ = segment.generation;
  tail_ = durable_ = {segment.logical, segment.position, LogChain(generation_)};
  front_ = 0;
  Result result = CatchBadAlloc([&] { return WriteCopy(kept); });
  if (result.ok()) result = volume_->FlushDevice();
  if (!result.ok()) {
    volume_->AbandonCut(new_log);
    return Fail(std::move(result));
  }
  size_.store(bytes, std::memory_order_release);
  result = volume_->FinishCut(file_->inode(), new_log, segment, tail_, lsn);
  if (!result.ok()) return Fail(std::move(result));
  written_ = durable_ = tail_;
  has_segment_ = true;
  return result;
}

Result LogWriter::WriteCopy(const std::string& kept) {
  buffer_ = AlignedBuffer();
  pending_ = 0;
  if (kept.empty()) return Result::Ok();
  if (Result r = EnsureBuffer(kept.size()); !r.ok()) return r;
  std::memcpy(buffer_.data() + kLogFrameHeaderBytes, kept.data(), kept.size());
  pending_ = kept.size();
  std::vector<PlannedFrame> frames;
  if (!PlanLogFrames(*map_, tail_.position, pending_, &frames)) {
    return Result::Error(EIO, "internal error: no room for the copy");
  }
  AlignedBuffer source;
  std::vector<Piece> pieces;
  Result result = BuildPieces(frames, &source, &pieces);
  for (const Piece& piece : pieces) {
    if (result.ok()) result = WritePiece(piece, map_, false);
  }
  return result;
}

// The place before the frame that holds byte `offset`, and what is in it before
// that byte.
Result LogWriter::FindFrame(uint64_t offset, LogPosition* before,
                            std::string* front) {
  LogWalker::Stream stream;
  stream.device = volume_->device();
  stream.map = map_;
  stream.io_class = IoClassOf(inode_->kind);
  const LogPosition mark = inode_->log->FindMark(offset, &stream.segments);
  LogWalker walker(std::move(stream), mark);
  while (true) {
    LogWalker::Frame frame;
    bool found = false;
    *before = walker.position();
    if (before->logical == offset) return Result::Ok();
    if (Result r = walker.Next(&frame, &found); !r.ok()) return r;
    if (!found) {
      return Result::Error(EUCLEAN, "log is damaged: " + walker.end_reason());
    }
    if (frame.header.end() > offset) {
      front->assign(frame.payload.substr(0, offset - frame.header.logical));
      return Result::Ok();
    }
  }
}

}  // namespace diofs
