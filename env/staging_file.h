#ifndef DIOFS_ENV_STAGING_FILE_H_
#define DIOFS_ENV_STAGING_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "dio/fork_guard.h"
#include "dio/result.h"
#include "env/staging_format.h"

namespace diofs {

// A staging file of the host, mapped into memory that a process which is forked
// off does not see. Made for one mount; nobody else touches it, because only
// who holds the device's lock knows what it is for. The owner alone removes it.
class StagingFile {
 public:
  // Makes a file at `path`, mode 0600, with all its space: what is mapped can
  // be written. EEXIST; ENOSPC where the host has no room, with nothing left.
  static Result Create(const std::string& path, const StagingHeader& header,
                       std::unique_ptr<StagingFile>* file);
  // Opens one that is there. EUCLEAN where it is no staging file or its size is
  // wrong; EPERM where it is not this user's alone.
  static Result Open(const std::string& path, bool read_only,
                     std::unique_ptr<StagingFile>* file);
  StagingFile(const StagingFile&) = delete;
  StagingFile& operator=(const StagingFile&) = delete;
  // Unmaps; the file stays. In a forked child it does nothing.
  ~StagingFile();

  const std::string& path() const { return path_; }
  const StagingHeader& header() const { return header_; }
  uint64_t ring_bytes() const { return header_.ring_bytes; }
  StagingWords* words() const;
  // Where the byte at `position` lies. From there on ring_bytes() bytes are
  // contiguous: the ring is mapped twice, one behind the other.
  char* At(uint64_t position) const;

  // Takes the file away from its path.
  Result Remove() const;

 private:
  StagingFile(std::string path, const StagingHeader& header)
      : path_(std::move(path)), header_(header) {}
  Result Map(int fd, bool read_only);

  const std::string path_;
  const StagingHeader header_;
  const ForkGuard fork_guard_;
  char* memory_ = nullptr;
  size_t mapped_bytes_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_ENV_STAGING_FILE_H_
