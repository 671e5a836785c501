#include "dio/inflight_writes.h"

#include <algorithm>

#include "dio/bio.h"

namespace diofs {

InflightWrites::Entry InflightWrites::MakeEntry(const Bio* bio) {
  return {bio->device_offset() / kBlockBytes,
          (bio->device_end() - 1) / kBlockBytes, bio};
}

bool InflightWrites::TryAdd(const Bio* bio) {
  const Entry wanted = MakeEntry(bio);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.first <= wanted.last && wanted.first <= entry.last) return false;
  }
  entries_.push_back(wanted);
  return true;
}

void InflightWrites::Remove(const Bio* bio) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto entry =
      std::find_if(entries_.begin(), entries_.end(),
                   [bio](const Entry& other) { return other.bio == bio; });
  *entry = entries_.back();
  entries_.pop_back();
}

size_t InflightWrites::count() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return entries_.size();
}

}  // namespace diofs
