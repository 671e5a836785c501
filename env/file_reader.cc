#include "env/file_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dio/align.h"
#include "env/file_writer.h"
#include "env/format.h"
#include "env/log_reader.h"
#include "env/volume.h"

namespace diofs {

Result FileReader::Prepare(uint64_t end, Inode::View* view) const {
  const InodePtr& inode = file_->inode();
  if (file_->volume()->forked()) {
    return Result::Error(ESTALE, "file belongs to the parent process");
  }
  *view = inode->view();
  if (std::min(end, view->visible_bytes) <= view->written_bytes) {
    return Result::Ok();
  }
  if (const std::shared_ptr<FileWriter> writer = inode->writer()) {
    if (Result r = writer->WriteOut(); !r.ok()) return r;
    *view = inode->view();
  }
  return Result::Ok();
}

Result FileReader::Submit(ReadRange* ranges, size_t count, bool async,
                          uint16_t ioprio, ReadBatch* batch) const {
  uint64_t end = 0;
  for (size_t i = 0; i < count; ++i) {
    uint64_t range_end = UINT64_MAX;
    (void)CheckedAdd(ranges[i].offset, ranges[i].length, &range_end);
    end = std::max(end, range_end);
  }
  Inode::View view;
  if (Result r = Prepare(end, &view); !r.ok()) return r;
  if (file_->inode()->log != nullptr) {
    // Frames are checked before a byte of them counts, so nothing of the
    // caller's memory can be read into ahead.
    for (size_t i = 0; i < count; ++i) {
      ranges[i].result = ReadLog(*file_, ranges[i].offset, ranges[i].length,
                                 ranges[i].memory, ioprio);
    }
    return Result::Ok();
  }
  // Of what was appended meanwhile nobody has promised anything; and without a
  // writer, bytes that never reached the device are lost.
  const uint64_t size = std::min(view.visible_bytes, view.written_bytes);
  const ExtentMapper mapper(view.map, BlocksFor(size));
  ReadBatch::File file;
  file.device = file_->volume()->device();
  file.mapper = &mapper;
  file.file_size = size;
  file.block_bytes = kBlockBytes;
  file.io_class = IoClassOf(file_->inode()->kind);
  file.ioprio = ioprio;
  batch->Submit(file, ranges, count, async);
  return Result::Ok();
}

Result FileReader::Read(uint64_t offset, size_t length, char* memory,
                        uint16_t ioprio) const {
  ReadRange range;
  range.offset = offset;
  range.length = length;
  range.memory = memory;
  ReadBatch batch;
  if (Result r = Submit(&range, 1, false, ioprio, &batch); !r.ok()) return r;
  batch.Wait();
  return std::move(range.result);
}

Result FileReader::MultiRead(ReadRange* ranges, size_t count,
                             uint16_t ioprio) const {
  ReadBatch batch;
  if (Result r = Submit(ranges, count, false, ioprio, &batch); !r.ok()) {
    return r;
  }
  batch.Wait();
  return Result::Ok();
}

Result FileReader::Start(ReadRange* ranges, size_t count, ReadBatch* batch,
                         uint16_t ioprio) const {
  return Submit(ranges, count, true, ioprio, batch);
}

Result SequentialReader::Fill(size_t length, uint16_t ioprio) {
  if (!buffer_ || buffer_.size() < readahead_) {
    buffer_ = BufferPool::Get(readahead_);
    if (!buffer_) return Result::Error(ENOMEM, "readahead buffer");
  }
  buffered_ = 0;
  buffer_start_ = AlignDown(position_, kBlockBytes);
  Result result =
      reader_.Read(buffer_start_, readahead_, buffer_.data(), ioprio);
  if (!result.ok()) {
    // What was only read ahead may be what is lost.
    buffer_start_ = position_;
    result = reader_.Read(position_, std::min(length, readahead_),
                          buffer_.data(), ioprio);
  }
  if (!result.ok()) return result;
  buffered_ = result.bytes();
  readahead_ = std::min(readahead_ * 2, kMaxReadahead);
  return result;
}

Result SequentialReader::Read(size_t length, char* memory, uint16_t ioprio) {
  size_t done = 0;
  while (done < length) {
    const uint64_t buffer_end = buffer_start_ + buffered_;
    if (position_ < buffer_start_ || position_ >= buffer_end) {
      if (Result r = Fill(length - done, ioprio); !r.ok()) return r;
      if (position_ >= buffer_start_ + buffered_) break;  // end of the file
      continue;
    }
    const size_t chunk =
        std::min<uint64_t>(length - done, buffer_end - position_);
    std::memcpy(memory + done, buffer_.data() + (position_ - buffer_start_),
                chunk);
    done += chunk;
    position_ += chunk;
  }
  return Result::Bytes(done);
}

}  // namespace diofs
