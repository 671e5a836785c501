#include "tests/crash_script.h"

#include <cerrno>
#include <utility>

#include "dio/out_of_memory.h"
#include "env/file_kind.h"
#include "env/open_file.h"
#include "tests/allocation_scope.h"

namespace diofs {
namespace {

std::string DirectoryOf(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

constexpr int kMany = 20;

// A call of the volume, whose allocations may fail.
template <typename Body>
Result Call(const Body& body) {
  const AllocationScope counted(true);
  return CatchBadAlloc(body);
}

}  // namespace

std::string ToString(const std::vector<CrashStep>& steps) {
  static const char* const kNames[] = {
      "create", "append", "unaligned", "large",  "sync",
      "rename", "link",   "delete",    "cut",    "reuse",
      "close",  "mkdir",  "syncnames", "switch", "many"};
  std::string text;
  for (const CrashStep& step : steps) {
    text += std::string(text.empty() ? "" : " ") +
            kNames[static_cast<size_t>(step.op)] + std::to_string(step.name);
  }
  return text;
}

CrashScript::~CrashScript() {
  const AllocationScope counted(true);
  writers_.clear();
}

CrashScript::CrashScript(std::vector<std::string> names,
                         std::shared_ptr<Volume> volume, CrashDevice* device,
                         CrashModel model)
    : names_(std::move(names)),
      volume_(std::move(volume)),
      device_(device),
      model_(std::move(model)) {
  Note();
}

void CrashScript::Note() {
  if (device_ != nullptr) device_->Note(models_.size());
  models_.push_back(model_);
}

bool CrashScript::Applies(const CrashStep& step) const {
  const std::string& path = Name(step.name);
  const std::string& other = Name(step.name ^ 1);
  const std::string directory = DirectoryOf(path);
  const bool has_directory =
      directory.empty() || model_.Exists(directory + "/");
  switch (step.op) {
    case CrashOp::kCreate:
      return has_directory;
    case CrashOp::kRename:
    case CrashOp::kReuse:
      return has_directory && model_.Exists(other);
    case CrashOp::kLink: {
      const std::string there = DirectoryOf(other);
      return model_.Exists(path) && !model_.Exists(other) &&
             (there.empty() || model_.Exists(there + "/"));
    }
    case CrashOp::kMkdir:
      return !directory.empty() && !has_directory;
    case CrashOp::kSyncNames:
    case CrashOp::kSwitch:
    case CrashOp::kMany:
      return step.name == 0;
    case CrashOp::kTruncate:
      return model_.Exists(path) && !model_.Content(path).empty();
    default:
      return model_.Exists(path);
  }
}

Result CrashScript::WriterOf(const std::string& path,
                             std::shared_ptr<FileWriter>* writer) {
  std::shared_ptr<FileWriter>& kept = writers_[path];
  if (kept == nullptr) {
    Result opened =
        Call([&] { return OpenWriter(volume_.get(), path, &kept); });
    if (!opened.ok()) return opened;
  }
  *writer = kept;
  return Result::Ok();
}

Result CrashScript::CloseWriter(const std::string& path) {
  const auto found = writers_.find(path);
  if (found == writers_.end()) return Result::Ok();
  model_.Publish(path);
  Note();
  return Call([&] {
    Result result = found->second->Close();
    writers_.erase(found);
    return result;
  });
}

Result CrashScript::Append(const std::string& path, size_t bytes, bool flush) {
  std::shared_ptr<FileWriter> writer;
  if (Result r = WriterOf(path, &writer); !r.ok()) return r;
  const CrashModel before = model_;
  const std::string more = Pattern(++appends_, bytes);
  model_.Append(path, more);
  flush = flush && !PromisesNothingBeforeSync(model_.Kind(path)) &&
          volume_->flush_mode() != FlushMode::kMemory;
  if (flush) model_.Publish(path);
  Note();
  Result appended =
      Call([&] { return writer->Append(more.data(), more.size()); });
  if (full_volume_ && appended.error() == ENOSPC) {
    // Nothing was taken; what was there may have been written meanwhile.
    model_ = before;
    Note();
    return Result::Ok();
  }
  if (!appended.ok()) return appended;
  if (!flush) return appended;
  return Call([&] { return writer->Flush(); });
}

Result CrashScript::RenameOver(const std::string& from, const std::string& to) {
  if (Result r = CloseWriter(to); !r.ok()) return r;
  model_.Rename(from, to);
  Note();
  const auto writer = writers_.find(from);
  if (!model_.Exists(from) && writer != writers_.end()) {
    writers_[to] = std::move(writer->second);
    writers_.erase(writer);
  }
  return Call([&] { return volume_->Rename(from, to); });
}

Result CrashScript::Truncate(const std::string& path, uint64_t bytes) {
  std::shared_ptr<FileWriter> writer;
  if (Result r = WriterOf(path, &writer); !r.ok()) return r;
  const CrashModel before = model_;
  model_.Truncate(path, bytes);
  Note();
  Result result = Call([&] { return writer->Truncate(bytes); });
  // A log is copied in part.
  if (!full_volume_ || result.error() != ENOSPC) return result;
  model_ = before;
  Note();
  return Result::Ok();
}

Result CrashScript::Sync(const std::string& path) {
  std::shared_ptr<FileWriter> writer;
  if (Result r = WriterOf(path, &writer); !r.ok()) return r;
  model_.Publish(path);
  Note();
  if (Result r = Call([&] { return writer->Sync(); }); !r.ok()) return r;
  model_.Synced(path);
  Note();
  return Result::Ok();
}

Result CrashScript::MakeMany() {
  for (int i = 0; i < kMany; ++i) {
    const std::string path =
        "/many" + std::to_string(i) + std::string(200, 'x');
    model_.Mkdir(path);
    Note();
    Result made = Call([&] { return volume_->Mkdir(path); });
    if (!made.ok()) return made;
  }
  for (int i = 0; i < kMany; ++i) {
    const std::string path =
        "/many" + std::to_string(i) + std::string(200, 'x');
    model_.Unlink(path + "/");
    Note();
    Result gone = Call([&] { return volume_->Rmdir(path); });
    if (!gone.ok()) return gone;
  }
  return Result::Ok();
}

Result CrashScript::Run(const CrashStep& step) {
  const std::string& path = Name(step.name);
  const std::string& other = Name(step.name ^ 1);
  switch (step.op) {
    case CrashOp::kCreate: {
      if (Result r = CloseWriter(path); !r.ok()) return r;
      model_.Create(path, FileKindFromName(path));
      Note();
      std::shared_ptr<FileWriter>& writer = writers_[path];
      return Call([&] {
        std::shared_ptr<OpenFile> file;
        if (Result r = volume_->CreateFile(path, &file); !r.ok()) return r;
        return FileWriter::Open(file, &writer);
      });
    }
    case CrashOp::kAppend:
      return Append(path, kBlockBytes, true);
    case CrashOp::kAppendUnaligned:
      return Append(path, 1000 + 37 * appends_, false);
    case CrashOp::kAppendLarge:
      return Append(path, 300'000, true);
    case CrashOp::kSync:
      return Sync(path);
    case CrashOp::kRename:
      return RenameOver(other, path);
    case CrashOp::kLink:
      model_.Link(path, other);
      Note();
      return Call([&] { return volume_->Link(path, other); });
    case CrashOp::kDelete:
      if (Result r = CloseWriter(path); !r.ok()) return r;
      model_.Unlink(path);
      Note();
      return Call([&] { return volume_->Unlink(path); });
    case CrashOp::kTruncate:
      return Truncate(path, model_.Content(path).size() / 2);
    case CrashOp::kReuse:
      if (Result r = RenameOver(other, path); !r.ok()) return r;
      if (Result r = Truncate(path, 0); !r.ok()) return r;
      return Append(path, 5000, true);
    case CrashOp::kClose:
      return CloseWriter(path);
    case CrashOp::kMkdir: {
      const std::string directory = DirectoryOf(path);
      model_.Mkdir(directory);
      Note();
      return Call([&] { return volume_->Mkdir(directory); });
    }
    case CrashOp::kSyncNames:
      if (Result r = Call([&] { return volume_->SyncNames(); }); !r.ok()) {
        return r;
      }
      model_.SyncedNames();
      Note();
      return Result::Ok();
    case CrashOp::kSwitch:
      return Call([&] { return volume_->journal()->SwitchRegion(); });
    case CrashOp::kMany:
      return MakeMany();
  }
  return Result::Ok();
}

Result CrashScript::Finish() {
  for (const std::string& name : names_) {
    if (Result r = CloseWriter(name); !r.ok()) return r;
  }
  if (Result r = Call([&] { return volume_->Unmount(); }); !r.ok()) return r;
  model_.SyncedNames();
  for (const std::string& name : names_) {
    if (model_.Exists(name)) model_.Synced(name);
  }
  Note();
  return Result::Ok();
}

}  // namespace diofs
