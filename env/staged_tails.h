#ifndef DIOFS_ENV_STAGED_TAILS_H_
#define DIOFS_ENV_STAGED_TAILS_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "dio/result.h"

namespace diofs {

// The ends of files that a dead process had staged, put together from its
// records. They are given in the order in which they were staged, those of
// transactions that are on the device already among them: what such a one has
// cut off is not to come back.
class StagedTails {
 public:
  // Bytes of a file from `offset` on. Those before have been on the device when
  // it was staged; some of its own may be by now.
  struct Tail {
    uint64_t offset = 0;
    std::string bytes;
    uint64_t end() const { return offset + bytes.size(); }
  };

  void Add(uint64_t ino, uint64_t offset, std::string_view bytes);
  // What one transaction has cut off. EUCLEAN for what is none.
  Result Cut(std::string_view operations);

  // By inode; of files that may be gone by now. None is empty.
  const std::map<uint64_t, Tail>& tails() const { return tails_; }

 private:
  void Cut(uint64_t ino, uint64_t end);

  std::map<uint64_t, Tail> tails_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_STAGED_TAILS_H_
