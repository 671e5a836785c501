#ifndef DIOFS_ENV_FILE_KIND_H_
#define DIOFS_ENV_FILE_KIND_H_

#include <cstdint>
#include <string_view>

#include "dio/io_stats.h"

namespace diofs {

// What RocksDB keeps in a file. Told from the name when the file is made and
// stored in its inode; never guessed again. Values are on disk.
enum class FileKind : uint8_t {
  kOther = 0,  // CURRENT, OPTIONS, IDENTITY, LOCK, temporary files
  kWal = 1,
  kManifest = 2,
  kSst = 3,
  kBlob = 4,
  kInfoLog = 5,
};
inline constexpr uint8_t kFileKinds = 6;

// How a file's content lies in its blocks. Fixed when the file is made and
// stored in its inode. Values are on disk.
enum class FileLayout : uint8_t {
  kPlain = 0,  // as it is; its size is in the journal
  kLog = 1,    // as a stream of frames, which tell its size
};
inline constexpr uint8_t kFileLayouts = 2;

// What grows by small pieces that are to be durable, or at least not lost, one
// by one.
inline constexpr FileLayout LayoutOf(FileKind kind) {
  return kind == FileKind::kWal || kind == FileKind::kManifest ||
                 kind == FileKind::kInfoLog
             ? FileLayout::kLog
             : FileLayout::kPlain;
}

// What RocksDB does not read after a crash unless it was synced.
inline constexpr bool PromisesNothingBeforeSync(FileKind kind) {
  return kind == FileKind::kSst || kind == FileKind::kBlob;
}

// Accounting classes: the file kinds, and what belongs to no file.
inline constexpr IoClass kIoClassSuperblock = kFileKinds;
inline constexpr IoClass kIoClassJournal = kFileKinds + 1;
// Blocks of a new image, written once by mkfs.
inline constexpr IoClass kIoClassFormat = kFileKinds + 2;
inline constexpr IoClass kIoClassesUsed = kFileKinds + 3;
static_assert(kIoClassesUsed <= kIoClasses);

inline constexpr IoClass IoClassOf(FileKind kind) {
  return static_cast<IoClass>(kind);
}

// "sst", "wal", "journal", …; stable, for JSON.
const char* IoClassName(IoClass io_class);
inline const char* FileKindName(FileKind kind) {
  return IoClassName(IoClassOf(kind));
}

// By the last component of the path: 000012.log, MANIFEST-000004, *.sst (or
// .ldb), *.blob, LOG and LOG.old.*; everything else is kOther. SSTs to be
// ingested and those of backups are not named by a number alone.
FileKind FileKindFromName(std::string_view name);

}  // namespace diofs

#endif  // DIOFS_ENV_FILE_KIND_H_
