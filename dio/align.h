#ifndef DIOFS_DIO_ALIGN_H_
#define DIOFS_DIO_ALIGN_H_

#include <cstdint>

namespace diofs {

// Arithmetic on byte offsets. `alignment` is a power of two throughout.

constexpr bool IsPowerOfTwo(uint64_t value) {
  return value != 0 && (value & (value - 1)) == 0;
}

constexpr uint64_t AlignDown(uint64_t value, uint64_t alignment) {
  return value & ~(alignment - 1);
}

// The caller has bounded `value`; see CheckedAdd for what comes from outside.
constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

constexpr bool IsAligned(uint64_t value, uint64_t alignment) {
  return (value & (alignment - 1)) == 0;
}

inline bool IsAligned(const void* pointer, uint64_t alignment) {
  return IsAligned(reinterpret_cast<uintptr_t>(pointer), alignment);
}

// False where a + b does not fit; *sum is then untouched.
constexpr bool CheckedAdd(uint64_t a, uint64_t b, uint64_t* sum) {
  if (b > UINT64_MAX - a) return false;
  *sum = a + b;
  return true;
}

constexpr uint64_t DivideRoundUp(uint64_t value, uint64_t divisor) {
  return value / divisor + (value % divisor == 0 ? 0 : 1);
}

}  // namespace diofs

#endif  // DIOFS_DIO_ALIGN_H_
