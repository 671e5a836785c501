#ifndef DIOFS_ENV_SUPERBLOCK_H_
#define DIOFS_ENV_SUPERBLOCK_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "dio/block_device.h"
#include "dio/result.h"
#include "env/format.h"

namespace diofs {

// Values are on disk.
enum class FlushMode : uint32_t {
  kDevice = 1,  // Flush writes to the device: survives the process
  kMemory = 2,  // Flush keeps data in memory: survives nothing
};

// What identifies a volume, where its journal lies and who mounted it. Written
// by mkfs, mount and unmount, never by a sync. A plain value.
struct Superblock {
  // In `flags`.
  static constexpr uint32_t kDirty = 1;         // mounted read-write
  static constexpr uint32_t kFullyWritten = 2;  // mkfs wrote every block
  // Measured: to write and flush takes less time than to write through.
  static constexpr uint32_t kFlushIsFaster = 4;
  // In `feature_ro_compat`. Files may have checksum tables, which a writer must
  // take away before it changes what they vouch for.
  static constexpr uint64_t kChecksumTables = 1;

  Uuid uuid{};
  // Raised by every write; the highest valid copy counts.
  uint64_t epoch = 0;
  uint64_t device_bytes = 0;
  uint32_t flags = 0;
  uint64_t feature_compat = 0;
  uint64_t feature_ro_compat = 0;
  uint64_t feature_incompat = 0;
  std::array<uint64_t, 2> region_offset{};
  uint64_t region_bytes = 0;
  uint64_t created_us = 0;  // microseconds since the epoch
  std::string label;        // at most 63 bytes

  // Of the last read-write mount.
  Uuid mount_nonce{};
  Uuid boot_id{};
  FlushMode flush_mode = FlushMode::kDevice;
  uint32_t owner_pid = 0;
  uint64_t mounted_us = 0;

  // Where a clean unmount left the journal: the sequence the next frame takes
  // and the nonce of its region. 0 while dirty.
  uint64_t clean_sequence = 0;
  uint64_t clean_region_nonce = 0;

  bool dirty() const { return (flags & kDirty) != 0; }

  // kSuperblockBytes long, checksummed.
  std::string Encode() const;
  // EUCLEAN for what is no superblock or is damaged; EPROTONOSUPPORT, with the
  // versions or the feature bits named, for one of another format. Every field
  // is bounded against `device_bytes`.
  static Result Decode(std::string_view block, uint64_t device_bytes,
                       Superblock* superblock);
};

// Where copy `index` lies: start, 1 MiB, middle, end of the device.
uint64_t SuperblockOffset(uint64_t device_bytes, uint32_t index);

// What was found in each place, for fsck and info.
struct SuperblockScan {
  std::array<Result, kSuperblockCopies> copies;
  std::array<uint64_t, kSuperblockCopies> epochs{};
  // Valid and of the epoch that counts, and says something else all the same:
  // copies of one epoch are written from one buffer.
  std::array<bool, kSuperblockCopies> differs{};
  // Some place carries our magic, intact or not: this was a DioFS volume.
  bool magic_seen = false;
};

// Reads all copies and takes the valid one with the highest epoch. EUCLEAN
// "damaged superblock" where the magic is there but no copy is valid, ENODATA
// "not formatted" where there is none, EPROTONOSUPPORT for another version.
Result LoadSuperblock(BlockDevice* device, Superblock* superblock,
                      SuperblockScan* scan = nullptr);

// Raises the epoch and writes all copies, durable on return; copies 0 and 2 are
// durable before 1 and 3 are touched.
Result StoreSuperblock(BlockDevice* device, Superblock* superblock);

// EROFS, naming the bits, where a feature forbids writing to those who do not
// know it.
Result CheckMayWrite(const Superblock& superblock);

// Random bytes from the kernel.
Result RandomUuid(Uuid* uuid);
Result RandomNonce(uint64_t* nonce);
// This boot of the kernel: /proc/sys/kernel/random/boot_id.
Result CurrentBootId(Uuid* boot_id);
std::string UuidToString(const Uuid& uuid);

}  // namespace diofs

#endif  // DIOFS_ENV_SUPERBLOCK_H_
