#ifndef DIOFS_ENV_INODE_H_
#define DIOFS_ENV_INODE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "env/extent_map.h"
#include "env/file_kind.h"
#include "env/log_state.h"

namespace diofs {

class FileWriter;

// A file or directory in memory. Shared by the namespace and by open handles;
// one that was unlinked lives on until its last handle closes.
//
// Three sizes of a file, each at least as large as the next:
//   visible_bytes    what readers see: everything flushed
//   written_bytes    what has reached the device; the rest is in the writer
//   journaled_bytes  what a mount after a crash would find
struct Inode {
  Inode(uint64_t number, bool directory, FileKind file_kind,
        FileLayout file_layout = FileLayout::kPlain)
      : ino(number),
        is_directory(directory),
        kind(file_kind),
        layout(file_layout),
        log(file_layout == FileLayout::kLog ? std::make_unique<LogState>()
                                            : nullptr) {}

  const uint64_t ino;
  const bool is_directory;
  const FileKind kind;
  const FileLayout layout;
  // Of a log, else null. Its blocks hold the stream, and its sizes are not in
  // the journal: journaled_bytes is 0.
  const std::unique_ptr<LogState> log;

  // Guarded by the namespace lock.
  uint32_t link_count = 0;
  uint64_t parent = 0;  // of a directory; the root is its own
  std::map<std::string, uint64_t> entries;  // of a directory
  uint64_t journaled_bytes = 0;
  // Leading blocks of map() the journal names. Of a plain file, those that the
  // size does not need hold its ChecksumTable.
  uint64_t journaled_blocks = 0;
  uint64_t unlink_lsn = 0;  // when link_count fell to 0
  uint32_t open_count = 0;
  // Cut off by Truncate: free once the last handle is closed.
  std::vector<Extent> truncated;
  // Of the last operation that took content or checksums away from the end:
  // until it is durable they may come back. The writer's.
  uint64_t trimmed_lsn = 0;

  // A FileWriter is being made, is at work or writes its last bytes: guarded by
  // the volume's WriterGate.
  bool has_writer = false;

  // Read without a lock.
  std::atomic<uint64_t> mtime_us{0};
  std::atomic<uint64_t> visible_bytes{0};
  std::atomic<uint64_t> written_bytes{0};
  // Of the last operation that gave the file a name, or a log a segment or
  // blocks; 0: before this mount.
  std::atomic<uint64_t> named_lsn{0};

  // What a reader works with: a map and sizes of one moment, such that every
  // block below `written` has been written.
  struct View {
    std::shared_ptr<const ExtentMap> map;
    uint64_t visible_bytes = 0;
    uint64_t written_bytes = 0;
  };
  View view() const {
    std::lock_guard<std::mutex> lock(mutex_);
    // The sizes first: a map that has grown since only holds more.
    View view;
    view.visible_bytes = visible_bytes.load(std::memory_order_acquire);
    view.written_bytes = written_bytes.load(std::memory_order_acquire);
    view.map = map_;
    return view;
  }
  // Both sizes and the map become smaller, in one step for readers.
  void Shrink(std::shared_ptr<const ExtentMap> shorter, uint64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    visible_bytes.store(bytes, std::memory_order_release);
    written_bytes.store(bytes, std::memory_order_release);
    map_ = std::move(shorter);
  }

  std::shared_ptr<const ExtentMap> map() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return map_;
  }
  void set_map(std::shared_ptr<const ExtentMap> map) {
    std::lock_guard<std::mutex> lock(mutex_);
    map_ = std::move(map);
  }

  // Who appends to the file at present; null for nobody.
  std::shared_ptr<FileWriter> writer() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return writer_.lock();
  }
  void set_writer(const std::shared_ptr<FileWriter>& writer) {
    std::lock_guard<std::mutex> lock(mutex_);
    writer_ = writer;
  }

 private:
  mutable std::mutex mutex_;  // a leaf: nothing is locked while it is held
  std::shared_ptr<const ExtentMap> map_ = std::make_shared<ExtentMap>();
  std::weak_ptr<FileWriter> writer_;
};

using InodePtr = std::shared_ptr<Inode>;

}  // namespace diofs

#endif  // DIOFS_ENV_INODE_H_
