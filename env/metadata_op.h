#ifndef DIOFS_ENV_METADATA_OP_H_
#define DIOFS_ENV_METADATA_OP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dio/result.h"
#include "env/extent_map.h"
#include "env/file_kind.h"
#include "env/log_layout.h"

namespace diofs {

// Values are on disk.
enum class OpType : uint8_t {
  kMkdir = 1,     // parent, name, ino, mtime
  kCreate = 2,    // parent, name, ino, kind, layout, mtime; the name is free
  kLink = 3,      // ino, parent, name; the name is free
  kUnlink = 4,    // parent, name of a file
  kRmdir = 5,     // parent, name of an empty directory
  kRename = 6,    // parent, name -> new_parent, new_name; replaces a file or an
                  // empty directory there
  kExtents = 7,   // ino, extents: blocks behind the last one
  kSize = 8,      // ino, size, mtime
  kTrim = 9,      // ino, size: keeps the first `size` *blocks*
  kMtime = 10,    // ino, mtime
  kNextIno = 11,  // ino: no inode number below it is ever given again
  kSegment = 12,  // ino of a log, segment: what the log has at or behind
                  // segment.logical is void
  kLogEnd = 13    // ino of a log, log_end, closed, mtime: durable up to there,
                  // and no longer where it is closed
};

// One change of the metadata, as the journal carries it. Only the fields listed
// with its type count. A plain value.
struct MetadataOp {
  OpType type = OpType::kMtime;
  FileKind kind = FileKind::kOther;
  FileLayout layout = FileLayout::kPlain;
  bool closed = false;
  uint64_t ino = 0;
  uint64_t parent = 0;
  uint64_t new_parent = 0;
  uint64_t size = 0;
  uint64_t mtime_us = 0;
  std::string name;
  std::string new_name;
  std::vector<Extent> extents;
  LogSegment segment;
  LogPosition log_end;

  // Appends {type, length of the body, body}.
  void EncodeTo(std::string* out) const;
  // Takes one operation off the front of *bytes. EUCLEAN, naming what is wrong,
  // for what no encoder wrote: nothing in it is trusted, names are checked
  // (1..255 bytes, no '/' and no NUL, not "." or ".."), counts are bounded by
  // the bytes there are.
  static Result DecodeFrom(std::string_view* bytes, MetadataOp* op);

  // "rename 1/CURRENT.tmp -> 1/CURRENT", for diofs dump and messages.
  std::string ToString() const;
};

const char* OpTypeName(OpType type);

}  // namespace diofs

#endif  // DIOFS_ENV_METADATA_OP_H_
