#include <gtest/gtest.h>

#include <set>
#include <string>

#include "env/file_kind.h"

namespace diofs {
namespace {

TEST(FileKind, FromName) {
  const struct {
    const char* name;
    FileKind kind;
  } cases[] = {
      {"000012.log", FileKind::kWal},
      {"/db/archive/000012.log", FileKind::kWal},
      {"/000012.sst/7.log", FileKind::kWal},
      {"x.log", FileKind::kOther},
      {".log", FileKind::kOther},
      {"12.log.tmp", FileKind::kOther},
      {"MANIFEST-000004", FileKind::kManifest},
      {"/db/MANIFEST-1", FileKind::kManifest},
      {"MANIFEST-", FileKind::kOther},
      {"MANIFEST-00x", FileKind::kOther},
      {"MANIFEST-000004.dbtmp", FileKind::kOther},
      {"000007.sst", FileKind::kSst},
      {"000007.ldb", FileKind::kSst},
      {"bulk load.sst", FileKind::kSst},
      {"000007_s1f2_4096.sst", FileKind::kSst},
      {"000007.sst.trash", FileKind::kOther},
      {".sst", FileKind::kOther},
      {"000009.blob", FileKind::kBlob},
      {"LOG", FileKind::kInfoLog},
      {"/db/LOG.old.1700000000", FileKind::kInfoLog},
      {"LOG.old", FileKind::kOther},
      {"LOGS", FileKind::kOther},
      {"/db/LOG/CURRENT", FileKind::kOther},
      {"CURRENT", FileKind::kOther},
      {"OPTIONS-000007", FileKind::kOther},
      {"IDENTITY", FileKind::kOther},
      {"LOCK", FileKind::kOther},
      {"000003.dbtmp", FileKind::kOther},
      {"", FileKind::kOther},
      {"/", FileKind::kOther},
      {"/db/", FileKind::kOther},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(FileKindFromName(c.name), c.kind) << c.name;
  }
}

TEST(FileKind, EveryClassHasItsOwnName) {
  std::set<std::string> names;
  for (IoClass io_class = 0; io_class < kIoClassesUsed; ++io_class) {
    names.insert(IoClassName(io_class));
  }
  EXPECT_EQ(names.size(), kIoClassesUsed);
  EXPECT_EQ(names.count("unknown"), 0u);
  EXPECT_STREQ(FileKindName(FileKind::kSst), "sst");
  EXPECT_STREQ(IoClassName(kIoClassJournal), "journal");
  EXPECT_STREQ(IoClassName(kIoClassesUsed), "unknown");
}

}  // namespace
}  // namespace diofs
