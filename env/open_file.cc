#include "env/open_file.h"

#include "dio/out_of_memory.h"
#include "env/volume.h"

namespace diofs {

OpenFile::~OpenFile() {
  // What is left half done has stopped the volume.
  (void)CatchBadAlloc([this] {
    volume_->Release(inode_);
    return Result::Ok();
  });
}

}  // namespace diofs
