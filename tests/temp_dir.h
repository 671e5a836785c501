#ifndef DIOFS_TESTS_TEMP_DIR_H_
#define DIOFS_TESTS_TEMP_DIR_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace diofs {

// A directory of its own under $TMPDIR (or /tmp), removed with all that is in
// it when the test ends.
class TempDir {
 public:
  TempDir() {
    const char* const base = std::getenv("TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/diofs_test_XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) {
      ADD_FAILURE() << "mkdtemp " << path_;
    }
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_TEMP_DIR_H_
