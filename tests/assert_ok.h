#ifndef DIOFS_TESTS_ASSERT_OK_H_
#define DIOFS_TESTS_ASSERT_OK_H_

#include <gtest/gtest.h>

#include "dio/result.h"

namespace diofs {

#define ASSERT_OK(expression)                            \
  do {                                                   \
    const Result ok_result = (expression);               \
    ASSERT_TRUE(ok_result.ok()) << ok_result.ToString(); \
  } while (false)

}  // namespace diofs

#endif  // DIOFS_TESTS_ASSERT_OK_H_
