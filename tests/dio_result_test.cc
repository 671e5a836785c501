#include <gtest/gtest.h>

#include <cerrno>

#include "dio/result.h"

namespace diofs {
namespace {

TEST(Result, SuccessCarriesBytesAndNoContext) {
  const Result result = Result::Bytes(4096);
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(0, result.error());
  EXPECT_EQ(4096u, result.bytes());
  EXPECT_EQ("", result.context());
  EXPECT_EQ("OK", result.ToString());
  EXPECT_TRUE(Result::Ok().ok());
}

TEST(Result, ErrorZeroIsNoSuccess) {
  EXPECT_EQ(EIO, Result::Error(0, "what").error());
}

TEST(Result, ErrorsSayWhereAndWhat) {
  EXPECT_EQ("No space left on device", Result::Error(ENOSPC).ToString());
  EXPECT_EQ("journal: Input/output error",
            Result::Error(EIO, "journal").ToString());
}

TEST(Result, WithPutsTheOuterPlaceInFront) {
  Result result = Result::Error(EIO, "write frame 17").With("journal");
  EXPECT_EQ("journal: write frame 17", result.context());
  EXPECT_EQ(EIO, result.error());
  EXPECT_EQ("journal", Result::Error(EIO).With("journal").context());
}

TEST(Result, WithLeavesSuccessAlone) {
  const Result result = Result::Bytes(7).With("journal");
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(7u, result.bytes());
  EXPECT_EQ("", result.context());
}

TEST(Result, FromErrnoTakesTheLastSystemCalls) {
  errno = EACCES;
  const Result result = Result::FromErrno("/dev/x");
  EXPECT_EQ(EACCES, result.error());
  EXPECT_EQ("/dev/x: Permission denied", result.ToString());
}

TEST(Result, CopiesAreIndependent) {
  Result first = Result::Error(EIO, "a");
  Result second = first;
  second = std::move(second).With("b");
  EXPECT_EQ("a", first.context());
  EXPECT_EQ("b: a", second.context());
  const Result without_context = Result::Error(EAGAIN);
  second = without_context;
  EXPECT_EQ(EAGAIN, second.error());
  EXPECT_EQ("", second.context());
  first = Result::Bytes(3);
  second = first;
  EXPECT_TRUE(second.ok());
  EXPECT_EQ("", second.context());
  EXPECT_EQ(3u, second.bytes());
}

TEST(Result, AssignedToItselfItStays) {
  Result result = Result::Error(EIO, "a");
  const Result& same = result;
  result = same;
  EXPECT_EQ(EIO, result.error());
  EXPECT_EQ("a", result.context());
}

TEST(Result, WithNothingInFrontTheContextStays) {
  EXPECT_EQ("a", Result::Error(EIO, "a").With("").context());
  EXPECT_EQ("", Result::Error(EIO).With("").context());
}

}  // namespace
}  // namespace diofs
