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
  Inode(uint64_t number, bool directory, FileKind file_kind)
      : ino(number), is_directory(directory), kind(file_kind) {}

  const uint64_t ino;
  const bool is_directory;
  const FileKind kind;

  // Guarded by the namespace lock.
  uint32_t link_count = 0;
  uint64_t parent = 0;  // of a directory; the root is its own
  std::map<std::string, uint64_t> entries;  // of a directory
  uint64_t journaled_bytes = 0;
  uint64_t journaled_blocks = 0;  // leading blocks of map() the journal names
  uint64_t unlink_lsn = 0;        // when link_count fell to 0
  uint32_t open_count = 0;
  // Cut off by Truncate: free once the last handle is closed.
  std::vector<Extent> truncated;

  // Read without a lock.
  std::atomic<uint64_t> mtime_us{0};
  std::atomic<uint64_t> visible_bytes{0};
  std::atomic<uint64_t> written_bytes{0};

  std::shared_ptr<const ExtentMap> map() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return map_;
  }
  void set_map(std::shared_ptr<const ExtentMap> map) {
    std::lock_guard<std::mutex> lock(mutex_);
    map_ = std::move(map);
  }

  // Held while a FileWriter is being made; taken before any other lock.
  std::mutex writer_open_mutex;

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
