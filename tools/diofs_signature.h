#ifndef DIOFS_TOOLS_DIOFS_SIGNATURE_H_
#define DIOFS_TOOLS_DIOFS_SIGNATURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/result.h"

namespace diofs {

// What libblkid recognises on a device: a file system, a RAID member, a
// partition table.
struct Signature {
  std::string description;  // "a file system (ext4, label \"data\")"
  uint64_t offset = 0;      // of its magic, in bytes
};

// All signatures on the device or image at `path`, which is only read.
Result FindSignatures(const std::string& path,
                      std::vector<Signature>* signatures);

// What stands in the way of making a volume of `device`, which is open at
// `path`: "contains …"; empty where it is blank. Only what is known to matter
// is looked at: signatures, a volume of our own, and whether the first and last
// part are zero.
Result FindContent(BlockDevice* device, const std::string& path,
                   std::string* content);

// Takes away by what the present content would be recognised afterwards: both
// ends of the device, every superblock of ours, every signature. Durable on
// return.
Result WipeContent(BlockDevice* device, const std::string& path);

// What uses the device or image at `path` besides processes that hold it open:
// "is mounted on /mnt", "is the file behind /dev/loop0"; empty if nothing
// does.
std::string FindUser(const std::string& path);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIOFS_SIGNATURE_H_
