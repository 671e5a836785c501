#ifndef DIOFS_TOOLS_DIOFS_VOLUME_H_
#define DIOFS_TOOLS_DIOFS_VOLUME_H_

#include <memory>
#include <string>

#include "dio/block_device.h"
#include "dio/result.h"
#include "env/volume.h"

namespace diofs {

// How every command gets at a volume it only looks at: the device opened for
// reading, and the volume on it mounted so that nothing is written. A volume
// that somebody holds is EBUSY after --wait seconds. Notes go to standard error
// in the name of `command`.
Result OpenForReading(const std::string& path,
                      std::unique_ptr<BlockDevice>* device);
Result MountForReading(const std::string& command,
                       std::unique_ptr<BlockDevice> device,
                       std::shared_ptr<Volume>* volume);

// For the commands that do write: no other one, and no database, can have it
// open then.
Result OpenForWriting(const std::string& path,
                      std::unique_ptr<BlockDevice>* device);

// Opens for reading and mounts. On failure it has told the user, and the result
// is false.
bool OpenVolume(const std::string& command, const std::string& path,
                std::shared_ptr<Volume>* volume);

// --wait in milliseconds.
uint32_t LockWaitMillis();

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIOFS_VOLUME_H_
