#include "env/rocksdb_status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>

namespace diofs {
namespace {

using rocksdb::IOStatus;

IOStatus From(int error) {
  return ToIOStatus(Result::Error(error, "what happened"), "/the/path");
}

TEST(ToIOStatus, EachErrnoIsWhatRocksDBExpects) {
  EXPECT_TRUE(ToIOStatus(Result::Ok(), "/x").ok());
  EXPECT_TRUE(From(ENOENT).IsPathNotFound());
  EXPECT_FALSE(From(ENOENT).IsNotFound());
  EXPECT_TRUE(From(ENOSPC).IsNoSpace());
  EXPECT_TRUE(From(EUCLEAN).IsCorruption());
  EXPECT_TRUE(From(EINVAL).IsInvalidArgument());
  EXPECT_TRUE(From(EOPNOTSUPP).IsNotSupported());
  EXPECT_TRUE(From(EPROTONOSUPPORT).IsNotSupported());
  EXPECT_TRUE(From(ENOMEM).IsMemoryLimit());
  for (const int error : {EIO, EROFS, EBUSY, EEXIST, ENOTDIR, EISDIR, ENODATA,
                          ESTALE, EPERM, ENOTEMPTY}) {
    EXPECT_TRUE(From(error).IsIOError()) << error;
    EXPECT_FALSE(From(error).IsPathNotFound()) << error;
  }
}

// RocksDB resumes by itself only after an error that is retryable.
TEST(ToIOStatus, OnlyNoSpaceIsRetryable) {
  EXPECT_TRUE(From(ENOSPC).GetRetryable());
  EXPECT_FALSE(From(EIO).GetRetryable());
  EXPECT_FALSE(From(ENOENT).GetRetryable());
}

TEST(ToIOStatus, AskingForWhatNamesNothingIsNotFound) {
  for (const int error : {ENOENT, ENOTDIR, ENAMETOOLONG}) {
    EXPECT_TRUE(
        ToIOStatus(Result::Error(error), "/x", Missing::kNotFound).IsNotFound())
        << error;
  }
  EXPECT_TRUE(
      ToIOStatus(Result::Error(EIO), "/x", Missing::kNotFound).IsIOError());
}

TEST(ToIOStatus, ThePathIsInTheMessageOnce) {
  EXPECT_EQ(From(EIO).ToString(),
            "IO error: /the/path: what happened: Input/output error");
  EXPECT_EQ(
      ToIOStatus(Result::Error(EIO, "write /the/path"), "/the/path").ToString(),
      "IO error: write /the/path: Input/output error");
  EXPECT_EQ(ToIOStatus(Result::Error(EINVAL), "/the/path").ToString(),
            "Invalid argument: /the/path");
  EXPECT_EQ(From(ENOENT).ToString(),
            "IO error: No such file or directory: /the/path: what happened");
}

template <typename Exception>
Result Throw() {
  throw Exception("thrown");
}

TEST(Guarded, WhatIsThrownEndsThere) {
  EXPECT_TRUE(Guarded("/x", [] { return Result::Bytes(7); }).ok());
  EXPECT_TRUE(
      Guarded("/x", [] { return Result::Error(ENOENT); }).IsPathNotFound());
  const IOStatus memory =
      Guarded("/x", []() -> Result { throw std::bad_alloc(); });
  EXPECT_TRUE(memory.IsMemoryLimit()) << memory.ToString();
  const IOStatus other =
      Guarded("/x", [] { return Throw<std::runtime_error>(); });
  EXPECT_TRUE(other.IsIOError()) << other.ToString();
  EXPECT_NE(other.ToString().find("/x: thrown"), std::string::npos)
      << other.ToString();
}

}  // namespace
}  // namespace diofs
