#include "dio/background_thread.h"

#include <pthread.h>
#include <signal.h>

#include <exception>
#include <utility>

namespace diofs {

std::thread StartBackgroundThread(const char* name,
                                  std::function<void()> body) {
  // Inherited by the thread, so that there is no moment without.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread(std::move(body));
    pthread_setname_np(thread.native_handle(), name);
  } catch (const std::exception&) {
    // The caller does without.
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace diofs
