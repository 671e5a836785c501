#include "env/file_writer.h"

#include <cerrno>
#include <mutex>
#include <utility>

#include "env/log_writer.h"
#include "env/plain_writer.h"
#include "env/volume.h"

namespace diofs {

FileWriter::FileWriter(OpenFilePtr file)
    : file_(std::move(file)),
      inode_(file_->inode().get()),
      volume_(file_->volume()) {}

Result FileWriter::Open(const OpenFilePtr& file,
                        std::shared_ptr<FileWriter>* writer) {
  if (Result r = file->volume()->CheckWritable(); !r.ok()) return r;
  Inode* const inode = file->inode().get();
  Volume::WriterGate& gate = file->volume()->writer_gate();
  {
    std::unique_lock<std::mutex> lock(gate.mutex);
    while (true) {
      if (*writer = inode->writer(); *writer != nullptr) return Result::Ok();
      if (!inode->has_writer) break;
      // One whose last handle is gone may still be writing what it holds.
      gate.changed.Wait(&lock);
    }
    inode->has_writer = true;
  }
  // Its destructor opens the gate again.
  std::shared_ptr<FileWriter> opened;
  if (inode->layout == FileLayout::kLog) {
    opened = std::make_shared<LogWriter>(file);
  } else {
    opened = std::make_shared<PlainWriter>(file);
  }
  if (Result r = opened->Start(); !r.ok()) return r;
  std::lock_guard<std::mutex> lock(gate.mutex);
  inode->set_writer(opened);
  gate.changed.NotifyAll();
  *writer = std::move(opened);
  return Result::Ok();
}

FileWriter::~FileWriter() {
  if (volume_->forked()) return;
  Volume::WriterGate& gate = volume_->writer_gate();
  std::lock_guard<std::mutex> lock(gate.mutex);
  inode_->has_writer = false;
  gate.changed.NotifyAll();
}

Result FileWriter::CheckOwner() const {
  if (!volume_->forked()) return Result::Ok();
  return Result::Error(ESTALE, "file belongs to the parent process");
}

}  // namespace diofs
