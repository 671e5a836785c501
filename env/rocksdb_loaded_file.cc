#include "env/rocksdb_loaded_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "env/file_reader.h"

namespace diofs {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

Result DioLoadedFile::Load(
    const OpenFilePtr& file,
    std::unique_ptr<rocksdb::FSRandomAccessFile>* loaded) {
  const FileReader reader(file);
  const size_t size = reader.size();
  AlignedBuffer memory;
  size_t bytes = 0;
  if (size > 0) {
    memory = BufferPool::Get(size);
    if (!memory) return Result::Error(ENOMEM, "read the file into memory");
    Result read = reader.Read(0, size, memory.data());
    if (!read.ok()) return read;
    bytes = read.bytes();
  }
  loaded->reset(new DioLoadedFile(std::move(memory), bytes));
  return Result::Ok();
}

DioLoadedFile::DioLoadedFile(AlignedBuffer memory, size_t size_bytes)
    : memory_(std::move(memory)), size_bytes_(size_bytes) {}

IOStatus DioLoadedFile::Read(uint64_t offset, size_t n, const IOOptions&,
                             Slice* result, char* scratch,
                             IODebugContext*) const {
  if (offset >= size_bytes_) {
    *result = Slice(scratch == nullptr ? "" : scratch, 0);
    return IOStatus::OK();
  }
  const size_t bytes = std::min<uint64_t>(n, size_bytes_ - offset);
  const char* const from = memory_.data() + offset;
  if (scratch == nullptr) {
    *result = Slice(from, bytes);
  } else {
    memcpy(scratch, from, bytes);
    *result = Slice(scratch, bytes);
  }
  return IOStatus::OK();
}

IOStatus DioLoadedFile::InvalidateCache(size_t, size_t) {
  return IOStatus::OK();  // the memory is the file's, not a cache's
}

}  // namespace diofs
