#include "env/staging_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "dio/scoped_fd.h"

namespace diofs {
namespace {

Result ReadHeader(int fd, StagingHeader* header) {
  std::string block(kStagingHeaderBytes, '\0');
  const ssize_t bytes = pread(fd, block.data(), block.size(), 0);
  if (bytes < 0) return Result::FromErrno("read");
  block.resize(static_cast<size_t>(bytes));
  return StagingHeader::Decode(block, header);
}

// Nobody else may have written to it, or may shorten it while it is mapped.
Result CheckOwner(const struct stat& status) {
  if (!S_ISREG(status.st_mode)) return Result::Error(EUCLEAN, "no file");
  if (status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
    return Result::Error(EPERM, "not this user's alone");
  }
  return Result::Ok();
}

}  // namespace

Result StagingFile::Create(const std::string& path, const StagingHeader& header,
                           std::unique_ptr<StagingFile>* file) {
  const std::string block = header.Encode();
  std::unique_ptr<StagingFile> made(new StagingFile(path, header));
  const ScopedFd fd(open(path.c_str(),
                         O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                         S_IRUSR | S_IWUSR));
  if (fd.get() < 0) return Result::FromErrno(path + ": create");
  // Space that the host had only promised would end the process with SIGBUS
  // where it breaks the promise.
  const auto bytes = static_cast<off_t>(kStagingRingOffset + header.ring_bytes);
  const int error = posix_fallocate(fd.get(), 0, bytes);
  Result result = error == 0 ? made->Map(fd.get(), /*read_only=*/false)
                             : Result::Error(error, "allocate");
  if (!result.ok()) {
    (void)unlink(path.c_str());
    return std::move(result).With(path);
  }
  std::memcpy(made->memory_, block.data(), block.size());
  *file = std::move(made);
  return result;
}

Result StagingFile::Open(const std::string& path, bool read_only,
                         std::unique_ptr<StagingFile>* file) {
  const ScopedFd fd(open(
      path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_CLOEXEC));
  if (fd.get() < 0) return Result::FromErrno(path + ": open");
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return Result::FromErrno(path + ": stat");
  StagingHeader header;
  Result result = CheckOwner(status);
  if (result.ok()) result = ReadHeader(fd.get(), &header);
  if (!result.ok()) return std::move(result).With(path);
  if (static_cast<uint64_t>(status.st_size) !=
      kStagingRingOffset + header.ring_bytes) {
    return Result::Error(EUCLEAN, path + ": size of the file");
  }
  std::unique_ptr<StagingFile> opened(new StagingFile(path, header));
  if (Result r = opened->Map(fd.get(), read_only); !r.ok()) {
    return std::move(r).With(path);
  }
  *file = std::move(opened);
  return Result::Ok();
}

Result StagingFile::Map(int fd, bool read_only) {
  const size_t once = kStagingRingOffset + header_.ring_bytes;
  const size_t all = once + header_.ring_bytes;
  const int protection = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  void* const place =
      mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return Result::FromErrno("map");
  memory_ = static_cast<char*>(place);
  mapped_bytes_ = all;
  if (mmap(memory_, once, protection, MAP_SHARED | MAP_FIXED, fd, 0) ==
          MAP_FAILED ||
      mmap(memory_ + once, header_.ring_bytes, protection,
           MAP_SHARED | MAP_FIXED, fd,
           static_cast<off_t>(kStagingRingOffset)) == MAP_FAILED ||
      madvise(memory_, all, MADV_DONTFORK) != 0) {
    return Result::FromErrno("map");
  }
  return Result::Ok();
}

StagingFile::~StagingFile() {
  // What a forked child has mapped there since is its own.
  if (memory_ != nullptr && !fork_guard_.Crossed()) {
    (void)munmap(memory_, mapped_bytes_);
  }
}

StagingWords* StagingFile::words() const {
  return reinterpret_cast<StagingWords*>(memory_ + kStagingWordsOffset);
}

char* StagingFile::At(uint64_t position) const {
  return memory_ + kStagingRingOffset + position % header_.ring_bytes;
}

Result StagingFile::Remove() const {
  if (unlink(path_.c_str()) != 0) return Result::FromErrno(path_ + ": remove");
  return Result::Ok();
}

}  // namespace diofs
