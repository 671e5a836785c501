#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>

#include "dio/final_status.h"

namespace diofs {
namespace {

constexpr uint64_t kOffset = 4096;
constexpr uint64_t kFull = 8192;

// A read of [4096, 12288), by where the file ends.
struct SizeCase {
  const char* what;
  uint64_t file_size;
  uint64_t inside;  // bytes of the request that lie in the file
};
constexpr SizeCase kSizes[] = {
    {"empty file", 0, 0},
    {"starts far past the end", 100, 0},
    {"starts at the end", 4096, 0},
    {"ends one byte in", 4097, 1},
    {"ends across", 5000, 904},
    {"ends at the end", 12288, 8192},
    {"inside", 20000, 8192},
    {"as large as a file may be", INT64_MAX, 8192},
};

constexpr uint64_t kTransfers[] = {0, 512, 4608, kFull};

DioOutcome Outcome(IoDirection direction, uint64_t file_size,
                   uint64_t transferred) {
  DioOutcome outcome;
  outcome.direction = direction;
  outcome.offset = kOffset;
  outcome.file_size = file_size;
  outcome.transferred = transferred;
  return outcome;
}

// Every mix of the three errors with nothing, a part and all moved, for every
// place of the end of the file: the walk's error, then the memory's, then the
// device's, then bytes.
TEST(FinalStatus, PrecedenceOfErrorsAndTheClampOfReads) {
  int cases = 0;
  for (const IoDirection direction :
       {IoDirection::kRead, IoDirection::kWrite}) {
    for (const SizeCase& size : kSizes) {
      for (const uint64_t transferred : kTransfers) {
        for (int errors = 0; errors < 8; ++errors) {
          DioOutcome outcome = Outcome(direction, size.file_size, transferred);
          if ((errors & 4) != 0) outcome.submit_error = ENOSPC;
          if ((errors & 2) != 0) outcome.source_error = ECANCELED;
          if ((errors & 1) != 0) outcome.io_error = EREMOTEIO;
          int64_t expected = 0;
          switch (errors) {
            case 0:
              expected = static_cast<int64_t>(direction == IoDirection::kRead &&
                                                      transferred > size.inside
                                                  ? size.inside
                                                  : transferred);
              break;
            case 1:
              expected = -EREMOTEIO;
              break;
            case 2:
            case 3:
              expected = -ECANCELED;
              break;
            default:
              expected = -ENOSPC;
          }
          EXPECT_EQ(expected, FinalStatus(outcome))
              << size.what << ", " << transferred << " bytes, errors " << errors
              << (direction == IoDirection::kRead ? " read" : "");
          ++cases;
        }
      }
    }
  }
  EXPECT_EQ(2 * 8 * 4 * 8, cases);
}

// Memory that was not there is told only where nothing was moved before it; a
// device's error and the walk's are told in any case.
TEST(FinalStatus, MemoryThatEndsIsAShortSuccess) {
  for (const IoDirection direction :
       {IoDirection::kRead, IoDirection::kWrite}) {
    for (const uint64_t transferred : kTransfers) {
      for (int errors = 0; errors < 4; ++errors) {
        DioOutcome outcome = Outcome(direction, 20000, transferred);
        outcome.source_error = EFAULT;
        if ((errors & 2) != 0) outcome.submit_error = ENOSPC;
        if ((errors & 1) != 0) outcome.io_error = EREMOTEIO;
        int64_t expected = static_cast<int64_t>(transferred);
        if ((errors & 2) != 0) {
          expected = -ENOSPC;
        } else if (transferred == 0) {
          expected = -EFAULT;
        } else if ((errors & 1) != 0) {
          expected = -EREMOTEIO;
        }
        EXPECT_EQ(expected, FinalStatus(outcome))
            << transferred << " bytes, errors " << errors;
      }
    }
  }
}

TEST(FinalStatus, AReadIsNeverNegativeBytes) {
  for (uint64_t offset = 0; offset <= 8192; offset += 512) {
    for (uint64_t file_size = 0; file_size <= 4097; ++file_size) {
      DioOutcome outcome;
      outcome.offset = offset;
      outcome.file_size = file_size;
      outcome.transferred = 4096;
      const int64_t inside =
          static_cast<int64_t>(file_size) - static_cast<int64_t>(offset);
      const int64_t expected = inside <= 0 ? 0 : inside <= 4096 ? inside : 4096;
      ASSERT_EQ(expected, FinalStatus(outcome)) << offset << " " << file_size;
    }
  }
}

}  // namespace
}  // namespace diofs
