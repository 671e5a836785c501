#include "env/rocksdb_status.h"

#include <cerrno>

#include "rocksdb/status.h"

namespace diofs {

using rocksdb::IOStatus;
using rocksdb::Status;

namespace {

// An invalid path names nothing, so that asking whether it exists is no error.
bool NamesNothing(int error) {
  return error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG;
}

// Errors whose IOStatus has words for them; no need to say it twice.
bool SaysByItself(int error) {
  switch (error) {
    case ENOENT:
    case ENOSPC:
    case EUCLEAN:
    case EINVAL:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case ENOMEM:
      return true;
    default:
      return false;
  }
}

}  // namespace

IOStatus ToIOStatus(const Result& result, const std::string& path,
                    Missing missing) {
  if (result.ok()) return IOStatus::OK();
  std::string message =
      SaysByItself(result.error()) ? result.context() : result.ToString();
  if (message.empty()) {
    message = path;
  } else if (message.find(path) == std::string::npos) {
    message.insert(0, path + ": ");
  }

  if (missing == Missing::kNotFound && NamesNothing(result.error())) {
    return IOStatus::NotFound(message);
  }
  switch (result.error()) {
    case ENOENT:
      return IOStatus::PathNotFound(message);
    case ENOSPC: {
      // RocksDB resumes by itself, once files are deleted, after an error that
      // says so.
      IOStatus status = IOStatus::NoSpace(message);
      status.SetRetryable(true);
      return status;
    }
    case EUCLEAN:
      return IOStatus::Corruption(message);
    case EINVAL:
      return IOStatus::InvalidArgument(message);
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
      return IOStatus::NotSupported(message);
    case ENOMEM:
      return rocksdb::status_to_io_status(Status::MemoryLimit(message));
    default:
      return IOStatus::IOError(message);
  }
}

IOStatus Unexpected(const std::exception& error,
                    const std::string& path) noexcept {
  try {
    return ToIOStatus(Result::Error(EIO, error.what()), path);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  }
}

IOStatus OutOfMemory() {
  return IOStatus::Aborted(IOStatus::SubCode::kMemoryLimit);
}

}  // namespace diofs
