#include "dio/result.h"

#include <cerrno>
#include <system_error>

namespace diofs {

Result Result::FromErrno(std::string context) {
  return Error(errno, std::move(context));
}

Result Result::With(const std::string& where) && {
  if (ok() || where.empty()) return std::move(*this);
  if (context_ == nullptr) {
    context_ = std::make_unique<std::string>(where);
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

}  // namespace diofs
