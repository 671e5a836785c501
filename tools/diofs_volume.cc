#include "tools/diofs_volume.h"

#include <algorithm>
#include <utility>

#include "dio/open_device.h"
#include "tools/diofs_command.h"
#include "tools/diofs_util.h"

namespace diofs {

uint32_t LockWaitMillis() {
  return std::min<uint32_t>(FLAGS_wait, UINT32_MAX / 1000) * 1000;
}

namespace {

Result Open(const std::string& path, bool read_only,
            std::unique_ptr<BlockDevice>* device) {
  OpenDeviceOptions options;
  options.read_only = read_only;
  options.lock_wait_ms = LockWaitMillis();
  return OpenBlockDevice(path, options, device);
}

}  // namespace

Result OpenForReading(const std::string& path,
                      std::unique_ptr<BlockDevice>* device) {
  return Open(path, /*read_only=*/true, device);
}

Result OpenForWriting(const std::string& path,
                      std::unique_ptr<BlockDevice>* device) {
  return Open(path, /*read_only=*/false, device);
}

Result MountForReading(const std::string& command,
                       std::unique_ptr<BlockDevice> device,
                       std::shared_ptr<Volume>* volume) {
  MountOptions options;
  options.read_only = true;
  options.log = [command](const std::string& line) {
    Complain(command, Printable(line));
  };
  return Volume::Mount(std::move(device), options, volume);
}

bool OpenVolume(const std::string& command, const std::string& path,
                std::shared_ptr<Volume>* volume) {
  std::unique_ptr<BlockDevice> device;
  Result result = OpenForReading(path, &device);
  if (result.ok()) {
    result = MountForReading(command, std::move(device), volume);
  }
  if (!result.ok()) Complain(command, Explain(path, result));
  return result.ok();
}

}  // namespace diofs
