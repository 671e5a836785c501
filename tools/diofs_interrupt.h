#ifndef DIOFS_TOOLS_DIOFS_INTERRUPT_H_
#define DIOFS_TOOLS_DIOFS_INTERRUPT_H_

#include <functional>
#include <string>

#include "dio/result.h"

namespace diofs {

// While it lives, a signal that ends the process (Ctrl-C, kill, a closed
// terminal or pipe) first removes the file that was being made and says what
// became of the target. At most one at a time, owned by the command; a file
// made and not kept is removed by the destructor too.
class InterruptGuard {
 public:
  InterruptGuard(const std::string& command, const std::string& path);
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  ~InterruptGuard();

  // Runs `make`, which makes the file: no signal comes between the file and
  // the knowledge that it is there.
  Result MakeFile(const std::function<Result()>& make);
  // From now on an interrupt leaves the target as it is, unformatted.
  void StartFormatting();
  // The target is whole.
  void Keep();
};

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIOFS_INTERRUPT_H_
