#ifndef DIOFS_TESTS_REAL_FUNCTION_H_
#define DIOFS_TESTS_REAL_FUNCTION_H_

#include <dlfcn.h>

namespace diofs {

// The function of that name which would have been called if the test program
// did not define one: the C library's, or the one that a sanitizer has put in
// front of it.
template <typename Function>
Function* RealFunction(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace diofs

#endif  // DIOFS_TESTS_REAL_FUNCTION_H_
