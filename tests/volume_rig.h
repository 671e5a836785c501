#ifndef DIOFS_TESTS_VOLUME_RIG_H_
#define DIOFS_TESTS_VOLUME_RIG_H_

#include <map>
#include <memory>
#include <string>

#include "dio/result.h"
#include "env/file_writer.h"
#include "env/volume.h"
#include "tests/sim_device.h"

namespace diofs {

// What a volume holds, as a test sees it: path -> content of each file, path
// (with a trailing '/') -> "" of each directory but the root.
using Tree = std::map<std::string, std::string>;

// A formatted SimDevice of `bytes` with logical blocks of the given size.
std::unique_ptr<SimDevice> FormattedSim(uint64_t bytes,
                                        uint32_t logical_block_bytes = 512);
// A device that starts with `image`.
std::unique_ptr<SimDevice> SimFrom(const std::string& image,
                                   uint32_t logical_block_bytes = 512);
// Makes the volume one that another boot has mounted last; what is no volume is
// left alone.
void PretendReboot(BlockDevice* device);
// The same image as another boot would find it.
std::string AfterReboot(const std::string& image,
                        uint32_t logical_block_bytes = 512);

// All that has been written, but for what has not been flushed of the journal:
// what an unlucky power cut leaves.
std::string WithoutUnflushedJournal(const SimDevice& sim,
                                    const Superblock& superblock);

// Commits come when they are asked for alone: no clock may have a say in what a
// test counts.
inline MountOptions NoClock(MountOptions options = MountOptions()) {
  options.commit_interval_ms = 0;
  return options;
}

// Mounts `device`, with NoClock; *sim (if given) stays valid as long as the
// volume.
Result MountSim(std::unique_ptr<SimDevice> device, const MountOptions& options,
                std::shared_ptr<Volume>* volume, SimDevice** sim = nullptr);

// Everything that can be read, but `left_out`. An error where something cannot.
Result ReadTree(Volume* volume, Tree* tree, const std::string& left_out = "");
Result ReadFile(Volume* volume, const std::string& path, std::string* content);
// Creates or replaces `path`.
Result WriteFile(Volume* volume, const std::string& path,
                 const std::string& content, bool sync);
// A writer at the end of an existing or new file.
Result OpenWriter(Volume* volume, const std::string& path,
                  std::shared_ptr<FileWriter>* writer);

// Bytes that differ from their neighbours', from poison and from zero.
std::string Pattern(uint64_t seed, size_t bytes);

// metadata + allocated + pending + free = total, and the extents of all inodes
// are what is allocated. Empty when it holds.
std::string SpaceProblem(Volume* volume);

}  // namespace diofs

#endif  // DIOFS_TESTS_VOLUME_RIG_H_
