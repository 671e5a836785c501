#include "tests/engine_device.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "dio/sync_device.h"
#include "dio/threads_device.h"
#include "dio/uring_device.h"
#include "tests/test_seed.h"

namespace diofs {

std::string EngineName(const EngineParam& param) {
  constexpr const char* kNames[] = {"sim", "sim_delayed", "sync", "threads",
                                    "uring"};
  return std::string(kNames[static_cast<size_t>(param.kind)]) + "_" +
         std::to_string(param.logical_block_bytes);
}

std::vector<EngineParam> AllEngines() {
  std::vector<EngineParam> params;
  for (const EngineKind kind :
       {EngineKind::kSim, EngineKind::kSimDelayed, EngineKind::kSync,
        EngineKind::kThreads, EngineKind::kUring}) {
    for (const uint32_t bytes : {512, 4096}) params.push_back({kind, bytes});
  }
  return params;
}

std::vector<EngineParam> RealEngines() {
  std::vector<EngineParam> params = AllEngines();
  params.erase(std::remove_if(params.begin(), params.end(),
                              [](const EngineParam& param) {
                                return param.kind == EngineKind::kSim ||
                                       param.kind == EngineKind::kSimDelayed;
                              }),
               params.end());
  return params;
}

EngineDevice::EngineDevice(const EngineParam& param, uint64_t device_bytes,
                           void (*tweak)(Geometry*), size_t max_bios) {
  Geometry geometry =
      SimDevice::MakeGeometry(device_bytes, param.logical_block_bytes);
  if (tweak != nullptr) tweak(&geometry);
  std::unique_ptr<BlockDevice> device;
  if (param.kind == EngineKind::kSim || param.kind == EngineKind::kSimDelayed) {
    auto sim = std::make_unique<SimDevice>(geometry);
    sim_ = sim.get();
    if (param.kind == EngineKind::kSimDelayed) {
      SimBehavior behavior;
      behavior.delayed = behavior.reordered = true;
      behavior.short_chance = 50;
      behavior.transient_chance = 50;
      behavior.seed = TestSeed();
      sim->Behave(behavior);
    }
    device = std::move(sim);
  } else {
    device = MakeFileDevice(param.kind, geometry);
  }
  if (device == nullptr) return;
  device_ = std::make_unique<TracingDevice>(std::move(device), max_bios);
}

std::unique_ptr<BlockDevice> EngineDevice::MakeFileDevice(
    EngineKind kind, const Geometry& geometry) {
  path_ = dir_.File("image");
  std::ofstream(path_, std::ios::binary) << SimDevice(geometry).Image();
  ScopedFd fd(open(path_.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  EXPECT_GE(fd.get(), 0);
  if (kind == EngineKind::kSync) {
    return std::make_unique<SyncDevice>(path_, geometry, std::move(fd));
  }
  if (kind == EngineKind::kThreads) {
    return std::make_unique<ThreadsDevice>(path_, geometry, std::move(fd));
  }
  std::unique_ptr<BlockDevice> device;
  std::string note;
  if (UringDevice::Create(path_, geometry, &fd, &device, &note).ok()) {
    return device;
  }
  return nullptr;
}

std::string EngineDevice::Image() {
  if (sim_ != nullptr) return sim_->Image();
  std::string image(device_->geometry().device_bytes, '\0');
  std::ifstream file(path_, std::ios::binary);
  EXPECT_TRUE(
      file.read(image.data(), static_cast<std::streamsize>(image.size()))
          .good());
  return image;
}

}  // namespace diofs
