#ifndef DIOFS_TESTS_DENY_SYSCALL_H_
#define DIOFS_TESTS_DENY_SYSCALL_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>
#include <iterator>

namespace diofs {

// From now on system call `number` fails with `error` in this process, as under
// a container's seccomp profile, where the lower half of its argument
// `argument` (from 0) is not 0; with -1 always. Cannot be undone: for child
// processes. False where there is no seccomp.
inline bool DenySyscallWith(int number, int error, int argument) {
  const auto load = [](size_t offset) {
    return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                static_cast<uint32_t>(offset));
  };
  const auto is = [](uint32_t value, uint8_t yes, uint8_t no) {
    return sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no);
  };
  const auto end = [](uint32_t action) {
    return sock_filter BPF_STMT(BPF_RET | BPF_K, action);
  };
  const uint32_t fail = SECCOMP_RET_ERRNO | static_cast<uint32_t>(error);
  sock_filter filter[] = {
      load(offsetof(seccomp_data, nr)),
      is(static_cast<uint32_t>(number), 0, 3),
      load(offsetof(seccomp_data, args) +
           sizeof(uint64_t) * static_cast<size_t>(argument < 0 ? 0 : argument)),
      is(0, argument < 0 ? 0 : 1, 0),
      end(fail),
      end(SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {static_cast<unsigned short>(std::size(filter)), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// As above, whatever its arguments are, or unless the second one is 0.
inline bool DenySyscall(int number, int error,
                        bool unless_second_is_zero = false) {
  return DenySyscallWith(number, error, unless_second_is_zero ? 1 : -1);
}

}  // namespace diofs

#endif  // DIOFS_TESTS_DENY_SYSCALL_H_
