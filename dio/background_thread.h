#ifndef DIOFS_DIO_BACKGROUND_THREAD_H_
#define DIOFS_DIO_BACKGROUND_THREAD_H_

#include <functional>
#include <thread>

namespace diofs {

// Starts a thread of the library inside somebody else's process: named (at most
// 15 characters), and with all signals blocked, for the host's signals are for
// the host's threads. Not joinable where no thread is to be had.
std::thread StartBackgroundThread(const char* name, std::function<void()> body);

}  // namespace diofs

#endif  // DIOFS_DIO_BACKGROUND_THREAD_H_
