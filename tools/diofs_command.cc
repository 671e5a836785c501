#include "tools/diofs_command.h"

#include <gflags/gflags.h>

#include <algorithm>
#include <cstring>

DEFINE_bool(json, false, "Print JSON, sizes in bytes.");
DEFINE_bool(bytes, false, "Print sizes in bytes.");
// Not 0: a process that was killed holds its volume until its last write has
// landed, and udev holds a device for a moment after each change.
DEFINE_uint32(wait, 1,
              "Wait so long for another process to let go of\n"
              "what it holds: 1 by default.");

namespace diofs {

const char kExitCodes[] =
    "  0  success\n"
    "  1  failure, told in one line on standard error\n"
    "  2  wrong usage\n";

namespace {

// Where a flag's description begins in the help text.
constexpr size_t kDescriptionColumn = 24;

const CommandFlag* FindFlag(const Command& command, const std::string& name) {
  for (const CommandFlag& flag : command.flags) {
    if (name == flag.name) return &flag;
  }
  return nullptr;
}

std::string Dashed(const std::string& name) {
  return (name.size() == 1 ? "-" : "--") + name;
}

// Takes the flags of `given` one by one. A stack object.
class Parser {
 public:
  Parser(const Command& command, const std::vector<std::string>& given)
      : command_(command), given_(given) {}

  ParseOutcome Parse(std::vector<std::string>* arguments) {
    bool flags_end = false;
    while (next_ < given_.size()) {
      const std::string& word = given_[next_++];
      if (flags_end || word.size() < 2 || word[0] != '-') {
        arguments->push_back(word);
      } else if (word == "--") {
        flags_end = true;
      } else if (word == "--help" || word == "-h" || word == "-help") {
        return ParseOutcome::kHelp;
      } else if (!TakeFlag(word)) {
        return ParseOutcome::kUsage;
      }
    }
    return CheckCount(*arguments) ? ParseOutcome::kRun : ParseOutcome::kUsage;
  }

  const std::string& error() const { return error_; }

 private:
  bool Complain(const std::string& error) {
    error_ = error;
    return false;
  }

  bool CheckCount(const std::vector<std::string>& arguments) {
    if (arguments.size() > command_.max_arguments) {
      return Complain("unexpected argument \"" +
                      arguments[command_.max_arguments] + "\"");
    }
    if (arguments.size() < command_.min_arguments) {
      return Complain(std::string("arguments missing: ") + command_.arguments);
    }
    return true;
  }

  bool TakeFlag(const std::string& word) {
    const size_t dashes = word[1] == '-' ? 2 : 1;
    const size_t equals = word.find('=');
    const bool has_value = equals != std::string::npos;
    const std::string name =
        word.substr(dashes, has_value ? equals - dashes : std::string::npos);
    const CommandFlag* flag = FindFlag(command_, name);
    if (flag == nullptr && !has_value) {
      if (name.compare(0, 2, "no") == 0) {
        const CommandFlag* negated = FindFlag(command_, name.substr(2));
        if (negated != nullptr && negated->value == nullptr) {
          return Set(*negated, "false");
        }
      }
      if (dashes == 1 && IsCluster(name)) return SetCluster(name);
    }
    if (flag == nullptr) {
      return Complain("unknown flag " + word.substr(0, equals));
    }
    if (has_value) return Set(*flag, word.substr(equals + 1));
    if (flag->value == nullptr) return Set(*flag, "true");
    if (next_ == given_.size()) {
      return Complain(Dashed(name) + " needs a value: " + Dashed(name) + "=" +
                      flag->value);
    }
    return Set(*flag, given_[next_++]);
  }

  // "-lR": switches of one letter each.
  bool IsCluster(const std::string& letters) const {
    return std::all_of(letters.begin(), letters.end(), [this](char letter) {
      const CommandFlag* flag = FindFlag(command_, std::string(1, letter));
      return flag != nullptr && flag->value == nullptr;
    });
  }

  bool SetCluster(const std::string& letters) {
    return std::all_of(letters.begin(), letters.end(), [this](char letter) {
      return Set(*FindFlag(command_, std::string(1, letter)), "true");
    });
  }

  bool Set(const CommandFlag& flag, const std::string& value) {
    if (!gflags::SetCommandLineOption(flag.name, value.c_str()).empty()) {
      return true;
    }
    return Complain("invalid value \"" + value + "\" for " + Dashed(flag.name) +
                    (flag.value == nullptr
                         ? std::string()
                         : ": " + Dashed(flag.name) + "=" + flag.value));
  }

  const Command& command_;
  const std::vector<std::string>& given_;
  size_t next_ = 0;
  std::string error_;
};

std::string FlagHelp(const CommandFlag& flag) {
  std::string line = "  " + Dashed(flag.name);
  if (flag.value != nullptr) line += std::string("=") + flag.value;
  const std::string indent(kDescriptionColumn, ' ');
  if (line.size() + 2 > kDescriptionColumn) {
    line += "\n" + indent;
  } else {
    line.resize(kDescriptionColumn, ' ');
  }
  gflags::CommandLineFlagInfo info;
  if (gflags::GetCommandLineFlagInfo(flag.name, &info)) {
    for (const char c : info.description) {
      line += c;
      if (c == '\n') line += indent;
    }
  }
  return line + "\n";
}

}  // namespace

std::string HelpText(const Command& command, const std::string& parent) {
  const std::string name = parent + command.name;
  std::string text = name + ": " + command.summary + "\n\nusage: " + name +
                     " [flags] " + command.arguments + "\n\n" +
                     command.description + "\nflags:\n";
  for (const CommandFlag& flag : command.flags) text += FlagHelp(flag);
  text += "  --help                Print this text.\n\nexamples:\n";
  for (const char* example : command.examples) {
    text += "  " + std::string(example) + "\n";
  }
  return text + "\nexit codes:\n" + command.exit_codes;
}

ParseOutcome ParseArguments(const Command& command,
                            const std::vector<std::string>& given,
                            std::vector<std::string>* arguments,
                            std::string* error) {
  Parser parser(command, given);
  const ParseOutcome outcome = parser.Parse(arguments);
  *error = parser.error();
  return outcome;
}

}  // namespace diofs
