#ifndef DIOFS_DIO_INFLIGHT_WRITES_H_
#define DIOFS_DIO_INFLIGHT_WRITES_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace diofs {

class Bio;

// The writes a device has in flight, so that two of one 4096-byte block never
// are: a device may carry out what it holds in any order, and a medium may tear
// a block that is written twice at once. Owned by a BlockDevice. Thread-safe.
class InflightWrites {
 public:
  static constexpr uint32_t kBlockBytes = 4096;

  explicit InflightWrites(size_t capacity) { entries_.reserve(capacity); }

  // Notes `bio` and returns true; false where a write of one of its blocks is
  // noted.
  bool TryAdd(const Bio* bio);
  // `bio` is noted; called before it ends.
  void Remove(const Bio* bio);
  size_t count() const;

 private:
  // Blocks of 4096 bytes, both inclusive.
  struct Entry {
    uint64_t first;
    uint64_t last;
    const Bio* bio;
  };
  static Entry MakeEntry(const Bio* bio);
  mutable std::mutex mutex_;
  // Guarded by mutex_. Writes in flight are tens, so a scan of a page of memory
  // beats any tree.
  std::vector<Entry> entries_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_INFLIGHT_WRITES_H_
