#include "tools/dio_bench_target.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "dio/buffer_pool.h"
#include "tools/dio_bench_worker.h"
#include "tools/diofs_signature.h"
#include "tools/diofs_util.h"

namespace diofs {

namespace {

constexpr uint64_t kPrefillBytes = 1 << 20;

}  // namespace

BenchTarget::~BenchTarget() {
  device_.reset();
  if (made_) unlink(path_.c_str());
}

Result BenchTarget::Open(const TargetOptions& options) {
  path_ = options.path;
  struct stat info = {};
  const bool missing = lstat(path_.c_str(), &info) != 0 && errno == ENOENT;
  if (missing && options.create_bytes == 0) {
    return Result::Error(EINVAL, path_ + ": there is no such file or device");
  }
  if (missing) {
    Result result = CreateImageFile(path_, options.create_bytes, true);
    if (!result.ok()) return result;
    made_ = true;
  }
  if (options.write) {
    const std::string user = FindUser(path_);
    if (!user.empty()) {
      return Result::Error(EINVAL, path_ + ": " + user + "; release it first");
    }
  }
  OpenDeviceOptions open;
  open.read_only = !options.write;
  open.lock_wait_ms = 1000;
  open.backend = options.backend;
  open.log = options.log;
  Result result = OpenBlockDevice(path_, open, &device_);
  if (!result.ok() || !options.write || made_) return result;
  return CheckWritable(options);
}

Result BenchTarget::CheckWritable(const TargetOptions& options) {
  if (options.overwrite) return Result::Ok();
  std::string content;
  if (Result r = FindContent(device_.get(), path_, &content); !r.ok()) return r;
  if (content.empty() && !device_->geometry().is_block_device) {
    return Result::Ok();
  }
  if (content.empty()) content = "is a block device, to be written";
  return Result::Error(EINVAL, path_ + ": " + content +
                                   "; if what it holds may be lost, give "
                                   "--overwrite");
}

Result BenchTarget::Prefill(
    uint64_t bytes, uint64_t seed, Interrupt* interrupt,
    const std::function<void(uint64_t done)>& progress) {
  AlignedBuffer buffer = BufferPool::Get(kPrefillBytes);
  if (!buffer) return Result::Error(ENOMEM, "memory for the prefill");
  BenchRandom random(seed);
  for (uint64_t offset = 0; offset < bytes; offset += kPrefillBytes) {
    if (interrupt->Happened()) return Result::Error(EINTR, "prefill");
    progress(offset);
    const uint64_t length = std::min(kPrefillBytes, bytes - offset);
    random.Fill(buffer.data(), length);
    Result result = device_->Write(offset, buffer.data(), length, 0);
    if (!result.ok()) return result;
  }
  return device_->Flush();
}

}  // namespace diofs
