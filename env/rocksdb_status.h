#ifndef DIOFS_ENV_ROCKSDB_STATUS_H_
#define DIOFS_ENV_ROCKSDB_STATUS_H_

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "dio/result.h"
#include "rocksdb/io_status.h"

namespace diofs {

// How RocksDB wants to hear that a name is missing. It tells them apart: a
// table is retried under another name, and a recovery goes on without a file,
// after PathNotFound; FileExists and GetChildren answer NotFound.
enum class Missing { kPathNotFound, kNotFound };

// The one place where a Result becomes an IOStatus. `path` is in the message
// whether or not the result's context tells it.
rocksdb::IOStatus ToIOStatus(const Result& result, const std::string& path,
                             Missing missing = Missing::kPathNotFound);

// Made without allocating.
rocksdb::IOStatus OutOfMemory();

// For an exception that nobody had in mind.
rocksdb::IOStatus Unexpected(const std::exception& error,
                             const std::string& path) noexcept;

// Runs `body`, which returns a Result, for a call that came from RocksDB.
// RocksDB is not safe against exceptions: what the standard library throws ends
// here.
template <typename Body>
rocksdb::IOStatus Guarded(const std::string& path, Body&& body,
                          Missing missing = Missing::kPathNotFound) {
  try {
    const Result result = std::forward<Body>(body)();
    if (result.ok()) return rocksdb::IOStatus::OK();
    return ToIOStatus(result, path, missing);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  } catch (const std::exception& error) {
    return Unexpected(error, path);
  }
}

}  // namespace diofs

#endif  // DIOFS_ENV_ROCKSDB_STATUS_H_
