#ifndef DIOFS_TESTS_LOG_WRITER_FIXTURE_H_
#define DIOFS_TESTS_LOG_WRITER_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "env/file_writer.h"
#include "env/fsck.h"
#include "env/open_file.h"
#include "env/volume.h"
#include "tests/assert_ok.h"
#include "tests/sim_device.h"
#include "tests/volume_rig.h"

namespace diofs {

inline constexpr uint64_t kVolumeBytes = 16 << 20;
inline constexpr const char* kPath = "/000001.log";

inline std::vector<std::string> FsckProblems(const std::string& image) {
  FsckReport report;
  const Result result = Fsck(SimFrom(image), &report);
  if (!result.ok()) report.problems.push_back(result.ToString());
  return report.problems;
}

class LogWriterTest : public testing::Test {
 protected:
  void SetUp() override { Mount(FormattedSim(kVolumeBytes)); }

  void Mount(std::unique_ptr<SimDevice> device,
             const MountOptions& options = MountOptions()) {
    writer_ = nullptr;
    file_ = nullptr;
    volume_ = nullptr;
    ASSERT_OK(MountSim(std::move(device), options, &volume_, &sim_));
  }
  void MountWithFua() {
    std::string image = FormattedSim(kVolumeBytes)->Image();
    Geometry geometry = SimDevice::MakeGeometry(kVolumeBytes);
    geometry.fua = true;
    MountOptions options;
    options.flush_mode = FlushMode::kMemory;
    Mount(std::make_unique<SimDevice>(std::move(image), geometry), options);
  }
  void Create() {
    writer_ = nullptr;
    ASSERT_OK(volume_->CreateFile(kPath, &file_));
    ASSERT_OK(FileWriter::Open(file_, &writer_));
  }
  void Reopen() {
    writer_ = nullptr;
    file_ = nullptr;
    ASSERT_OK(volume_->Open(kPath, &file_));
    ASSERT_OK(FileWriter::Open(file_, &writer_));
  }
  Result Append(const std::string& text) {
    return writer_->Append(text.data(), text.size());
  }
  std::string Read(Volume* volume) {
    std::string content;
    const Result r = ReadFile(volume, kPath, &content);
    return r.ok() ? content : r.ToString();
  }
  std::string Read() { return Read(volume_.get()); }
  // As another boot finds it that has only what was flushed, or the same boot.
  std::string ReadAfterPowerCut() {
    return ReadFrom(AfterReboot(sim_->DurableImage()));
  }
  std::string ReadAfterKill() { return ReadFrom(sim_->Image()); }
  std::string ReadFrom(const std::string& image) {
    EXPECT_EQ(FsckProblems(image), std::vector<std::string>());
    std::shared_ptr<Volume> volume;
    const Result mounted = MountSim(SimFrom(image), MountOptions(), &volume);
    if (!mounted.ok()) return mounted.ToString();
    EXPECT_EQ(SpaceProblem(volume.get()), "");
    return Read(volume.get());
  }
  // Device offset of the log's first block.
  uint64_t FirstBlock() const {
    return file_->inode()->map()->extents()[0].start * kBlockBytes;
  }

  SimDevice* sim_ = nullptr;
  std::shared_ptr<Volume> volume_;
  std::shared_ptr<OpenFile> file_;
  std::shared_ptr<FileWriter> writer_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_LOG_WRITER_FIXTURE_H_
