#include "tests/crash_model.h"

#include <algorithm>
#include <utility>

namespace diofs {

CrashModel::CrashModel() : states_(1) {}

CrashModel::State* CrashModel::Next() {
  states_.push_back(states_.back());
  return &states_.back();
}

CrashModel::File& CrashModel::At(const std::string& path) {
  return files_[static_cast<size_t>(states_.back().at(path).file)];
}

const CrashModel::File& CrashModel::At(const std::string& path) const {
  return files_[static_cast<size_t>(states_.back().at(path).file)];
}

bool CrashModel::Exists(const std::string& path) const {
  return states_.back().count(path) != 0;
}

FileKind CrashModel::Kind(const std::string& path) const {
  return At(path).kind;
}

const std::string& CrashModel::Content(const std::string& path) const {
  return At(path).lives.back().content;
}

void CrashModel::Create(const std::string& path, FileKind kind) {
  State* const next = Next();
  File file;
  file.kind = kind;
  file.published = std::make_shared<std::string>();
  file.last_state = states_.size() - 1;
  (*next)[path] = {static_cast<int>(files_.size()), file.published};
  files_.push_back(std::move(file));
}

void CrashModel::Mkdir(const std::string& path) {
  (*Next())[path + "/"] = Entry();
}

void CrashModel::Rename(const std::string& from, const std::string& to) {
  const State& now = states_.back();
  const auto there = now.find(to);
  // Of two names of one file neither goes away, as POSIX has it.
  if (from == to ||
      (there != now.end() && there->second.file == now.at(from).file)) {
    return;
  }
  State* const next = Next();
  (*next)[to] = next->at(from);
  next->erase(from);
  At(to).last_state = states_.size() - 1;
}

void CrashModel::Link(const std::string& from, const std::string& to) {
  State* const next = Next();
  (*next)[to] = next->at(from);
  At(to).last_state = states_.size() - 1;
}

void CrashModel::Unlink(const std::string& path) { Next()->erase(path); }

void CrashModel::Append(const std::string& path, const std::string& more) {
  At(path).lives.back().content += more;
}

void CrashModel::Publish(const std::string& path) {
  File& file = At(path);
  const std::string& content = file.lives.back().content;
  if (file.log() || *file.published == content) return;
  file.published = std::make_shared<std::string>(content);
  const int number = states_.back().at(path).file;
  // Under each of its names at once.
  for (auto& [name, entry] : *Next()) {
    if (entry.file == number) entry.content = file.published;
  }
  file.last_state = states_.size() - 1;
}

void CrashModel::Truncate(const std::string& path, uint64_t bytes) {
  Publish(path);
  File& file = At(path);
  if (bytes >= file.lives.back().content.size()) return;
  if (file.log()) {
    file.lives.push_back({bytes, file.lives.back().content.substr(0, bytes)});
    return;
  }
  file.lives.back().content.resize(bytes);
  Publish(path);
}

void CrashModel::Synced(const std::string& path) {
  File& file = At(path);
  file.synced_life = file.lives.size() - 1;
  file.synced_bytes = file.lives.back().content.size();
  durable_ = std::max(durable_, file.last_state);
}

void CrashModel::SyncedNames() { durable_ = states_.size() - 1; }

bool CrashModel::Allows(const File& file, const std::string& found) {
  // What every life since the synced one has in common.
  uint64_t least = file.synced_bytes;
  for (size_t i = file.synced_life; i < file.lives.size(); ++i) {
    const std::string& content = file.lives[i].content;
    if (i > file.synced_life) least = std::min(least, file.lives[i].from);
    if (found.size() >= least && found.size() <= content.size() &&
        content.compare(0, found.size(), found) == 0) {
      return true;
    }
  }
  return false;
}

bool CrashModel::Matches(const State& state, const Tree& found,
                         std::string* why) const {
  for (const auto& [path, entry] : state) {
    const auto there = found.find(path);
    if (there == found.end()) {
      *why = path + " is missing";
      return false;
    }
    if (entry.file == kDirectory) continue;
    const File& file = files_[static_cast<size_t>(entry.file)];
    const bool good = file.log() ? Allows(file, there->second)
                                 : there->second == *entry.content;
    if (!good) {
      *why = path + ": wrong content, " + std::to_string(there->second.size()) +
             " bytes";
      return false;
    }
  }
  for (const auto& [path, content] : found) {
    if (state.count(path) == 0) {
      *why = path + " should not be there";
      return false;
    }
  }
  return true;
}

std::string CrashModel::Check(const Tree& found) const {
  std::string problem;
  for (size_t i = states_.size(); i-- > durable_;) {
    std::string why;
    if (Matches(states_[i], found, &why)) return "";
    problem += " state " + std::to_string(i) + " of " +
               std::to_string(states_.size()) + ": " + why + ";";
  }
  return problem;
}

}  // namespace diofs
