#include "env/log_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "dio/align.h"
#include "env/log_walker.h"
#include "env/volume.h"

namespace diofs {
namespace {

constexpr uint64_t kMaxWindowBytes = 1 << 20;

// Copies [offset, end) of the log out of its frames, from `mark` on.
Result CopyOut(LogWalker::Stream stream, const LogPosition& mark, LogState* log,
               uint64_t offset, uint64_t end, char* memory) {
  // The headers of its frames come on top, at most so many as the mark allows.
  stream.window_bytes =
      std::min(kMaxWindowBytes, (end - mark.logical) * 5 / 4 + kBlockBytes);
  LogWalker walker(std::move(stream), mark);
  for (uint64_t done = offset; done < end;) {
    LogWalker::Frame frame;
    bool found = false;
    if (Result r = walker.Next(&frame, &found); !r.ok()) return r;
    if (!found) {
      return Result::Error(
          EUCLEAN, "log is damaged at byte " +
                       std::to_string(walker.position().logical) + ": " +
                       walker.end_reason());
    }
    log->AddMark(walker.position(), walker.generation());
    if (frame.header.end() <= done) continue;
    const uint64_t skip = done - frame.header.logical;
    const uint64_t count =
        std::min<uint64_t>(frame.payload.size() - skip, end - done);
    std::memcpy(memory + (done - offset), frame.payload.data() + skip, count);
    done += count;
  }
  return Result::Bytes(end - offset);
}

}  // namespace

Result ReadLog(const OpenFile& file, uint64_t offset, size_t length,
               char* memory, uint16_t ioprio) {
  const Inode& inode = *file.inode();
  LogState* const log = inode.log.get();
  LogWalker::Stream stream;
  stream.device = file.volume()->device();
  stream.io_class = IoClassOf(inode.kind);
  stream.ioprio = ioprio;
  LogPosition mark;
  Inode::View view;
  {
    // What a Truncate cuts off afterwards stays where it is while the file is
    // open.
    const std::lock_guard<std::mutex> change(log->change_mutex());
    mark = log->FindMark(offset, &stream.segments);
    view = inode.view();
  }
  stream.map = view.map;
  const uint64_t size = std::min(view.visible_bytes, view.written_bytes);
  const uint64_t end = std::min<uint64_t>(
      size, length > UINT64_MAX - offset ? UINT64_MAX : offset + length);
  std::string damage;
  const uint64_t damaged_from = log->damaged_from(&damage);
  if (offset >= damaged_from || end > damaged_from) {
    return Result::Error(EUCLEAN, "log is damaged: " + damage);
  }
  if (offset >= size || length == 0) return Result::Bytes(0);
  return CopyOut(std::move(stream), mark, log, offset, end, memory);
}

}  // namespace diofs
