#include "env/plain_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "dio/align.h"
#include "dio/plug.h"
#include "dio/read_batch.h"
#include "env/format.h"
#include "env/volume.h"

namespace diofs {
namespace {

// Growth of a file whose final size nobody has told: doubled from the first to
// the second.
constexpr uint64_t kMinGrowthBytes = 64 << 10;
constexpr uint64_t kMaxGrowthBytes = 64 << 20;

}  // namespace

// One write in flight, and the buffer it came from once the writer has done
// with it.
struct PlainWriter::Write {
  Write(BlockDevice* device, uint64_t end_offset)
      : end(end_offset), dio(device) {}
  iovec segment{};
  uint64_t end;  // file offset behind the last byte that counts
  AlignedBuffer buffer;
  Dio dio;  // goes first: it waits before the buffer does
};

PlainWriter::PlainWriter(WriterClaim claim) : FileWriter(std::move(claim)) {}

PlainWriter::~PlainWriter() {
  if (volume_->forked()) return;
  CloseQuietly();
  // After an error: from the front, for the last write from a buffer owns it.
  while (!in_flight_.empty()) in_flight_.pop_front();
}

Result PlainWriter::Start() {
  const Lock lock(this);
  // What the writer before left, by an overwrite too, may not be durable.
  unflushed_ = inode_->written_bytes != 0;
  if (volume_->checksums() && inode_->written_bytes == 0) {
    checksums_ = std::make_unique<ChecksumTable>();
  }
  return LoadTail(inode_->written_bytes);
}

// The block that holds the end of the file is rewritten by the next append: its
// bytes must be in the buffer.
Result PlainWriter::LoadTail(uint64_t size) {
  buffer_ = AlignedBuffer();
  buffer_start_ = AlignDown(size, kBlockBytes);
  dirty_from_ = size;
  size_.store(size, std::memory_order_release);
  if (size == buffer_start_) return Result::Ok();
  if (Result r = EnsureBuffer(); !r.ok()) return r;
  const ExtentMapper mapper(file_->inode()->map(), BlocksFor(size));
  Result result = ReadRangeNow(BytesOf(mapper, size), buffer_start_,
                               size - buffer_start_, buffer_.data());
  if (result.ok() && result.bytes() != size - buffer_start_) {
    return Result::Error(EIO, "last block is not readable");
  }
  return result;
}

Result PlainWriter::EnsureBuffer() {
  if (buffer_) return Result::Ok();
  // Most files that stay small (CURRENT, OPTIONS) never need more.
  buffer_ =
      BufferPool::Get(buffer_start_ == 0 ? kFirstBufferBytes : kBufferBytes);
  if (!buffer_) return Result::Error(ENOMEM, "write buffer");
  return Result::Ok();
}

Result PlainWriter::EnsureAllocated(uint64_t end) {
  const uint64_t have = file_->inode()->map()->blocks() * kBlockBytes;
  if (end <= have) return Result::Ok();
  const uint64_t growth = std::clamp(have, kMinGrowthBytes, kMaxGrowthBytes);
  const uint64_t hint = preallocation_bytes_;
  return volume_->Extend(file_->inode(), end,
                         hint > end ? hint : end + (have == 0 ? 0 : growth));
}

Result PlainWriter::Append(const char* data, size_t bytes) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  const Lock lock(this);
  if (!error_.ok()) return error_;
  return AppendLocked(data, bytes);
}

Result PlainWriter::AppendLocked(const char* data, size_t bytes) {
  if (bytes == 0) return Result::Ok();
  uint64_t size = this->size();
  uint64_t end = 0;
  if (!CheckedAdd(size, bytes, &end)) {
    return Result::Error(EFBIG, "file size overflows");
  }
  // Should the drop get lost, they vouch for a beginning that is as it was.
  if (Result r = DropChecksums(); !r.ok()) return r;
  if (Result r = EnsureAllocated(end); !r.ok()) return r;
  changed_ = true;
  if (checksums_ != nullptr) checksums_->Add(data, bytes);
  while (size < end) {
    // A part may have been taken already: what follows cannot be all or
    // nothing.
    if (Result r = EnsureBuffer(); !r.ok()) return Fail(std::move(r));
    const uint64_t used = size - buffer_start_;
    const size_t chunk = std::min<uint64_t>(end - size, buffer_.size() - used);
    std::memcpy(buffer_.data() + used, data, chunk);
    data += chunk;
    size += chunk;
    size_.store(size, std::memory_order_release);
    if (used + chunk == buffer_.size()) {
      if (Result r = SubmitBuffer(size, true, true); !r.ok()) return r;
    }
  }
  inode_->visible_bytes.store(size, std::memory_order_release);
  return Result::Ok();
}

// Submits [dirty_from_, end) of the buffer as whole blocks. A block that holds
// the end of what is written goes out again with the same bytes in front, so a
// torn write of it harms nothing that was there; two writes of one block are
// never in flight together because WriteOutLocked waits for such a block.
Result PlainWriter::SubmitBuffer(uint64_t end, bool async, bool take_buffer) {
  const uint64_t from = AlignDown(dirty_from_, kBlockBytes);
  if (end > dirty_from_) {
    const uint64_t align = volume_->device()->geometry().offset_align_bytes;
    const uint64_t length = AlignUp(end - from, align);
    while (!in_flight_.empty() &&
           in_flight_bytes_ + length > kMaxInFlightBytes) {
      if (Result r = WaitOldest(); !r.ok()) return r;
    }
    char* const memory = buffer_.data() + (from - buffer_start_);
    std::memset(memory + (end - from), 0, length - (end - from));
    // In its place before it leaves: nothing can throw from there on.
    in_flight_.push_back(std::make_unique<Write>(volume_->device(), end));
    Write* const write = in_flight_.back().get();
    write->segment = {memory, length};
    const uint64_t written = inode_->written_bytes;
    const ExtentMapper mapper(file_->inode()->map(), BlocksFor(written));
    DioRequest request;
    request.direction = IoDirection::kWrite;
    request.io_class = IoClassOf(inode_->kind);
    request.ioprio = ioprio_;
    request.offset = from;
    request.segments = &write->segment;
    request.segment_count = 1;
    request.file_size = written;
    request.mapper = &mapper;
    request.block_bytes = kBlockBytes;
    request.async = async;
    Plug plug(volume_->device());
    write->dio.Submit(request, &plug);
    plug.Finish();
    in_flight_bytes_ += length;
    if (take_buffer) {
      // Earlier writes from this buffer are waited for before this one.
      write->buffer = std::move(buffer_);
      buffer_start_ = end;
    }
    dirty_from_ = end;
  }
  return Result::Ok();
}

Result PlainWriter::WaitOldest() {
  const std::unique_ptr<Write> write = std::move(in_flight_.front());
  in_flight_.pop_front();
  in_flight_bytes_ -= write->segment.iov_len;
  Result result = WholeWrite(write->dio.Wait(), write->segment.iov_len);
  unflushed_ = true;
  if (!result.ok()) return Fail(std::move(result).With("write"));
  if (write->end > inode_->written_bytes) inode_->written_bytes = write->end;
  return Result::Ok();
}

Result PlainWriter::WriteOutLocked() {
  if (!error_.ok()) return error_;
  if (buffer_) {
    if (Result r = SubmitBuffer(size(), false, false); !r.ok()) return r;
  }
  while (!in_flight_.empty()) {
    if (Result r = WaitOldest(); !r.ok()) return r;
  }
  return Result::Ok();
}

Result PlainWriter::WriteOut() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  const Lock lock(this);
  return WriteOutLocked();
}

Result PlainWriter::StartWriteback() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  const Lock lock(this);
  if (!error_.ok() || !buffer_) return error_;
  // Whole blocks only: the last one is still being filled.
  const uint64_t end = AlignDown(size(), kBlockBytes);
  if (end <= dirty_from_) return Result::Ok();
  return SubmitBuffer(end, true, false);
}

// What the journal names has to be durable: else a power cut could leave the
// name and, below it, what the blocks held before.
Result PlainWriter::PublishLocked(bool with_checksums, Lsn* lsn) {
  *lsn = 0;
  if (Result r = WriteOutLocked(); !r.ok()) return r;
  uint64_t checksum_blocks = 0;
  if (with_checksums) {
    if (Result r = WriteChecksums(&checksum_blocks); !r.ok()) return r;
  }
  if (unflushed_) {
    // A sync that failed must not be followed by one that succeeds.
    if (Result r = volume_->FlushDevice(); !r.ok()) return Fail(std::move(r));
    unflushed_ = false;
  }
  Result result =
      volume_->Publish(file_->inode(), size(), checksum_blocks, lsn);
  if (result.error() == ENOSPC && checksum_blocks > 0) {
    result = volume_->Publish(file_->inode(), size(), 0, lsn);
  }
  // Room in the journal may come back.
  if (result.ok() || result.error() == ENOSPC) return result;
  return Fail(std::move(result));
}

bool PlainWriter::HasChecksums() const {
  return inode_->journaled_blocks > BlocksFor(inode_->journaled_bytes);
}

// The file is whole without them: where there is no room, there are none.
Result PlainWriter::WriteChecksums(uint64_t* blocks) {
  if (checksums_ == nullptr || size() == 0 || HasChecksums()) {
    return Result::Ok();
  }
  const uint64_t offset = BlocksFor(size()) * kBlockBytes;
  const uint64_t wanted = ChecksumTable::BlocksFor(size());
  const uint64_t bytes = wanted * kBlockBytes;
  AlignedBuffer table = BufferPool::Get(bytes);
  if (!table || !volume_
                     ->Extend(file_->inode(), offset + bytes, 0,
                              /*may_use_reserve=*/false)
                     .ok()) {
    return Result::Ok();
  }
  checksums_->Encode(inode_->ino, table.data());
  const ExtentMapper mapper(file_->inode()->map(), BlocksFor(offset + bytes));
  ReadBatch::File file = BytesOf(mapper, offset + bytes);
  file.ioprio = ioprio_;
  unflushed_ = true;
  Result result = WriteNow(file, offset, table.data(), bytes);
  if (!result.ok()) return Fail(std::move(result).With("checksums"));
  *blocks = wanted;
  return Result::Ok();
}

Result PlainWriter::DropChecksums() {
  if (!HasChecksums()) return Result::Ok();
  checksums_at_sync_ = false;
  Lsn lsn = 0;
  Result result = volume_->Shrink(file_->inode(), size(), &lsn);
  return result.ok() ? result : Fail(std::move(result));
}

Result PlainWriter::Flush() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lsn lsn = 0;
  {
    const Lock lock(this);
    if (!error_.ok()) return error_;
    if (volume_->flush_mode() == FlushMode::kMemory ||
        PromisesNothingBeforeSync(inode_->kind)) {
      return Result::Ok();
    }
    if (Result r = PublishLocked(/*with_checksums=*/false, &lsn); !r.ok()) {
      return r;
    }
  }
  return volume_->Settle(lsn);
}

Result PlainWriter::Sync() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lsn lsn = 0;
  {
    const Lock lock(this);
    if (Result r = PublishLocked(checksums_at_sync_, &lsn); !r.ok()) return r;
  }
  // With all that the file's name depends on.
  Result result = volume_->SyncNames();
  if (result.ok()) return result;
  const Lock lock(this);
  return Fail(std::move(result).With("sync"));
}

Result PlainWriter::Close() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lsn lsn = 0;
  {
    const Lock lock(this);
    if (!changed_) return error_;
    if (Result r = PublishLocked(/*with_checksums=*/true, &lsn); !r.ok()) {
      return r;
    }
    volume_->TrimExcess(file_->inode());
    changed_ = false;
  }
  return volume_->Settle(lsn);
}

Result PlainWriter::Truncate(uint64_t bytes) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  const Lock lock(this);
  if (bytes > size()) return FillZerosLocked(bytes);
  Lsn lsn = 0;
  changed_ = true;
  if (Result r = PublishLocked(/*with_checksums=*/false, &lsn); !r.ok()) {
    return r;
  }
  if (bytes == size()) return volume_->Settle(lsn);
  if (Result r = volume_->Shrink(file_->inode(), bytes, &lsn); !r.ok()) {
    return Fail(std::move(r));
  }
  checksums_.reset();
  if (Result r = LoadTail(bytes); !r.ok()) return Fail(std::move(r));
  // Durable before the next append rewrites the last block in place: a power
  // cut must not bring back the old size with new bytes below it.
  Result result = volume_->CommitDurable(lsn);
  return result.ok() ? Result::Ok() : Fail(std::move(result));
}

Result PlainWriter::FillZerosLocked(uint64_t end) {
  if (!error_.ok()) return error_;
  if (Result r = DropChecksums(); !r.ok()) return r;
  if (Result r = EnsureAllocated(end); !r.ok()) return r;
  static const char kZeros[kBlockBytes] = {};
  while (size() < end) {
    if (Result r = AppendLocked(
            kZeros, std::min<uint64_t>(sizeof(kZeros), end - size()));
        !r.ok()) {
      return r;
    }
  }
  return Result::Ok();
}

Result PlainWriter::WriteAt(uint64_t offset, const char* data, size_t bytes) {
  // In place nothing else would notice that the volume takes no writes.
  if (Result r = volume_->CheckWritable(); !r.ok()) return r;
  const Lock lock(this);
  if (!error_.ok() || bytes == 0) return error_;
  uint64_t end = 0;
  if (!CheckedAdd(offset, bytes, &end)) {
    return Result::Error(EFBIG, "file size overflows");
  }
  if (Result r = DropChecksums(); !r.ok()) return r;
  if (Result r = EnsureAllocated(end); !r.ok()) return r;
  if (offset > size()) {
    if (Result r = FillZerosLocked(offset); !r.ok()) return r;
  }
  const size_t in_place = std::min<uint64_t>(bytes, size() - offset);
  if (in_place > 0) {
    if (Result r = OverwriteLocked(offset, data, in_place); !r.ok()) return r;
  }
  return AppendLocked(data + in_place, bytes - in_place);
}

Result PlainWriter::OverwriteLocked(uint64_t offset, const char* data,
                                    size_t bytes) {
  if (Result r = WriteOutLocked(); !r.ok()) return r;
  changed_ = true;
  checksums_.reset();
  // Whoever took them away: what they vouch for is about to change.
  if (Result r = volume_->CommitDurable(inode_->trimmed_lsn); !r.ok()) {
    return Fail(std::move(r));
  }
  const uint64_t end = offset + bytes;
  for (uint64_t at = offset; at < end;) {
    const uint64_t stop =
        std::min<uint64_t>(end, AlignDown(at, kBlockBytes) + kBufferBytes);
    if (Result r = OverwriteBlocks(at, data + (at - offset), stop - at);
        !r.ok()) {
      return Fail(std::move(r).With("overwrite"));
    }
    at = stop;
  }
  // The buffer holds the last block, which the next append writes again.
  if (buffer_ && end > buffer_start_) {
    const uint64_t from = std::max(offset, buffer_start_);
    std::memcpy(buffer_.data() + (from - buffer_start_), data + (from - offset),
                end - from);
  }
  return Result::Ok();
}

Result PlainWriter::OverwriteBlocks(uint64_t offset, const char* data,
                                    size_t bytes) {
  const uint64_t size = this->size();
  const uint64_t from = AlignDown(offset, kBlockBytes);
  const uint64_t end = AlignUp(offset + bytes, kBlockBytes);
  AlignedBuffer blocks = BufferPool::Get(end - from);
  if (!blocks) return Result::Error(ENOMEM, "overwrite buffer");
  const ExtentMapper mapper(file_->inode()->map(), BlocksFor(size));
  ReadBatch::File file = BytesOf(mapper, size);
  file.ioprio = ioprio_;
  Result read = ReadRangeNow(file, from, end - from, blocks.data());
  if (!read.ok()) return read;
  std::memset(blocks.data() + read.bytes(), 0, end - from - read.bytes());
  std::memcpy(blocks.data() + (offset - from), data, bytes);
  unflushed_ = true;
  return WriteNow(file, from, blocks.data(), end - from);
}

}  // namespace diofs
