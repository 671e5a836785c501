#ifndef DIOFS_TESTS_ALLOCATION_SCOPE_H_
#define DIOFS_TESTS_ALLOCATION_SCOPE_H_

#include <utility>

namespace diofs {

// Do this thread's allocations count for AllocationFaults? Those of the library
// do, those of the test around it not. Threads start with allocations that
// count.
class AllocationScope {
 public:
  explicit AllocationScope(bool counted)
      : before_(std::exchange(t_counted, counted)) {}
  AllocationScope(const AllocationScope&) = delete;
  AllocationScope& operator=(const AllocationScope&) = delete;
  ~AllocationScope() { t_counted = before_; }

  static bool counted() { return t_counted; }

 private:
  static inline thread_local bool t_counted = true;
  const bool before_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_ALLOCATION_SCOPE_H_
