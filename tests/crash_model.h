#ifndef DIOFS_TESTS_CRASH_MODEL_H_
#define DIOFS_TESTS_CRASH_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "env/file_kind.h"
#include "tests/volume_rig.h"

namespace diofs {

// What a volume may hold after a power cut. A value: a copy is what was
// promised at one moment.
//
// The names, the sizes of plain files and their content change one transaction
// at a time; what is found is the result of the first k of them, at least those
// that a sync has covered. A log's bytes are not in the journal: of each log
// there may be any number of its bytes, from the synced ones up, of the life it
// was synced in or a later one; Truncate begins a life.
class CrashModel {
 public:
  using Text = std::shared_ptr<const std::string>;

  CrashModel();

  // Of the names as they are now.
  bool Exists(const std::string& path) const;
  FileKind Kind(const std::string& path) const;
  // All that was appended and not cut off.
  const std::string& Content(const std::string& path) const;
  size_t NumFiles() const { return files_.size(); }

  // Each adds a transaction that may be there from now on.
  void Create(const std::string& path, FileKind kind);
  void Mkdir(const std::string& path);
  void Rename(const std::string& from, const std::string& to);
  void Link(const std::string& from, const std::string& to);
  void Unlink(const std::string& path);

  // What has been handed over and may be there from now on: of a log at any
  // length; of a plain file when it is published.
  void Append(const std::string& path, const std::string& more);
  void Publish(const std::string& path);
  // What is there is published first.
  void Truncate(const std::string& path, uint64_t bytes);

  // What must be there from now on: the file with all its bytes under its name;
  // all names and published sizes.
  void Synced(const std::string& path);
  void SyncedNames();

  // "" where `found` is a state that may be found.
  std::string Check(const Tree& found) const;

 private:
  // Between two cuts a log only grows.
  struct Life {
    uint64_t from = 0;  // bytes it shares with the life before
    std::string content;
  };
  struct File {
    FileKind kind = FileKind::kOther;
    bool log() const { return LayoutOf(kind) == FileLayout::kLog; }
    std::vector<Life> lives{Life()};
    size_t synced_life = 0;
    uint64_t synced_bytes = 0;
    Text published;         // of a plain file
    size_t last_state = 0;  // that named or published it
  };
  struct Entry {
    int file = kDirectory;
    Text content;  // of a plain file
  };
  static constexpr int kDirectory = -1;
  using State = std::map<std::string, Entry>;

  State* Next();
  File& At(const std::string& path);
  const File& At(const std::string& path) const;
  bool Matches(const State& state, const Tree& found, std::string* why) const;
  static bool Allows(const File& file, const std::string& found);

  std::vector<State> states_;
  size_t durable_ = 0;  // index of the first state that may still be found
  std::vector<File> files_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_CRASH_MODEL_H_
