#ifndef DIOFS_TESTS_BYTE_MODEL_H_
#define DIOFS_TESTS_BYTE_MODEL_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "dio/block_mapper.h"
#include "dio/dio.h"

namespace diofs {

// One file on a device, as a loop over single bytes sees it: what requests
// answer, what the file holds then and every byte of the device. It is the
// mapper, too, and gives out blocks at random places in runs of random length.
// Owned by a differential test; used by one thread.
class ByteModel final : public BlockMapper {
 public:
  // How the mapper treats one request: it goes no further than `stop_block`.
  struct Plan {
    uint64_t stop_block = UINT64_MAX;
    int stop_error = 0;  // 0: a hole there is not filled
  };
  // What a request has to answer. Up to `stop`, a file offset, it is carried
  // out.
  struct Outcome {
    int error = 0;
    uint64_t bytes = 0;
    bool fallback = false;
    uint64_t stop = 0;
  };

  // The device holds `image`, twice as much as the file has room for.
  ByteModel(std::string image, uint64_t block_bytes,
            uint32_t logical_block_bytes, std::mt19937_64* rng);

  // ---- A request, in the order of the calls --------------------------------

  // What `request`, of `length` bytes, will answer; the mapper keeps to `plan`
  // until the next one.
  Outcome PredictWrite(const DioRequest& request, uint64_t length,
                       const Plan& plan);
  // For a read also what the `length` bytes of memory, `*memory`, will hold.
  Outcome PredictRead(const DioRequest& request, uint64_t length,
                      std::string* memory);
  // After Submit: the bytes `data` of a write are in the file and on the device
  // as soon as it has ended. Returns the reservations the mapper made.
  std::vector<uint64_t> Apply(const DioRequest& request,
                              const std::string& data, const Outcome& outcome);
  // At EndIo: of the blocks of [offset, end) those with moved bytes become
  // written, new ones without become holes.
  void End(uint64_t offset, uint64_t end, uint64_t bytes);

  // ---- Between requests -----------------------------------------------------

  // Changes what some blocks are: holes, unwritten, behind the file's end.
  void Shuffle();
  void SetFileSize(uint64_t bytes) { file_size_ = bytes; }

  uint64_t file_size() const { return file_size_; }
  uint64_t file_blocks() const { return blocks_.size(); }
  uint64_t max_file_bytes() const { return file_.size(); }
  // True where a write of [offset, end) changes nothing but these bytes.
  bool IsOverwrite(uint64_t offset, uint64_t end) const;
  // Every byte, also of blocks that nobody owns.
  const std::string& device() const { return device_; }
  // Where a byte of a written block lies.
  uint64_t DeviceOffset(uint64_t position) const;

  Result GetBlocks(uint64_t first, uint64_t count, bool create,
                   BlockMapping* mapping) const override;

 private:
  struct Block {
    BlockState state = BlockState::kHole;
    uint64_t device_block = 0;
    bool boundary = false;
  };

  uint64_t Below(uint64_t limit) const { return (*rng_)() % limit; }
  BlockState StateAt(uint64_t position) const {
    return blocks_[position / block_bytes_].state;
  }
  bool InsideFile(uint64_t block) const {
    return block * block_bytes_ < file_size_;
  }
  // Gives hole `block` a place, next to its neighbour's if it can be.
  void Allocate(uint64_t block, BlockState state) const;
  void Free(uint64_t block) const;
  void ZeroBlock(uint64_t block);

  const uint64_t block_bytes_;
  const uint32_t logical_block_bytes_;
  std::mt19937_64* const rng_;
  uint64_t file_size_ = 0;
  std::string file_;  // bytes nobody wrote are 0
  std::string device_;
  Plan plan_;
  // What a mapper changes while it answers.
  mutable std::vector<Block> blocks_;
  mutable std::vector<bool> taken_;  // by device block
  mutable std::vector<uint64_t> reservations_;
  mutable uint64_t last_reservation_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_BYTE_MODEL_H_
