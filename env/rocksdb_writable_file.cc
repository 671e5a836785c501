#include "env/rocksdb_writable_file.h"

#include <cerrno>
#include <cstdint>
#include <utility>

#include "env/coding.h"
#include "env/crc32c.h"
#include "env/rocksdb_io_priority.h"
#include "env/rocksdb_status.h"

namespace diofs {

using rocksdb::DataVerificationInfo;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

DioWritableFile::DioWritableFile(std::shared_ptr<FileWriter> writer,
                                 std::string path,
                                 const rocksdb::FileOptions& options)
    : FSWritableFile(options),
      writer_(std::move(writer)),
      path_(std::move(path)),
      crc32c_handoff_(options.handoff_checksum_type ==
                      rocksdb::ChecksumType::kCRC32c) {}

DioWritableFile::~DioWritableFile() {
  // There is nobody to tell; who wants to know calls Close or Sync.
  Guarded(path_, [&] { return writer_->Close(); }).PermitUncheckedError();
}

IOStatus DioWritableFile::Append(const Slice& data, const IOOptions& options,
                                 IODebugContext*) {
  return Guarded(path_, [&] {
    Prioritize(options);
    return writer_->Append(data.data(), data.size());
  });
}

IOStatus DioWritableFile::Append(const Slice& data, const IOOptions& options,
                                 const DataVerificationInfo& verification,
                                 IODebugContext*) {
  return Guarded(path_, [&] {
    if (Result bad = Verify(data, verification); !bad.ok()) return bad;
    Prioritize(options);
    return writer_->Append(data.data(), data.size());
  });
}

IOStatus DioWritableFile::PositionedAppend(const Slice& data, uint64_t offset,
                                           const IOOptions& options,
                                           IODebugContext*) {
  return Guarded(path_, [&] {
    Prioritize(options);
    return writer_->WriteAt(offset, data.data(), data.size());
  });
}

IOStatus DioWritableFile::PositionedAppend(
    const Slice& data, uint64_t offset, const IOOptions& options,
    const DataVerificationInfo& verification, IODebugContext*) {
  return Guarded(path_, [&] {
    if (Result bad = Verify(data, verification); !bad.ok()) return bad;
    Prioritize(options);
    return writer_->WriteAt(offset, data.data(), data.size());
  });
}

IOStatus DioWritableFile::Truncate(uint64_t size, const IOOptions&,
                                   IODebugContext*) {
  return Guarded(path_, [&] { return writer_->Truncate(size); });
}

IOStatus DioWritableFile::Close(const IOOptions&, IODebugContext*) {
  return Guarded(path_, [&] { return writer_->Close(); });
}

IOStatus DioWritableFile::Flush(const IOOptions&, IODebugContext*) {
  return Guarded(path_, [&] { return writer_->Flush(); });
}

IOStatus DioWritableFile::Sync(const IOOptions&, IODebugContext*) {
  return Guarded(path_, [&] { return writer_->Sync(); });
}

uint64_t DioWritableFile::GetFileSize(const IOOptions&, IODebugContext*) {
  return writer_->size();
}

void DioWritableFile::SetPreallocationBlockSize(size_t size) {
  FSWritableFile::SetPreallocationBlockSize(size);
  writer_->SetPreallocation(size);
}

IOStatus DioWritableFile::InvalidateCache(size_t, size_t) {
  return IOStatus::OK();  // nothing is cached
}

IOStatus DioWritableFile::RangeSync(uint64_t, uint64_t, const IOOptions&,
                                    IODebugContext*) {
  return Guarded(path_, [&] {
    return strict_bytes_per_sync_ ? writer_->Sync() : writer_->StartWriteback();
  });
}

void DioWritableFile::Prioritize(const IOOptions& options) {
  const rocksdb::Env::IOPriority asked = options.rate_limiter_priority;
  writer_->SetIoPriority(
      IoPriorityOf(asked == rocksdb::Env::IO_TOTAL ? GetIOPriority() : asked));
}

Result DioWritableFile::Verify(const Slice& data,
                               const DataVerificationInfo& verification) const {
  const Slice& expected = verification.checksum;
  if (!crc32c_handoff_ || expected.empty()) return Result::Ok();
  if (expected.size() != sizeof(uint32_t)) {
    return Result::Error(EINVAL, "a crc32c handed off has 4 bytes, not " +
                                     std::to_string(expected.size()));
  }
  const uint32_t actual = Crc32c(data.data(), data.size());
  if (actual == DecodeFixed<uint32_t>(expected.data())) return Result::Ok();
  return Result::Error(EUCLEAN,
                       "the data to append do not match the checksum that was "
                       "handed off with them: they changed in memory");
}

}  // namespace diofs
