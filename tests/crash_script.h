#ifndef DIOFS_TESTS_CRASH_SCRIPT_H_
#define DIOFS_TESTS_CRASH_SCRIPT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "env/file_writer.h"
#include "env/volume.h"
#include "tests/crash_device.h"
#include "tests/crash_model.h"

namespace diofs {

enum class CrashOp : uint8_t {
  kCreate,  // in place of what has the name
  kAppend,  // a block, and Flush
  kAppendUnaligned,
  kAppendLarge,  // hundreds of KiB, and Flush
  kSync,
  kRename,  // the other name over this one
  kLink,    // this one under the other name
  kDelete,
  kTruncate,  // to half of its size
  kReuse,     // the other one renamed to this one, emptied and written again
  kClose,
  kMkdir,  // the directory of the names, where they have one
  kSyncNames,
  kSwitch,  // to the other region of the journal
  kMany,    // directories: made, then removed; a frame of many operations
};

struct CrashStep {
  CrashOp op;
  size_t name;  // index; the other one is name ^ 1
};

std::string ToString(const std::vector<CrashStep>& steps);

// Carries out steps on a volume and keeps a model of it: before each step what
// may be there from now on, behind it what must be. A copy of the model is kept
// for each moment, and the device's recording notes its number.
class CrashScript {
 public:
  // Two names, of files that exist or do not, as `model` has it. `device` is
  // the volume's and may be null.
  CrashScript(std::vector<std::string> names, std::shared_ptr<Volume> volume,
              CrashDevice* device, CrashModel model);
  CrashScript(const CrashScript&) = delete;
  CrashScript& operator=(const CrashScript&) = delete;
  ~CrashScript();

  // ENOSPC becomes an answer: nothing has changed, and the walk goes on.
  void ExpectFullVolume() { full_volume_ = true; }
  // Would the step succeed?
  bool Applies(const CrashStep& step) const;
  Result Run(const CrashStep& step);
  // Closes everything and unmounts.
  Result Finish();

  // By number of the note.
  const std::vector<CrashModel>& models() const { return models_; }

 private:
  const std::string& Name(size_t i) const { return names_[i]; }
  void Note();
  Result WriterOf(const std::string& path, std::shared_ptr<FileWriter>* writer);
  Result CloseWriter(const std::string& path);
  Result Append(const std::string& path, size_t bytes, bool flush);
  Result RenameOver(const std::string& from, const std::string& to);
  Result Truncate(const std::string& path, uint64_t bytes);
  Result Sync(const std::string& path);
  Result MakeMany();

  const std::vector<std::string> names_;
  std::shared_ptr<Volume> volume_;
  CrashDevice* const device_;
  CrashModel model_;
  std::vector<CrashModel> models_;
  std::map<std::string, std::shared_ptr<FileWriter>> writers_;
  uint64_t appends_ = 0;
  bool full_volume_ = false;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_CRASH_SCRIPT_H_
