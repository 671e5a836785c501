#ifndef DIOFS_TESTS_STAGING_RIG_H_
#define DIOFS_TESTS_STAGING_RIG_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "env/staging.h"
#include "env/staging_file.h"
#include "env/staging_format.h"

namespace diofs {

// Of no volume in particular, with the smallest ring there is.
inline StagingHeader TestStagingHeader() {
  StagingHeader header;
  header.uuid.fill(1);
  header.mount_nonce.fill(2);
  header.boot_id.fill(3);
  header.device = 4;
  header.inode = 5;
  header.ring_bytes = kMinStagingBytes;
  return header;
}

// A new staging at `path`, started; null where it could not be made.
inline std::unique_ptr<Staging> StartStaging(const std::string& path) {
  std::unique_ptr<StagingFile> file;
  const Result made = StagingFile::Create(path, TestStagingHeader(), &file);
  EXPECT_TRUE(made.ok()) << made.ToString();
  if (!made.ok()) return nullptr;
  auto staging = std::make_unique<Staging>(std::move(file));
  staging->Start();
  return staging;
}

}  // namespace diofs

#endif  // DIOFS_TESTS_STAGING_RIG_H_
