#include "tests/volume_rig.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "env/file_reader.h"
#include "env/open_file.h"

namespace diofs {

std::unique_ptr<SimDevice> FormattedSim(uint64_t bytes,
                                        uint32_t logical_block_bytes) {
  auto device = std::make_unique<SimDevice>(
      SimDevice::MakeGeometry(bytes, logical_block_bytes));
  FormatOptions options;
  options.write_every_block = false;
  if (!Volume::Format(device.get(), options).ok()) return nullptr;
  device->ClearEvents();
  return device;
}

std::unique_ptr<SimDevice> SimFrom(const std::string& image,
                                   uint32_t logical_block_bytes) {
  return std::make_unique<SimDevice>(
      image, SimDevice::MakeGeometry(image.size(), logical_block_bytes));
}

void PretendReboot(BlockDevice* device) {
  Superblock superblock;
  if (!LoadSuperblock(device, &superblock).ok()) return;
  superblock.boot_id.fill(0xb0);
  EXPECT_TRUE(StoreSuperblock(device, &superblock).ok());
}

std::string AfterReboot(const std::string& image,
                        uint32_t logical_block_bytes) {
  const std::unique_ptr<SimDevice> device = SimFrom(image, logical_block_bytes);
  PretendReboot(device.get());
  return device->Image();
}

std::string WithoutUnflushedJournal(const SimDevice& sim,
                                    const Superblock& superblock) {
  std::string image = sim.Image();
  const std::string durable = sim.DurableImage();
  for (const uint64_t offset : superblock.region_offset) {
    image.replace(offset, superblock.region_bytes, durable, offset,
                  superblock.region_bytes);
  }
  return image;
}

Result MountSim(std::unique_ptr<SimDevice> device, const MountOptions& options,
                std::shared_ptr<Volume>* volume, SimDevice** sim) {
  if (sim != nullptr) *sim = device.get();
  return Volume::Mount(std::move(device), NoClock(options), volume);
}

Result ReadFile(Volume* volume, const std::string& path, std::string* content) {
  std::shared_ptr<OpenFile> file;
  if (Result r = volume->Open(path, &file); !r.ok()) return r;
  const FileReader reader(file);
  content->assign(reader.size(), '\0');
  Result result = reader.Read(0, content->size(), content->data());
  if (result.ok() && result.bytes() != content->size()) {
    return Result::Error(EIO, path + ": short read");
  }
  return result;
}

Result ReadTree(Volume* volume, Tree* tree, const std::string& left_out) {
  tree->clear();
  std::vector<std::string> todo = {""};
  while (!todo.empty()) {
    const std::string directory = todo.back();
    todo.pop_back();
    std::vector<DirectoryEntry> entries;
    if (Result r = volume->List(directory + "/", &entries); !r.ok()) return r;
    for (const DirectoryEntry& entry : entries) {
      const std::string path = directory + "/" + entry.name;
      if (path == left_out) continue;
      if (entry.stat.is_directory) {
        (*tree)[path + "/"] = "";
        todo.push_back(path);
      } else if (Result r = ReadFile(volume, path, &(*tree)[path]); !r.ok()) {
        return std::move(r).With(path);
      }
    }
  }
  return Result::Ok();
}

Result OpenWriter(Volume* volume, const std::string& path,
                  std::shared_ptr<FileWriter>* writer) {
  std::shared_ptr<OpenFile> file;
  Result result = volume->Open(path, &file);
  if (result.error() == ENOENT) result = volume->CreateFile(path, &file);
  if (!result.ok()) return result;
  return FileWriter::Open(file, writer);
}

Result WriteFile(Volume* volume, const std::string& path,
                 const std::string& content, bool sync) {
  std::shared_ptr<OpenFile> file;
  if (Result r = volume->CreateFile(path, &file); !r.ok()) return r;
  std::shared_ptr<FileWriter> writer;
  if (Result r = FileWriter::Open(file, &writer); !r.ok()) return r;
  if (Result r = writer->Append(content.data(), content.size()); !r.ok()) {
    return r;
  }
  if (sync) {
    if (Result r = writer->Sync(); !r.ok()) return r;
  }
  return writer->Close();
}

std::string Pattern(uint64_t seed, size_t bytes) {
  std::string text(bytes, '\0');
  uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  for (char& c : text) {
    state = state * 6364136223846793005 + 1442695040888963407;
    c = static_cast<char>('A' + (state >> 33) % 26);
  }
  return text;
}

std::string SpaceProblem(Volume* volume) {
  VolumeUsage usage;
  if (Result r = volume->Usage(&usage); !r.ok()) return r.ToString();
  uint64_t owned = 0;
  volume->ForEachInode(
      [&](const InodePtr& inode) { owned += inode->map()->blocks(); });
  if (owned != usage.allocated_blocks) {
    return "inodes own " + std::to_string(owned) + " blocks, " +
           std::to_string(usage.allocated_blocks) + " are allocated";
  }
  return "";
}

}  // namespace diofs
