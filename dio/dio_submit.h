#ifndef DIOFS_DIO_DIO_SUBMIT_H_
#define DIOFS_DIO_DIO_SUBMIT_H_

#include <cstdint>

#include "dio/dio.h"
#include "dio/geometry.h"
#include "dio/iov_cursor.h"

namespace diofs {

// The submission half of a Dio: walks the request block run by block run, asks
// the mapper, coalesces neighbouring sections into bios and zeroes what a
// partial write of a new, unwritten or last block would leave undefined. A
// stack object of the submitting thread.
//
//   file blocks   |....aaaa|aaaaaaaa|aa......|     a: the request
//   new block     |zzzzaaaa|        |            head zeroed, once
//   last block                      |aazzzzzz|   tail zeroed, at or past EOF
class DioSubmit {
 public:
  DioSubmit(Dio* dio, const DioRequest& request, Plug* plug);

  // Queues the whole request. What went wrong is left in the Dio.
  void Walk();

 private:
  void WalkRequest();
  bool CheckRequest();
  // The parts of the walk: false where it ends early.
  bool WalkMapping();
  bool MapMore();
  bool AskMapper();
  bool CheckMapping(uint64_t count);
  bool CheckWritable();
  bool AddSection(uint64_t position, char* memory, uint64_t length);
  bool AddZeros(uint64_t position, uint64_t length);
  bool ZeroHead();
  void ZeroTail();
  // The file block that holds the last byte; none for an empty file.
  bool InsideFile(uint64_t block) const;
  // Where file byte `position` of the current mapping lies on the device.
  uint64_t DeviceOffset(uint64_t position) const;
  void NewBio(uint64_t position);
  void SendBio();
  // Notes the walk's error; false, for a return statement.
  bool Fail(int error);
  // A bio of this request has failed already.
  bool BioFailed() const;

  Dio* const dio_;
  const DioRequest& request_;
  const Geometry& geometry_;
  Plug* const plug_;
  const bool write_;
  IovCursor cursor_;
  // File position in bytes and where the request ends (reads: cut at the block
  // that holds the end of the file).
  uint64_t position_ = 0;
  uint64_t end_ = 0;
  // The current mapping and the file bytes it covers.
  BlockMapping mapping_;
  uint64_t mapping_start_ = 0;
  uint64_t mapping_end_ = 0;
  // The bio being filled; null when the last one was sent.
  Bio* bio_ = nullptr;
};

}  // namespace diofs

#endif  // DIOFS_DIO_DIO_SUBMIT_H_
