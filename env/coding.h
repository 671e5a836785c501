#ifndef DIOFS_ENV_CODING_H_
#define DIOFS_ENV_CODING_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "env/format.h"

namespace diofs {

// Little-endian integers, as everything on disk is written.

inline void PutFixed8(std::string* out, uint8_t value) {
  out->push_back(static_cast<char>(value));
}

template <typename T>
inline void PutFixed(std::string* out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    out->push_back(static_cast<char>((value >> (8 * i)) & 0xff));
  }
}

inline void PutFixed16(std::string* out, uint16_t v) { PutFixed(out, v); }
inline void PutFixed32(std::string* out, uint32_t v) { PutFixed(out, v); }
inline void PutFixed64(std::string* out, uint64_t v) { PutFixed(out, v); }

inline void PutUuid(std::string* out, const Uuid& uuid) {
  out->append(uuid.begin(), uuid.end());
}

template <typename T>
inline T DecodeFixed(const char* from) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<T>(static_cast<uint8_t>(from[i]))
                            << (8 * i));
  }
  return value;
}

template <typename T>
inline void EncodeFixed(char* to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    to[i] = static_cast<char>((value >> (8 * i)) & 0xff);
  }
}

// Reads what cannot be trusted: a read past the end gives zeros and makes ok()
// false for good, so a decoder checks once, at its end.
class BoundedReader {
 public:
  explicit BoundedReader(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  T Fixed() {
    if (bytes_.size() < sizeof(T)) {
      Fail();
      return 0;
    }
    const T value = DecodeFixed<T>(bytes_.data());
    bytes_.remove_prefix(sizeof(T));
    return value;
  }
  uint8_t Fixed8() { return Fixed<uint8_t>(); }
  uint16_t Fixed16() { return Fixed<uint16_t>(); }
  uint32_t Fixed32() { return Fixed<uint32_t>(); }
  uint64_t Fixed64() { return Fixed<uint64_t>(); }

  std::string_view Bytes(size_t count) {
    if (bytes_.size() < count) {
      Fail();
      return std::string_view();
    }
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  void ReadUuid(Uuid* uuid) {
    const std::string_view taken = Bytes(uuid->size());
    std::copy(taken.begin(), taken.end(), uuid->begin());
  }

  size_t remaining() const { return bytes_.size(); }
  bool ok() const { return ok_; }
  // All was there and nothing is left over.
  bool AtEnd() const { return ok_ && bytes_.empty(); }

 private:
  void Fail() {
    ok_ = false;
    bytes_ = std::string_view();
  }

  std::string_view bytes_;
  bool ok_ = true;
};

}  // namespace diofs

#endif  // DIOFS_ENV_CODING_H_
