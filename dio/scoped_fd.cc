#include "dio/scoped_fd.h"

#include <unistd.h>

namespace diofs {

void ScopedFd::Close() {
  if (fd_ >= 0) close(Release());
}

}  // namespace diofs
