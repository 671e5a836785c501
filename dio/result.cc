#include "dio/result.h"

#include <cerrno>
#include <new>
#include <system_error>

namespace diofs {

Result::Result(const Result& other) noexcept
    : bytes_(other.bytes_), error_(other.error_) {
  if (other.context_ != nullptr) SetContext(*other.context_);
}

Result& Result::operator=(const Result& other) noexcept {
  return *this = Result(other);
}

Result Result::Error(int error, std::string_view context) noexcept {
  Result result;
  result.error_ = error == 0 ? EIO : error;
  if (!context.empty()) result.SetContext(context);
  return result;
}

Result Result::FromErrno(std::string_view context) noexcept {
  return Error(errno, context);
}

Result Result::With(std::string_view where) && noexcept {
  if (ok() || where.empty()) return std::move(*this);
  try {
    std::string longer(where);
    if (context_ != nullptr) longer.append(": ").append(*context_);
    SetContext(longer);
  } catch (const std::bad_alloc&) {
    // It is told with what is known already.
  }
  return std::move(*this);
}

std::string Result::ToString() const {
  if (ok()) return "OK";
  // Not strerror(), whose buffer is shared by all threads.
  const std::string what = std::generic_category().message(error_);
  return context_ == nullptr ? what : *context_ + ": " + what;
}

void Result::SetContext(std::string_view context) noexcept {
  try {
    context_ = std::make_unique<const std::string>(context);
  } catch (const std::bad_alloc&) {
    // The number has to do.
  }
}

}  // namespace diofs
