#include "env/file_writer.h"

#include <cerrno>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "dio/out_of_memory.h"
#include "dio/plug.h"
#include "env/format.h"
#include "env/log_writer.h"
#include "env/plain_writer.h"
#include "env/volume.h"

namespace diofs {

WriterClaim::WriterClaim(OpenFilePtr file) : file_(std::move(file)) {
  file_->inode()->has_writer = true;
}

WriterClaim::~WriterClaim() {
  if (file_ == nullptr || file_->volume()->forked()) return;
  Volume::WriterGate& gate = file_->volume()->writer_gate();
  std::lock_guard<std::mutex> lock(gate.mutex);
  file_->inode()->has_writer = false;
  gate.changed.NotifyAll();
}

FileWriter::FileWriter(WriterClaim claim)
    : claim_(std::move(claim)),
      file_(claim_.file()),
      inode_(file_->inode().get()),
      volume_(file_->volume()) {}

Result FileWriter::Open(const OpenFilePtr& file,
                        std::shared_ptr<FileWriter>* writer) {
  if (Result r = file->volume()->CheckWritable(); !r.ok()) return r;
  Inode* const inode = file->inode().get();
  Volume::WriterGate& gate = file->volume()->writer_gate();
  std::optional<WriterClaim> claim;
  {
    std::unique_lock<std::mutex> lock(gate.mutex);
    while (true) {
      if (*writer = inode->writer(); *writer != nullptr) return Result::Ok();
      if (!inode->has_writer) break;
      // One whose last handle is gone may still be writing what it holds.
      gate.changed.Wait(&lock);
    }
    claim.emplace(file);
  }
  std::shared_ptr<FileWriter> opened;
  if (inode->layout == FileLayout::kLog) {
    opened = std::make_shared<LogWriter>(std::move(*claim));
  } else {
    opened = std::make_shared<PlainWriter>(std::move(*claim));
  }
  if (Result r = opened->Start(); !r.ok()) return r;
  std::lock_guard<std::mutex> lock(gate.mutex);
  inode->set_writer(opened);
  gate.changed.NotifyAll();
  *writer = std::move(opened);
  return Result::Ok();
}

FileWriter::Lock::~Lock() {
  if (std::uncaught_exceptions() == exceptions_) return;
  if (!owns_lock()) lock();
  (void)writer_->Fail(Result::Error(ENOMEM));
}

Result FileWriter::Fail(Result error) {
  if (error_.ok()) error_ = std::move(error);
  idle_.NotifyAll();
  return error_;
}

void FileWriter::CloseQuietly() {
  (void)CatchBadAlloc([this] { return Close(); });
}

Result FileWriter::CheckOwner() const {
  if (!volume_->forked()) return Result::Ok();
  return Result::Error(ESTALE, "file belongs to the parent process");
}

ReadBatch::File FileWriter::BytesOf(const BlockMapper& mapper,
                                    uint64_t size) const {
  ReadBatch::File file;
  file.device = volume_->device();
  file.mapper = &mapper;
  file.file_size = size;
  file.block_bytes = kBlockBytes;
  file.io_class = IoClassOf(inode_->kind);
  return file;
}

Result FileWriter::WriteNow(const ReadBatch::File& file, uint64_t offset,
                            char* memory, size_t bytes, Durability durability) {
  const iovec segment = {memory, bytes};
  DioRequest request;
  request.direction = IoDirection::kWrite;
  request.io_class = file.io_class;
  request.ioprio = file.ioprio;
  request.offset = offset;
  request.segments = &segment;
  request.segment_count = 1;
  request.file_size = file.file_size;
  request.mapper = file.mapper;
  request.block_bytes = file.block_bytes;
  request.durability = durability;
  Dio dio(file.device);
  Plug plug(file.device);
  (void)dio.Submit(request, &plug);
  plug.Finish();
  return WholeWrite(dio.Wait(), bytes);
}

Result FileWriter::WholeWrite(Result result, uint64_t bytes) {
  if (result.ok() && result.bytes() != bytes) {
    return Result::Error(EIO, "only " + std::to_string(result.bytes()) +
                                  " of " + std::to_string(bytes) +
                                  " bytes have blocks to be written to");
  }
  return result;
}

}  // namespace diofs
