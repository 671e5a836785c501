#include "env/sync_probe.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <vector>

#include "dio/buffer_pool.h"
#include "env/file_kind.h"
#include "env/journal.h"
#include "env/volume.h"

namespace diofs {
namespace {

using Clock = std::chrono::steady_clock;

double Median(std::vector<double> values) {
  const auto middle =
      values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Writes the block and makes it durable; microseconds.
Result TimeOnce(BlockDevice* device, uint64_t offset, const char* block,
                bool fua, double* micros) {
  const Clock::time_point began = Clock::now();
  Result result = device->Write(offset, block, kBlockBytes, kIoClassJournal,
                                fua ? Durability::kFua : Durability::kNone);
  if (result.ok() && !fua) result = device->Flush();
  *micros =
      std::chrono::duration<double, std::micro>(Clock::now() - began).count();
  return result;
}

// Of the region that no journal is in.
Result FindSpareBlock(BlockDevice* device, const Superblock& superblock,
                      uint64_t* offset) {
  Journal journal(device, JournalLayoutOf(superblock));
  Journal::RecoveryReport report;
  const auto ignore = [](std::string_view) { return Result::Ok(); };
  if (Result r = journal.Recover(RecoveryInputOf(superblock), ignore, &report);
      !r.ok()) {
    return r;
  }
  if (!report.corruption.empty()) {
    return Result::Error(EUCLEAN, "journal damaged (" + report.corruption +
                                      "); see what diofs fsck says");
  }
  *offset = superblock.region_offset[1 - report.region] +
            superblock.region_bytes - kBlockBytes;
  return Result::Ok();
}

}  // namespace

Result MeasureSync(BlockDevice* device, const Superblock& superblock,
                   uint32_t rounds, SyncTimes* times) {
  *times = SyncTimes();
  times->rounds = rounds;
  times->has_fua = device->CanFua();
  if (Result r = CheckMayWrite(superblock); !r.ok()) return r;
  uint64_t offset = 0;
  if (Result r = FindSpareBlock(device, superblock, &offset); !r.ok()) {
    return r;
  }
  AlignedBuffer block = BufferPool::Get(kBlockBytes);
  if (!block) return Result::Error(ENOMEM, "probe");
  std::memset(block.data(), 0, kBlockBytes);
  std::vector<double> with_fua;
  std::vector<double> with_flush;
  for (uint32_t i = 0; i < rounds; ++i) {
    for (const bool fua : {false, true}) {
      if (fua && !times->has_fua) continue;
      double micros = 0;
      if (Result r = TimeOnce(device, offset, block.data(), fua, &micros);
          !r.ok()) {
        return r;
      }
      (fua ? with_fua : with_flush).push_back(micros);
    }
  }
  if (rounds == 0) return Result::Ok();
  times->flush_us = Median(std::move(with_flush));
  if (times->has_fua) times->fua_us = Median(std::move(with_fua));
  return Result::Ok();
}

Result StorePreference(BlockDevice* device, const SyncTimes& times,
                       Superblock* superblock) {
  const uint32_t before = superblock->flags;
  superblock->flags &= ~Superblock::kFlushIsFaster;
  // Of a device that cannot write through there is nothing to prefer.
  if (times.has_fua && times.flush_is_faster()) {
    superblock->flags |= Superblock::kFlushIsFaster;
  }
  if (superblock->flags == before) return Result::Ok();
  return StoreSuperblock(device, superblock);
}

}  // namespace diofs
