#include "tests/crash_states.h"

#include <cstddef>
#include <iterator>
#include <utility>

namespace diofs {

CrashStates::CrashStates(CowImage start, const Recording* recording,
                         uint32_t logical_block_bytes)
    : recording_(recording),
      block_bytes_(logical_block_bytes),
      durable_(std::move(start)) {}

void CrashStates::AddVersions(uint64_t id) {
  const CrashWrite& write = recording_->writes[id];
  for (uint64_t at = 0; at < write.data.size(); at += block_bytes_) {
    versions_[(write.offset + at) / block_bytes_].push_back(
        {id, write.data.data() + at});
  }
}

void CrashStates::MakeDurable(const std::set<uint64_t>& writes) {
  for (auto block = versions_.begin(); block != versions_.end();) {
    std::vector<Version>& versions = block->second;
    size_t keep_from = versions.size();
    while (keep_from > 0 && writes.count(versions[keep_from - 1].write) == 0) {
      --keep_from;
    }
    if (keep_from > 0) {
      durable_.Write(block->first * block_bytes_, versions[keep_from - 1].data,
                     block_bytes_);
      versions.erase(versions.begin(),
                     versions.begin() + static_cast<ptrdiff_t>(keep_from));
    }
    block = versions.empty() ? versions_.erase(block) : std::next(block);
  }
  for (const uint64_t write : writes) completed_.erase(write);
}

bool CrashStates::Next() {
  if (at_ == recording_->events.size()) return false;
  const CrashEvent& event = recording_->events[at_++];
  switch (event.kind) {
    case CrashEvent::Kind::kSubmit:
    case CrashEvent::Kind::kDiscard:
      AddVersions(event.id);
      break;
    case CrashEvent::Kind::kComplete:
      completed_.insert(event.id);
      if (recording_->writes[event.id].fua) MakeDurable({event.id});
      break;
    case CrashEvent::Kind::kFlushBegin:
      covered_ = completed_;
      break;
    case CrashEvent::Kind::kFlushEnd:
      MakeDurable(covered_);
      break;
    case CrashEvent::Kind::kNote:
      break;
  }
  return true;
}

CowImage CrashStates::With(const Pick& pick) const {
  CowImage image = durable_;
  for (const auto& [block, versions] : versions_) {
    const int64_t picked = pick(block, versions);
    if (picked < 0) continue;
    image.Write(block * block_bytes_,
                versions[static_cast<size_t>(picked)].data, block_bytes_);
  }
  return image;
}

std::set<uint64_t> CrashStates::VolatileWrites() const {
  std::set<uint64_t> writes;
  for (const auto& [block, versions] : versions_) {
    for (const Version& version : versions) writes.insert(version.write);
  }
  return writes;
}

void CrashStates::ForEach(const Choice& choice, std::mt19937_64* rng,
                          const Visit& visit) const {
  visit(durable_);
  if (versions_.empty()) return;
  const auto last_but = [](const std::vector<Version>& versions,
                           uint64_t missing) {
    auto i = static_cast<int64_t>(versions.size()) - 1;
    while (i >= 0 && versions[static_cast<size_t>(i)].write == missing) --i;
    return i;
  };
  visit(With([](uint64_t, const std::vector<Version>& versions) {
    return static_cast<int64_t>(versions.size()) - 1;
  }));
  for (const uint64_t write : VolatileWrites()) {
    visit(With([&](uint64_t, const std::vector<Version>& versions) {
      return last_but(versions, write);
    }));
    visit(With([&](uint64_t, const std::vector<Version>& versions) {
      for (size_t i = 0; i < versions.size(); ++i) {
        if (versions[i].write == write) return static_cast<int64_t>(i);
      }
      return int64_t{-1};
    }));
  }
  if (versions_.size() <= choice.exhaustive_blocks) {
    ForEachSubset(visit);
    return;
  }
  for (uint64_t i = 0; i < choice.random_states; ++i) {
    // From almost nothing to almost all.
    const uint64_t share = (*rng)() % 101;
    visit(With([&](uint64_t, const std::vector<Version>& versions) {
      if ((*rng)() % 100 >= share) return int64_t{-1};
      return static_cast<int64_t>((*rng)() % versions.size());
    }));
  }
}

// Counts with one digit for each block, from none of its versions to the last.
void CrashStates::ForEachSubset(const Visit& visit) const {
  std::map<uint64_t, int64_t> picked;
  for (const auto& [block, versions] : versions_) picked[block] = -1;
  while (true) {
    visit(With([&](uint64_t block, const std::vector<Version>&) {
      return picked[block];
    }));
    auto digit = picked.begin();
    while (digit != picked.end()) {
      const auto count =
          static_cast<int64_t>(versions_.find(digit->first)->second.size());
      if (++digit->second < count) break;
      digit->second = -1;
      ++digit;
    }
    if (digit == picked.end()) return;
  }
}

}  // namespace diofs
