#ifndef DIOFS_DIO_OUT_OF_MEMORY_H_
#define DIOFS_DIO_OUT_OF_MEMORY_H_

#include <cerrno>
#include <exception>
#include <new>
#include <utility>

#include "dio/result.h"

namespace diofs {

// Memory that cannot be had is an error like others, and the host goes on. What
// the standard library throws passes through this library, up to whoever called
// it; these two are for the places where it must not pass, or not unnoticed.

// What `body` returns, or ENOMEM where it ran out of memory: for threads,
// destructors, and whoever has to clean up behind a failure as he does behind
// an error.
template <typename Body>
Result CatchBadAlloc(Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const std::bad_alloc&) {
    return Result::Error(ENOMEM);
  }
}

// Runs `action` where the scope that it lives in is left by an exception.
template <typename Action>
class OnUnwind {
 public:
  explicit OnUnwind(Action action) : action_(std::move(action)) {}
  OnUnwind(const OnUnwind&) = delete;
  OnUnwind& operator=(const OnUnwind&) = delete;
  ~OnUnwind() {
    if (std::uncaught_exceptions() > before_) action_();
  }

 private:
  const Action action_;
  const int before_ = std::uncaught_exceptions();
};

}  // namespace diofs

#endif  // DIOFS_DIO_OUT_OF_MEMORY_H_
