#ifndef DIOFS_ENV_STAGING_FORMAT_H_
#define DIOFS_ENV_STAGING_FORMAT_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "dio/align.h"
#include "dio/result.h"
#include "env/format.h"

namespace diofs {

// What lies in a staging file; format.md, "Staging file", is its grammar. Its
// words are shared by a process and whoever comes after its death, on one
// machine and one boot: they are atomic and in the machine's byte order.

inline constexpr uint64_t kStagingMagic = 0x0054'5353'464f'4944;  // DIOFSST
inline constexpr uint32_t kStagingHeaderBytes = 4096;
inline constexpr uint32_t kStagingHeaderFieldBytes = 88;
inline constexpr uint64_t kStagingWordsOffset = 4096;
// A multiple of the page size of every machine.
inline constexpr uint64_t kStagingRingOffset = 65536;
inline constexpr uint64_t kMinStagingBytes = 1 << 20;
inline constexpr uint64_t kMaxStagingBytes = uint64_t{64} << 30;

// What a staging file belongs to: one mount of one state of one device. Written
// once, when the file is made.
struct StagingHeader {
  Uuid uuid{};
  Uuid mount_nonce{};
  Uuid boot_id{};
  // Which device or image, as DeviceIdentity has it.
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t ring_bytes = 0;

  // kStagingHeaderBytes long, checksummed.
  std::string Encode() const;
  // EUCLEAN for what is none, EPROTONOSUPPORT for one of another version.
  static Result Decode(std::string_view block, StagingHeader* header);
};

// The end of the journal that the records continue, at least.
struct StagedBase {
  uint64_t sequence = 0;  // of the next frame
  uint32_t chain = 0;     // checksum of the frame before
  // The journal is about to end there, if it does not still end at the base
  // before.
  bool tentative = false;
};

// One of two places for a base, which are written in turn: a process that dies
// while it writes one leaves the other.
struct StagedBaseSlot {
  uint64_t number = 0;  // of the base, from 1
  uint64_t sequence = 0;
  uint32_t chain = 0;
  uint32_t tentative = 0;
  uint32_t crc = 0;  // of what lies before
  uint32_t zero = 0;

  uint32_t ComputeCrc() const;
};
static_assert(sizeof(StagedBaseSlot) == 32);

// Far from each other.
enum class StagingState : uint64_t {
  kFresh = 0,                       // nothing has ever been staged
  kActive = 0x6576'6974'6361'5344,  // what lies in the ring counts
  kDone = 0xd1d1'656e'6f64'5344,    // all that was staged is on the device
};

struct StagingWords {
  std::atomic<uint64_t> state;
  // Sealed positions: bytes from the first record ever, of which the ring holds
  // those in [head, tail).
  alignas(64) std::atomic<uint64_t> tail;
  alignas(64) std::atomic<uint64_t> head;
  alignas(64) StagedBaseSlot bases[2];
};
static_assert(sizeof(StagingWords) == 256);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

// A position, a multiple of 8, in one word that can tell whether a bit of it
// has changed: bits 0 to 55 are an eighth of it, the highest byte is the
// exclusive or of the seven below. 0 is 0.
uint64_t SealPosition(uint64_t position);
bool UnsealPosition(uint64_t word, uint64_t* position);

// Values are in files.
enum class StagedType : uint8_t {
  kOperations = 1,  // number is the LSN; the body is encoded operations
  kData = 2,        // number is the inode; the body belongs at `offset`
};

struct StagedRecord {
  static constexpr uint32_t kHeaderBytes = 32;
  static constexpr uint32_t kAlignBytes = 8;

  StagedType type = StagedType::kOperations;
  uint64_t number = 0;
  uint64_t offset = 0;
  std::string_view body;

  // Of a record with so many bytes of body.
  static constexpr uint64_t Bytes(uint64_t body_bytes) {
    return AlignUp(kHeaderBytes + body_bytes, kAlignBytes);
  }
  uint64_t bytes() const { return Bytes(body.size()); }
  // Writes bytes() bytes at `to`. The checksum covers `position`.
  void EncodeTo(char* to, uint64_t position) const;
  // Takes the record at `position` off the front of *bytes; `body` lies in
  // there. EUCLEAN for what no encoder wrote.
  static Result DecodeFrom(std::string_view* bytes, uint64_t position,
                           StagedRecord* record);
};

}  // namespace diofs

#endif  // DIOFS_ENV_STAGING_FORMAT_H_
