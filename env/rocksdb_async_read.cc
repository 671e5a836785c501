#include "env/rocksdb_async_read.h"

#include <utility>

#include "dio/out_of_memory.h"
#include "env/rocksdb_status.h"

namespace diofs {

using rocksdb::FSReadRequest;
using rocksdb::IOStatus;
using rocksdb::Slice;

AsyncRead::AsyncRead(const FileReader& reader, const std::string& path,
                     const FSReadRequest& request, Callback callback,
                     void* argument)
    : reader_(reader),
      path_(path),
      callback_(std::move(callback)),
      argument_(argument) {
  request_.offset = request.offset;
  request_.len = request.len;
  request_.scratch = request.scratch;
  range_.offset = request.offset;
  range_.length = request.len;
  range_.memory = request.scratch;
}

Result AsyncRead::Start(uint16_t ioprio) {
  return reader_.Start(&range_, 1, &batch_, ioprio);
}

void AsyncRead::Complete() {
  if (called_back_) return;
  request_.status = Guarded(path_, [&] {
    batch_.Wait();
    return range_.result;
  });
  if (request_.status.ok()) {
    request_.result = Slice(request_.scratch, range_.result.bytes());
  }
  CallBack();
}

void AsyncRead::Abort() {
  if (called_back_) return;
  (void)CatchBadAlloc([&] {
    batch_.Wait();
    return Result::Ok();
  });
  request_.status = IOStatus::Aborted();
  CallBack();
}

void AsyncRead::CallBack() {
  called_back_ = true;
  callback_(request_, argument_);
}

void AsyncRead::Delete(void* handle) { delete static_cast<AsyncRead*>(handle); }

}  // namespace diofs
