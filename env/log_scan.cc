#include "env/log_scan.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "env/log_frame.h"
#include "env/log_walker.h"

namespace diofs {
namespace {

// Why the log must have gone on where the walker has found nothing.
Result FindDamage(const LogState::Journaled& journaled, LogWalker* walker,
                  LogScan* scan) {
  const std::string missing = "the frame at byte " +
                              std::to_string(scan->end.logical) +
                              " is missing (" + walker->end_reason() + ")";
  if (scan->end.logical < journaled.known.logical) {
    scan->length = journaled.known.logical;
    scan->damage = missing + ", but the journal knows of " +
                   std::to_string(scan->length) + " bytes";
    return Result::Ok();
  }
  if (journaled.closed) return Result::Ok();
  if (walker->unreadable()) {
    scan->damage = missing;
    ++scan->length;
  }
  bool found = false;
  uint64_t upto = 0;
  if (Result r = walker->FindProof(&found, &upto); r.error() == EUCLEAN) {
    scan->damage = missing + ", and " + r.context();
    ++scan->length;
    return Result::Ok();
  } else if (!r.ok()) {
    return r;
  }
  if (found) {
    scan->length = std::max(scan->length, upto);
    scan->damage = missing + ", but a later one says that everything before " +
                   std::to_string(upto) + " was durable";
  }
  return Result::Ok();
}

}  // namespace

Result ScanLog(BlockDevice* device, const Inode& inode, bool from_start,
               LogScan* scan) {
  *scan = LogScan();
  const LogState::Journaled journaled = inode.log->journaled();
  if (journaled.segments.empty()) return Result::Ok();
  LogWalker::Stream stream;
  stream.device = device;
  stream.map = inode.map();
  stream.segments = journaled.segments;
  stream.io_class = IoClassOf(inode.kind);
  const LogSegment& first = journaled.segments.front();
  LogWalker walker(std::move(stream),
                   from_start ? LogPosition{first.logical, first.position,
                                            LogChain(first.generation)}
                              : journaled.known);
  LogWalker::Frame frame;
  bool found = true;
  while (!journaled.closed ||
         walker.position().logical < journaled.known.logical) {
    if (Result r = walker.Next(&frame, &found); !r.ok()) return r;
    if (!found) break;
    ++scan->frames;
    inode.log->AddMark(walker.position(), walker.generation());
  }
  scan->end = walker.position();
  scan->length = scan->end.logical;
  return found ? Result::Ok() : FindDamage(journaled, &walker, scan);
}

}  // namespace diofs
