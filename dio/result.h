#ifndef DIOFS_DIO_RESULT_H_
#define DIOFS_DIO_RESULT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace diofs {

// The outcome of an operation: bytes moved, or an errno with the context in
// which it happened. A value that cannot be ignored; cheap to move, and free of
// allocation on success. Nothing here throws: where there is no memory for its
// context, an error has none.
//
// errno values with a fixed meaning in this project:
//   EUCLEAN  what was read contradicts itself (the kernel's EFSCORRUPTED)
//   ENOSPC   no room on the volume; may pass once files are deleted
//   EROFS    the volume takes no writes, by choice or after an error
//   ESTALE   the volume has been unmounted under an open file
class [[nodiscard]] Result {
 public:
  Result() = default;
  Result(Result&&) = default;
  Result& operator=(Result&&) = default;
  Result(const Result& other) noexcept;
  Result& operator=(const Result& other) noexcept;

  static Result Ok() { return Result(); }
  static Result Bytes(uint64_t bytes) {
    Result result;
    result.bytes_ = bytes;
    return result;
  }
  // `error` is a positive errno; 0 would be a success in disguise and becomes
  // EIO.
  static Result Error(int error, std::string_view context = {}) noexcept;
  // The errno the last system call left behind.
  static Result FromErrno(std::string_view context) noexcept;

  bool ok() const { return error_ == 0; }
  // A positive errno, 0 on success.
  int error() const { return error_; }
  uint64_t bytes() const { return bytes_; }

  // The same error, told with where it happened put in front:
  // "journal: write frame 17: " + what it said before.
  Result With(std::string_view where) && noexcept;

  // "where: what: Input/output error", for logs and for the edge.
  std::string ToString() const;
  // The context alone; empty where none was given.
  std::string context() const {
    return context_ == nullptr ? std::string() : *context_;
  }

 private:
  void SetContext(std::string_view context) noexcept;

  uint64_t bytes_ = 0;
  int error_ = 0;
  std::unique_ptr<const std::string> context_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_RESULT_H_
