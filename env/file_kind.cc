#include "env/file_kind.h"

#include <algorithm>

namespace diofs {

namespace {

bool AllDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c >= '0' && c <= '9';
  });
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

}  // namespace

const char* IoClassName(IoClass io_class) {
  switch (io_class) {
    case IoClassOf(FileKind::kOther):
      return "other";
    case IoClassOf(FileKind::kWal):
      return "wal";
    case IoClassOf(FileKind::kManifest):
      return "manifest";
    case IoClassOf(FileKind::kSst):
      return "sst";
    case IoClassOf(FileKind::kBlob):
      return "blob";
    case IoClassOf(FileKind::kInfoLog):
      return "info_log";
    case kIoClassSuperblock:
      return "superblock";
    case kIoClassJournal:
      return "journal";
    case kIoClassFormat:
      return "format";
    default:
      return "unknown";
  }
}

FileKind FileKindFromName(std::string_view name) {
  const size_t slash = name.rfind('/');
  if (slash != std::string_view::npos) name.remove_prefix(slash + 1);

  if (name == "LOG" || StartsWith(name, "LOG.old.")) return FileKind::kInfoLog;
  constexpr std::string_view kManifestPrefix = "MANIFEST-";
  if (StartsWith(name, kManifestPrefix)) {
    return AllDigits(name.substr(kManifestPrefix.size())) ? FileKind::kManifest
                                                          : FileKind::kOther;
  }

  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return FileKind::kOther;
  const std::string_view stem = name.substr(0, dot);
  const std::string_view suffix = name.substr(dot);
  if (suffix == ".log") {
    return AllDigits(stem) ? FileKind::kWal : FileKind::kOther;
  }
  if (suffix == ".sst" || suffix == ".ldb") return FileKind::kSst;
  if (suffix == ".blob") return FileKind::kBlob;
  return FileKind::kOther;
}

}  // namespace diofs
