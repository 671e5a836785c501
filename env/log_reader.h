#ifndef DIOFS_ENV_LOG_READER_H_
#define DIOFS_ENV_LOG_READER_H_

#include <cstddef>
#include <cstdint>

#include "dio/result.h"
#include "env/open_file.h"

namespace diofs {

// Reads what is on the device of a log, checking every frame that it touches.
// Bytes read; short only at the end, 0 behind it. EUCLEAN where a byte of the
// range, or what the log had behind its end, is lost: an end that is none must
// not look like one. Any thread.
Result ReadLog(const OpenFile& file, uint64_t offset, size_t length,
               char* memory, uint16_t ioprio);

}  // namespace diofs

#endif  // DIOFS_ENV_LOG_READER_H_
