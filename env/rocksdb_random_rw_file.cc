#include "env/rocksdb_random_rw_file.h"

#include <utility>

#include "env/rocksdb_io_priority.h"
#include "env/rocksdb_status.h"

namespace diofs {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

DioRandomRWFile::DioRandomRWFile(const OpenFilePtr& file,
                                 std::shared_ptr<FileWriter> writer,
                                 std::string path)
    : reader_(file), writer_(std::move(writer)), path_(std::move(path)) {}

DioRandomRWFile::~DioRandomRWFile() {
  // There is nobody to tell; who wants to know calls Close or Sync.
  Guarded(path_, [&] { return writer_->Close(); }).PermitUncheckedError();
}

IOStatus DioRandomRWFile::Write(uint64_t offset, const Slice& data,
                                const IOOptions& options, IODebugContext*) {
  return Guarded(path_, [&] {
    writer_->SetIoPriority(IoPriorityOf(options.rate_limiter_priority));
    return writer_->WriteAt(offset, data.data(), data.size());
  });
}

IOStatus DioRandomRWFile::Read(uint64_t offset, size_t n,
                               const IOOptions& options, Slice* result,
                               char* scratch, IODebugContext*) const {
  *result = Slice();
  return Guarded(path_, [&] {
    Result read = reader_.Read(offset, n, scratch,
                               IoPriorityOf(options.rate_limiter_priority));
    if (read.ok()) *result = Slice(scratch, read.bytes());
    return read;
  });
}

IOStatus DioRandomRWFile::Flush(const IOOptions&, IODebugContext*) {
  return Guarded(path_, [&] { return writer_->Flush(); });
}

IOStatus DioRandomRWFile::Sync(const IOOptions&, IODebugContext*) {
  return Guarded(path_, [&] { return writer_->Sync(); });
}

IOStatus DioRandomRWFile::Close(const IOOptions&, IODebugContext*) {
  return Guarded(path_, [&] { return writer_->Close(); });
}

}  // namespace diofs
