#ifndef DIOFS_ENV_FORMAT_H_
#define DIOFS_ENV_FORMAT_H_

#include <array>
#include <cstdint>

// The constants of the on-disk format; format.md is its grammar.

namespace diofs {

// Raised by every change of the format until 1.0; other versions are refused.
inline constexpr uint32_t kFormatVersion = 2;

// The unit of allocation and of every write, on any device.
inline constexpr uint32_t kBlockBytes = 4096;
// The largest logical block a volume can live on.
inline constexpr uint32_t kMaxLogicalBlockBytes = 4096;

inline constexpr uint64_t kSuperblockMagic = 0x0042'5353'464f'4944;  // DIOFSSB
inline constexpr uint64_t kRegionMagic = 0x0052'4a53'464f'4944;      // DIOFSJR
inline constexpr uint32_t kFrameMagic = 0x5246'4a44;                 // DJFR

inline constexpr uint32_t kSuperblockBytes = 4096;
// What lies behind the last field is zero.
inline constexpr uint32_t kSuperblockFieldBytes = 240;
inline constexpr uint32_t kLabelBytes = 64;  // the zero at its end included
inline constexpr uint32_t kSuperblockCopies = 4;
inline constexpr uint64_t kSecondSuperblockOffset = 1 << 20;

inline constexpr uint32_t kRegionHeaderBytes = 4096;
inline constexpr uint32_t kRegionHeaderFieldBytes = 72;
inline constexpr uint32_t kFrameHeaderBytes = 64;
// Where the checksum lies in a superblock and in a region header.
inline constexpr uint32_t kBlockCrcOffset = 12;
inline constexpr uint32_t kFrameCrcOffset = 60;
// Before the body of an operation: type, zeros, length of the body.
inline constexpr uint32_t kOpHeaderBytes = 8;
// Payload of one snapshot frame at most; a delta frame is bounded by what is
// left of the region.
inline constexpr uint32_t kMaxSnapshotPayload = 256 * 1024;
inline constexpr uint64_t kMinRegionBytes = 1 << 20;
inline constexpr uint64_t kMaxRegionBytes = 64 << 20;
inline constexpr uint64_t kJournalOffset = 2 << 20;

inline constexpr uint64_t kMinVolumeBytes = 16 << 20;

inline constexpr uint32_t kLogFrameMagic = 0x5246'4c44;  // DLFR
inline constexpr uint32_t kLogFrameHeaderBytes = 40;
// Frames of a log begin at multiples of it.
inline constexpr uint32_t kLogFrameAlignBytes = 8;
inline constexpr uint32_t kMaxLogPayload = 1 << 20;
// Sizes of logs, and positions in their streams, stay below.
inline constexpr uint64_t kMaxLogBytes = uint64_t{1} << 62;

// Sequences and log sequence numbers stay below.
inline constexpr uint64_t kMaxSequence = uint64_t{1} << 62;

inline constexpr uint64_t kRootIno = 1;
inline constexpr uint32_t kMaxNameBytes = 255;
inline constexpr uint32_t kMaxPathDepth = 64;

using Uuid = std::array<uint8_t, 16>;

}  // namespace diofs

#endif  // DIOFS_ENV_FORMAT_H_
