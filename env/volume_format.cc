#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "dio/align.h"
#include "dio/buffer_pool.h"
#include "env/volume.h"

namespace diofs {
namespace {

constexpr size_t kFillBytes = 1 << 20;
// Of the device, for each of the two regions of the journal.
constexpr uint64_t kRegionShare = 128;

Result WriteZeros(BlockDevice* device, uint64_t offset, uint64_t bytes,
                  const FormatOptions& options) {
  AlignedBuffer zeros = BufferPool::Get(kFillBytes);
  if (!zeros) return Result::Error(ENOMEM, "1 MiB buffer");
  std::memset(zeros.data(), 0, kFillBytes);
  for (uint64_t done = 0; done < bytes;) {
    const size_t chunk = std::min<uint64_t>(kFillBytes, bytes - done);
    if (Result r =
            device->Write(offset + done, zeros.data(), chunk, kIoClassFormat);
        !r.ok()) {
      return r;
    }
    done += chunk;
    if (options.progress) options.progress(done, bytes);
  }
  return Result::Ok();
}

Result MakeSuperblock(const BlockDevice& device, const FormatOptions& options,
                      Superblock* superblock) {
  superblock->device_bytes = AlignDown(device.size_bytes(), kBlockBytes);
  if (superblock->device_bytes < kMinVolumeBytes) {
    return Result::Error(
        EINVAL, "too small: " + std::to_string(device.size_bytes()) +
                    " bytes, at least " + std::to_string(kMinVolumeBytes) +
                    " are needed");
  }
  if (device.geometry().logical_block_bytes > kMaxLogicalBlockBytes) {
    return Result::Error(EINVAL, "logical blocks above 4096 bytes");
  }
  superblock->region_bytes =
      AlignDown(std::clamp(superblock->device_bytes / kRegionShare,
                           kMinRegionBytes, kMaxRegionBytes),
                kBlockBytes);
  superblock->region_offset[0] = kJournalOffset;
  superblock->region_offset[1] = kJournalOffset + superblock->region_bytes;
  superblock->label = options.label;
  superblock->created_us = NowMicros();
  if (options.write_every_block) superblock->flags |= Superblock::kFullyWritten;
  if (Result r = CurrentBootId(&superblock->boot_id); !r.ok()) return r;
  return RandomUuid(&superblock->uuid);
}

}  // namespace

Result Volume::Format(BlockDevice* device, const FormatOptions& options) {
  Superblock superblock;
  if (Result r = MakeSuperblock(*device, options, &superblock); !r.ok()) {
    return r;
  }
  // From here on until the end there is no valid superblock: a format that is
  // cut short leaves nothing that could be mounted.
  FormatOptions silent;
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    if (Result r =
            WriteZeros(device, SuperblockOffset(superblock.device_bytes, i),
                       kSuperblockBytes, silent);
        !r.ok()) {
      return std::move(r).With("clear superblock");
    }
  }
  if (Result r = device->Flush(); !r.ok()) return r;
  if (options.write_every_block) {
    if (Result r = WriteZeros(device, 0, superblock.device_bytes, options);
        !r.ok()) {
      return std::move(r).With("write every block");
    }
  }
  Journal journal(device, JournalLayoutOf(superblock));
  std::vector<std::string> snapshot;
  EncodeSnapshotOf(Namespace(), &snapshot);
  if (Result r = journal.Format(snapshot); !r.ok()) return r;
  superblock.clean_sequence = journal.next_sequence();
  superblock.clean_region_nonce = journal.region_nonce();
  return StoreSuperblock(device, &superblock);
}

}  // namespace diofs
