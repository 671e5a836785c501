#include "dio/result.h"

#include <cerrno>
#include <system_error>

namespace diofs {

Result::Result(const Result& other)
    : bytes_(other.bytes_), error_(other.error_) {
  if (other.context_ != nullptr) SetContext(*other.context_);
}

Result& Result::operator=(const Result& other) { return *this = Result(other); }

Result Result::Error(int error, std::string context) {
  Result result;
  result.error_ = error == 0 ? EIO : error;
  if (!context.empty()) result.SetContext(std::move(context));
  return result;
}

Result Result::FromErrno(std::string context) {
  return Error(errno, std::move(context));
}

Result Result::With(const std::string& where) && {
  if (ok() || where.empty()) return std::move(*this);
  if (context_ == nullptr) {
    SetContext(where);
  } else {
    context_->insert(0, where + ": ");
  }
  return std::move(*this);
}

std::string Result::ToString() const {
  if (ok()) return "OK";
  // Not strerror(), whose buffer is shared by all threads.
  const std::string what = std::generic_category().message(error_);
  return context_ == nullptr ? what : *context_ + ": " + what;
}

void Result::SetContext(std::string context) {
  context_ = std::make_unique<std::string>(std::move(context));
}

}  // namespace diofs
