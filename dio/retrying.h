#ifndef DIOFS_DIO_RETRYING_H_
#define DIOFS_DIO_RETRYING_H_

#include <cerrno>

namespace diofs {

// What `call`, a system call that answers -1 and an errno when it fails,
// answers once no signal interrupts it.
template <typename Call>
int Retrying(const Call& call) {
  int result = 0;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result;
}

}  // namespace diofs

#endif  // DIOFS_DIO_RETRYING_H_
