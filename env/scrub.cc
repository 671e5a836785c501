#include "env/scrub.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>
#include <utility>

#include "dio/buffer_pool.h"
#include "env/checksum_table.h"
#include "env/file_reader.h"
#include "env/format.h"

namespace diofs {
namespace {

constexpr uint64_t kPieceBytes = 1 << 20;
constexpr uint64_t kChunkBytes = ChecksumTable::kChunkBytes;

struct Entry {
  std::string path;
  FileStat stat;
};

// Every file once, however many names it has.
std::vector<Entry> FindFiles(Volume* volume, ScrubReport* report) {
  std::vector<Entry> files;
  std::set<uint64_t> seen;
  std::vector<std::string> directories = {"/"};
  while (!directories.empty()) {
    const std::string directory = std::move(directories.back());
    directories.pop_back();
    std::vector<DirectoryEntry> entries;
    if (Result r = volume->List(directory, &entries); !r.ok()) {
      report->problems.push_back(directory + ": " + r.ToString());
    }
    for (const DirectoryEntry& entry : entries) {
      const std::string path =
          (directory == "/" ? directory : directory + "/") + entry.name;
      if (entry.stat.is_directory) {
        directories.push_back(path);
      } else if (seen.insert(entry.stat.ino).second) {
        files.push_back({path, entry.stat});
      }
    }
  }
  return files;
}

// The work on one file.
class FileScrubber {
 public:
  FileScrubber(std::string path, OpenFilePtr file, ScrubReport* report)
      : path_(std::move(path)),
        reader_(std::move(file)),
        inode_(*reader_.file()->inode()),
        report_(report) {}

  // `read` is told of bytes that are done with.
  Result Run(const std::function<void(uint64_t bytes)>& read);

 private:
  Result LoadTable();
  // False where what follows cannot be read either.
  bool CheckPiece(uint64_t offset, size_t bytes);
  void CheckChunk(uint64_t offset, const char* data, size_t bytes);
  bool ReadByChunk(uint64_t offset, size_t bytes);
  void NoteBad(uint64_t offset, uint64_t bytes, const std::string& what);
  void TellBad();

  const std::string path_;
  const FileReader reader_;
  const Inode& inode_;
  ScrubReport* const report_;
  AlignedBuffer buffer_;
  std::unique_ptr<ChecksumTable> table_;
  // Bytes next to each other with one fault, not yet told.
  uint64_t bad_from_ = 0;
  uint64_t bad_to_ = 0;
  std::string bad_;
};

Result FileScrubber::Run(const std::function<void(uint64_t bytes)>& read) {
  buffer_ = BufferPool::Get(kPieceBytes);
  if (!buffer_) return Result::Error(ENOMEM, "scrub");
  if (Result r = LoadTable(); !r.ok()) return r;
  const uint64_t size = reader_.size();
  ++report_->files;
  report_->bytes += size;
  if (inode_.log == nullptr && table_ == nullptr && size > 0) {
    ++report_->unverified_files;
    report_->unverified_bytes += size;
  }
  for (uint64_t offset = 0; offset < size; offset += kPieceBytes) {
    const size_t bytes = std::min(kPieceBytes, size - offset);
    const bool go_on = CheckPiece(offset, bytes);
    read(go_on ? bytes : size - offset);
    if (!go_on) break;
  }
  TellBad();
  return Result::Ok();
}

Result FileScrubber::LoadTable() {
  const uint64_t blocks = BlocksFor(inode_.journaled_bytes);
  if (inode_.log != nullptr || inode_.journaled_blocks <= blocks) {
    return Result::Ok();
  }
  const uint64_t table_blocks = inode_.journaled_blocks - blocks;
  if (table_blocks != ChecksumTable::BlocksFor(inode_.journaled_bytes)) {
    report_->problems.push_back(path_ + ": checksums take " +
                                std::to_string(table_blocks) + " blocks");
    return Result::Ok();
  }
  const uint64_t bytes = table_blocks * kBlockBytes;
  AlignedBuffer memory = BufferPool::Get(bytes);
  if (!memory) return Result::Error(ENOMEM, "scrub");
  const ExtentMapper mapper(inode_.map(), inode_.journaled_blocks);
  ReadBatch::File file;
  file.device = reader_.file()->volume()->device();
  file.mapper = &mapper;
  file.file_size = inode_.journaled_blocks * kBlockBytes;
  file.block_bytes = kBlockBytes;
  file.io_class = IoClassOf(inode_.kind);
  Result result =
      ReadRangeNow(file, blocks * kBlockBytes, bytes, memory.data());
  if (result.ok() && result.bytes() != bytes) result = Result::Error(EIO);
  table_ = std::make_unique<ChecksumTable>();
  if (result.ok()) {
    result = ChecksumTable::Decode(memory.data(), inode_.ino,
                                   inode_.journaled_bytes, table_.get());
  }
  if (!result.ok()) {
    table_.reset();
    report_->problems.push_back(
        path_ + ": checksums cannot be read: " + result.ToString());
  }
  return Result::Ok();
}

bool FileScrubber::CheckPiece(uint64_t offset, size_t bytes) {
  const Result result = reader_.Read(offset, bytes, buffer_.data());
  if (!result.ok() || result.bytes() != bytes) {
    return ReadByChunk(offset, bytes);
  }
  for (size_t at = 0; at < bytes; at += kChunkBytes) {
    CheckChunk(offset + at, buffer_.data() + at,
               std::min<size_t>(kChunkBytes, bytes - at));
  }
  return true;
}

// Finds out which part of a piece it is that fails.
bool FileScrubber::ReadByChunk(uint64_t offset, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kChunkBytes) {
    const size_t length = std::min<size_t>(kChunkBytes, bytes - at);
    const Result result = reader_.Read(offset + at, length, buffer_.data());
    if (!result.ok() && inode_.log != nullptr) {
      // Frames are chained: behind one that is missing none can be trusted.
      NoteBad(offset + at, reader_.size() - offset - at,
              "cannot be read: " + result.ToString());
      return false;
    }
    if (!result.ok()) {
      NoteBad(offset + at, length, "cannot be read: " + result.ToString());
    } else if (result.bytes() != length) {
      NoteBad(offset + at, length, "cannot be read: the file ends before");
    } else {
      CheckChunk(offset + at, buffer_.data(), length);
    }
  }
  return true;
}

void FileScrubber::CheckChunk(uint64_t offset, const char* data, size_t bytes) {
  if (table_ == nullptr || table_->Matches(offset / kChunkBytes, data, bytes)) {
    return;
  }
  NoteBad(offset, bytes, "are not what was written");
}

void FileScrubber::NoteBad(uint64_t offset, uint64_t bytes,
                           const std::string& what) {
  if (bad_ != what || bad_to_ != offset) {
    TellBad();
    bad_from_ = offset;
    bad_ = what;
  }
  bad_to_ = offset + bytes;
}

void FileScrubber::TellBad() {
  if (bad_.empty()) return;
  report_->problems.push_back(path_ + ": bytes " + std::to_string(bad_from_) +
                              " to " + std::to_string(bad_to_ - 1) + " " +
                              bad_);
  bad_.clear();
}

}  // namespace

Result Scrub(Volume* volume, const ScrubProgress& progress,
             ScrubReport* report) {
  *report = ScrubReport();
  if (!volume->recovery().corruption.empty()) {
    // What the names and sizes were after that is not known.
    report->problems.push_back("journal damaged: " +
                               volume->recovery().corruption);
  }
  const std::vector<Entry> files = FindFiles(volume, report);
  uint64_t total = 0;
  for (const Entry& entry : files) total += entry.stat.size_bytes;
  uint64_t done = 0;
  for (const Entry& entry : files) {
    OpenFilePtr file;
    if (Result r = volume->Open(entry.path, &file); !r.ok()) {
      report->problems.push_back(entry.path + ": " + r.ToString());
      continue;
    }
    FileScrubber scrubber(entry.path, std::move(file), report);
    Result result = scrubber.Run([&](uint64_t bytes) {
      done += bytes;
      if (progress) progress(done, total);
    });
    if (!result.ok()) return result;
  }
  return Result::Ok();
}

}  // namespace diofs
