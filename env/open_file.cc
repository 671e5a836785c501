#include "env/open_file.h"

#include "env/volume.h"

namespace diofs {

OpenFile::~OpenFile() { volume_->Release(inode_); }

}  // namespace diofs
