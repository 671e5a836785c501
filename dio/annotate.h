#ifndef DIOFS_DIO_ANNOTATE_H_
#define DIOFS_DIO_ANNOTATE_H_

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

// What checking tools cannot see by themselves: memory that the kernel or a
// device reads and writes, and buffers that change hands inside a pool. Four
// functions for any thread; without a tool they do nothing and cost nothing.
//   memcheck        with the CMake option DIOFS_VALGRIND
//   AddressSanitizer, ThreadSanitizer   in builds that have them

#if defined(DIOFS_VALGRIND)
#include <valgrind/memcheck.h>
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DIOFS_ANNOTATE_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define DIOFS_ANNOTATE_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define DIOFS_ANNOTATE_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define DIOFS_ANNOTATE_TSAN 1
#endif

#if defined(DIOFS_ANNOTATE_ASAN)
#include <sanitizer/asan_interface.h>
#endif
#if defined(DIOFS_ANNOTATE_TSAN)
extern "C" void __tsan_read_range(void* memory, unsigned long bytes);
extern "C" void __tsan_write_range(void* memory, unsigned long bytes);
#endif

namespace diofs {

// The device is about to read this memory: every byte has to have a value.
// Called by the submitting thread, before the submission.
inline void AnnotateWriteSubmitted([[maybe_unused]] const iovec* segments,
                                   [[maybe_unused]] uint32_t count) {
#if defined(DIOFS_VALGRIND) || defined(DIOFS_ANNOTATE_TSAN)
  for (uint32_t i = 0; i < count; ++i) {
#if defined(DIOFS_VALGRIND)
    (void)VALGRIND_CHECK_MEM_IS_DEFINED(segments[i].iov_base,
                                        segments[i].iov_len);
#endif
#if defined(DIOFS_ANNOTATE_TSAN)
    __tsan_read_range(segments[i].iov_base, segments[i].iov_len);
#endif
  }
#endif
}

// The device has written this memory. Called by the reaping thread before it
// tells the owner.
inline void AnnotateReadCompleted([[maybe_unused]] const iovec* segments,
                                  [[maybe_unused]] uint32_t count) {
#if defined(DIOFS_VALGRIND) || defined(DIOFS_ANNOTATE_TSAN)
  for (uint32_t i = 0; i < count; ++i) {
#if defined(DIOFS_VALGRIND)
    (void)VALGRIND_MAKE_MEM_DEFINED(segments[i].iov_base, segments[i].iov_len);
#endif
#if defined(DIOFS_ANNOTATE_TSAN)
    __tsan_write_range(segments[i].iov_base, segments[i].iov_len);
#endif
  }
#endif
}

// A pool hands out `memory`: accessible, and without a value. A pool calls it
// also before it gives memory back to the system.
inline void AnnotateBufferTaken([[maybe_unused]] const void* memory,
                                [[maybe_unused]] size_t bytes) {
#if defined(DIOFS_ANNOTATE_ASAN)
  ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
#endif
#if defined(DIOFS_VALGRIND)
  (void)VALGRIND_MAKE_MEM_UNDEFINED(memory, bytes);
#endif
}

// The first bytes of a returned buffer, which stay the pool's to write: its
// link to the next free one.
constexpr size_t kAnnotatedLinkBytes = 8;

// A pool has `memory` back: whoever touches it beyond the link, until it is
// taken again, is reported. `bytes` is more than the link has.
inline void AnnotateBufferReturned([[maybe_unused]] const void* memory,
                                   [[maybe_unused]] size_t bytes) {
#if defined(DIOFS_ANNOTATE_ASAN) || defined(DIOFS_VALGRIND)
  const char* const rest =
      static_cast<const char*>(memory) + kAnnotatedLinkBytes;
  const size_t rest_bytes = bytes - kAnnotatedLinkBytes;
#if defined(DIOFS_ANNOTATE_ASAN)
  ASAN_POISON_MEMORY_REGION(rest, rest_bytes);
#endif
#if defined(DIOFS_VALGRIND)
  (void)VALGRIND_MAKE_MEM_NOACCESS(rest, rest_bytes);
#endif
#endif
}

}  // namespace diofs

#endif  // DIOFS_DIO_ANNOTATE_H_
