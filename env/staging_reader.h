#ifndef DIOFS_ENV_STAGING_READER_H_
#define DIOFS_ENV_STAGING_READER_H_

#include <cstdint>
#include <vector>

#include "dio/result.h"
#include "env/staging_file.h"

namespace diofs {

// What a process that died has left in a staging file. Nothing in it is
// trusted.
struct StagedContent {
  StagingState state = StagingState::kFresh;
  // In the order in which they were staged; their bodies lie in the file's
  // memory.
  std::vector<StagedRecord> records;
  // Where the journal ended, at least: one base, or two where the last of them
  // is tentative. None where nothing was noted.
  std::vector<StagedBase> bases;
};

// EUCLEAN, saying what is wrong, for what no process left that way.
Result ReadStaging(const StagingFile& file, StagedContent* content);

}  // namespace diofs

#endif  // DIOFS_ENV_STAGING_READER_H_
