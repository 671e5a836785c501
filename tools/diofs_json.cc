#include "tools/diofs_json.h"

#include "env/format.h"
#include "tools/diofs_util.h"

namespace diofs {

Json SuperblockJson(const Superblock& superblock) {
  return {
      {"format_version", kFormatVersion},
      {"uuid", UuidToString(superblock.uuid)},
      {"label", superblock.label},
      {"epoch", superblock.epoch},
      {"device_bytes", superblock.device_bytes},
      {"state", StateName(superblock)},
      {"prealloc", PreallocName(superblock)},
      {"features",
       {{"compat", superblock.feature_compat},
        {"ro_compat", superblock.feature_ro_compat},
        {"incompat", superblock.feature_incompat}}},
      {"journal_regions",
       {{{"offset_bytes", superblock.region_offset[0]},
         {"size_bytes", superblock.region_bytes}},
        {{"offset_bytes", superblock.region_offset[1]},
         {"size_bytes", superblock.region_bytes}}}},
      {"created_us", superblock.created_us},
      {"mount",
       {{"mounted_us", superblock.mounted_us},
        {"owner_pid", superblock.owner_pid},
        {"flush_mode", FlushModeName(superblock.flush_mode)},
        {"nonce", UuidToString(superblock.mount_nonce)},
        {"boot_id", UuidToString(superblock.boot_id)}}},
      {"clean_sequence", superblock.clean_sequence},
      {"clean_region_nonce", Hex(superblock.clean_region_nonce)},
  };
}

Json GeometryJson(const Geometry& geometry) {
  return {
      {"device_bytes", geometry.device_bytes},
      {"is_block_device", geometry.is_block_device},
      {"logical_block_bytes", geometry.logical_block_bytes},
      {"physical_block_bytes", geometry.physical_block_bytes},
      {"memory_align_bytes", geometry.memory_align_bytes},
      {"offset_align_bytes", geometry.offset_align_bytes},
      {"max_bio_bytes", geometry.max_bio_bytes},
      {"max_bio_segments", geometry.max_bio_segments},
      {"write_cache", geometry.write_cache},
      {"fua", geometry.fua},
      {"discard", geometry.discard},
      {"nowait", geometry.nowait},
      {"rotational", geometry.rotational},
  };
}

Json RecoveryJson(const Journal::RecoveryReport& recovery) {
  return {
      {"region", recovery.region},
      {"snapshot_frames", recovery.snapshot_frames},
      {"delta_frames", recovery.delta_frames},
      {"operations", recovery.operations},
      {"region_used_bytes", recovery.region_used_bytes},
      {"corruption", recovery.corruption},
  };
}

Json UsageJson(const VolumeUsage& usage) {
  return {
      {"total_bytes", usage.total_blocks * kBlockBytes},
      {"used_bytes", usage.allocated_blocks * kBlockBytes},
      {"metadata_bytes", usage.metadata_blocks * kBlockBytes},
      {"pending_bytes", usage.pending_blocks * kBlockBytes},
      {"free_bytes", usage.free_blocks * kBlockBytes},
      {"reserved_bytes", usage.reserved_blocks * kBlockBytes},
      {"largest_free_run_bytes", usage.largest_free_run * kBlockBytes},
      {"free_runs", usage.free_runs},
      {"inodes", usage.inodes},
  };
}

Json ExtentsJson(const std::vector<Extent>& extents) {
  Json json = Json::array();
  for (const Extent& extent : extents) {
    json.push_back({{"start_block", extent.start}, {"blocks", extent.count}});
  }
  return json;
}

const char* FlushModeName(FlushMode mode) {
  return mode == FlushMode::kMemory ? "memory" : "device";
}

const char* StateName(const Superblock& superblock) {
  return superblock.dirty() ? "dirty" : "clean";
}

const char* PreallocName(const Superblock& superblock) {
  return (superblock.flags & Superblock::kFullyWritten) != 0 ? "full" : "none";
}

const char* TypeName(bool is_directory, FileKind kind) {
  return is_directory ? "dir" : FileKindName(kind);
}

}  // namespace diofs
