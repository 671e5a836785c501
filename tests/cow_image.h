#ifndef DIOFS_TESTS_COW_IMAGE_H_
#define DIOFS_TESTS_COW_IMAGE_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace diofs {

// The content of a device as a value: the pages that differ from a base which
// many images share. Copies share their pages, so that thousands of states of
// one device cost what they differ in. Not thread-safe; copies are independent
// of each other.
class CowImage {
 public:
  static constexpr uint64_t kPageBytes = 4096;

  // Whole pages.
  explicit CowImage(std::shared_ptr<const std::string> base);

  uint64_t bytes() const { return base_->size(); }
  void Read(uint64_t offset, uint64_t bytes, char* to) const;
  void Write(uint64_t offset, const char* from, uint64_t bytes);
  // Equal for images of the same base with the same content.
  uint64_t Hash() const;
  std::string ToString() const;

 private:
  struct Page {
    std::array<char, kPageBytes> data;
    uint64_t hash = 0;  // 0: not computed
  };

  uint64_t HashOf(uint64_t index, Page* page) const;

  std::shared_ptr<const std::string> base_;
  std::map<uint64_t, std::shared_ptr<Page>> pages_;  // by offset / kPageBytes
};

}  // namespace diofs

#endif  // DIOFS_TESTS_COW_IMAGE_H_
