#include "tests/cow_image.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string_view>
#include <utility>

namespace diofs {

CowImage::CowImage(std::shared_ptr<const std::string> base)
    : base_(std::move(base)) {}

void CowImage::Read(uint64_t offset, uint64_t bytes, char* to) const {
  std::memcpy(to, base_->data() + offset, bytes);
  const uint64_t end = offset + bytes;
  for (auto page = pages_.lower_bound(offset / kPageBytes);
       page != pages_.end() && page->first * kPageBytes < end; ++page) {
    const uint64_t start = page->first * kPageBytes;
    const uint64_t from = std::max(start, offset);
    const uint64_t length = std::min(start + kPageBytes, end) - from;
    std::memcpy(to + (from - offset),
                page->second->data.data() + (from - start), length);
  }
}

void CowImage::Write(uint64_t offset, const char* from, uint64_t bytes) {
  while (bytes > 0) {
    const uint64_t index = offset / kPageBytes;
    const uint64_t within = offset % kPageBytes;
    const uint64_t length = std::min(bytes, kPageBytes - within);
    std::shared_ptr<Page>& page = pages_[index];
    if (page == nullptr) {
      page = std::make_shared<Page>();
      std::memcpy(page->data.data(), base_->data() + index * kPageBytes,
                  kPageBytes);
    } else if (page.use_count() > 1) {
      page = std::make_shared<Page>(*page);
    }
    std::memcpy(page->data.data() + within, from, length);
    page->hash = 0;
    offset += length;
    from += length;
    bytes -= length;
  }
}

uint64_t CowImage::HashOf(uint64_t index, Page* page) const {
  if (page->hash != 0) return page->hash;
  const std::string_view content(page->data.data(), kPageBytes);
  // A page that is as the base has it must not count.
  constexpr uint64_t kSameAsBase = 1;
  if (content ==
      std::string_view(*base_).substr(index * kPageBytes, kPageBytes)) {
    return page->hash = kSameAsBase;
  }
  const uint64_t mixed =
      std::hash<std::string_view>()(content) ^ (index + 1) * 0x9e3779b97f4a7c15;
  page->hash = std::hash<std::string_view>()(std::string_view(
                   reinterpret_cast<const char*>(&mixed), sizeof(mixed))) |
               2;
  return page->hash;
}

uint64_t CowImage::Hash() const {
  uint64_t sum = 0;
  for (const auto& [index, page] : pages_) {
    const uint64_t hash = HashOf(index, page.get());
    if (hash != 1) sum += hash;
  }
  return sum;
}

std::string CowImage::ToString() const {
  std::string image(bytes(), '\0');
  Read(0, bytes(), image.data());
  return image;
}

}  // namespace diofs
