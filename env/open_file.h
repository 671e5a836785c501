#ifndef DIOFS_ENV_OPEN_FILE_H_
#define DIOFS_ENV_OPEN_FILE_H_

#include <memory>
#include <utility>

#include "env/inode.h"

namespace diofs {

class Volume;

// A handle: keeps a file's blocks from being reused, named or not, and its
// volume mounted. Shared by whoever reads or writes through it; thread-safe.
class OpenFile {
 public:
  // Made by Volume, which has counted the handle.
  OpenFile(std::shared_ptr<Volume> volume, InodePtr inode)
      : volume_(std::move(volume)), inode_(std::move(inode)) {}
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  Volume* volume() const { return volume_.get(); }
  const InodePtr& inode() const { return inode_; }

 private:
  const std::shared_ptr<Volume> volume_;
  const InodePtr inode_;
};

using OpenFilePtr = std::shared_ptr<OpenFile>;

}  // namespace diofs

#endif  // DIOFS_ENV_OPEN_FILE_H_
