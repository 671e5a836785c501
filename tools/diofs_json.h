#ifndef DIOFS_TOOLS_DIOFS_JSON_H_
#define DIOFS_TOOLS_DIOFS_JSON_H_

#include <nlohmann/json.hpp>
#include <string>

#include "dio/geometry.h"
#include "env/journal.h"
#include "env/superblock.h"
#include "env/volume.h"

namespace diofs {

// The volume's structures as the commands print them with --json. Sizes are
// bytes and end in _bytes, times are microseconds since the epoch and end in
// _us; random 64-bit numbers are text, for JSON readers round them.

using Json = nlohmann::ordered_json;

Json SuperblockJson(const Superblock& superblock);
Json GeometryJson(const Geometry& geometry);
Json RecoveryJson(const Journal::RecoveryReport& recovery);
Json UsageJson(const VolumeUsage& usage);
Json ExtentsJson(const std::vector<Extent>& extents);

// "device" or "memory".
const char* FlushModeName(FlushMode mode);
// "clean" or "dirty".
const char* StateName(const Superblock& superblock);
// "full" where mkfs wrote every block, else "none".
const char* PreallocName(const Superblock& superblock);
// What ls -l shows in its first column: "dir" or the kind of file.
const char* TypeName(bool is_directory, FileKind kind);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIOFS_JSON_H_
