#ifndef DIOFS_ENV_LOG_STATE_H_
#define DIOFS_ENV_LOG_STATE_H_

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "env/log_layout.h"

namespace diofs {

// What is known of the stream of one log file: what the journal says of it, and
// what has been found by walking or writing its frames since. Thread-safe; the
// part of the journal is changed under the namespace lock alone.
class LogState {
 public:
  struct Journaled {
    std::vector<LogSegment> segments;
    // Durable up to there, and no longer where it is closed.
    LogPosition known;
    bool closed = false;
  };
  Journaled journaled() const;
  LogPosition known() const;  // journaled().known
  bool empty() const;

  // Does a new segment fit behind those there are? It replaces those that begin
  // at or behind its first byte.
  bool Fits(const LogSegment& segment) const;
  // From segment.logical on the log is void, and goes on in `segment`. Returns
  // how many segments there are more than before.
  int64_t Begin(const LogSegment& segment);
  // False where `known` lies before the last segment.
  bool Fits(const LogPosition& known) const;
  void SetKnown(const LogPosition& known, bool closed);

  // ---- Found since ----------------------------------------------------------

  // Held where segments, blocks and sizes change together, and by readers who
  // need all three of one moment.
  std::mutex& change_mutex() { return change_mutex_; }
  // Held by whoever looks for the end, with no other lock.
  std::mutex& sizing_mutex() { return sizing_mutex_; }
  // Has the end been found? It is not, after an unclean unmount, before the
  // frames behind journaled().known have been walked.
  bool sized() const;
  // Behind the last frame on the device; where it is sized.
  LogPosition end() const;
  void SetEnd(const LogPosition& end);
  // Nothing lies behind the end of the last segment but what it has been given
  // in this mount: true for the first who asks, until it is left again.
  void LeaveSegment();
  bool TakeSegment();
  // What lies at or behind `from` is lost, as `why` says.
  void SetDamage(uint64_t from, const std::string& why);
  // UINT64_MAX where nothing is lost.
  uint64_t damaged_from(std::string* why = nullptr) const;

  // The last place known between two frames that is not behind `logical`, and
  // the segments.
  LogPosition FindMark(uint64_t logical,
                       std::vector<LogSegment>* segments) const;
  // A place between two frames of the segment `generation`; kept where there is
  // none near it.
  void AddMark(const LogPosition& place, uint64_t generation);

 private:
  // A reader walks at most this much of the stream to find a byte of the file
  // (or one frame, where that is longer).
  static constexpr uint64_t kMarkBytes = 64 << 10;

  std::mutex sizing_mutex_;
  std::mutex change_mutex_;   // behind the namespace lock
  mutable std::mutex mutex_;  // a leaf; guards all below
  Journaled journaled_;
  std::vector<LogPosition> marks_;  // by logical
  bool sized_ = false;
  bool left_ = false;
  LogPosition end_;
  uint64_t damaged_from_ = UINT64_MAX;
  std::string damage_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_LOG_STATE_H_
