#ifndef DIOFS_TOOLS_DIOFS_COMMAND_H_
#define DIOFS_TOOLS_DIOFS_COMMAND_H_

#include <gflags/gflags_declare.h>

#include <string>
#include <vector>

DECLARE_bool(json);
DECLARE_bool(bytes);
DECLARE_uint32(wait);

namespace diofs {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;

// One flag of a command: a gflag, whose description is its help text.
struct CommandFlag {
  const char* name;
  const char* value;  // what stands behind "="; null for a switch
};

// One subcommand of diofs as data, from which parsing, --help and later the
// manual page are made. A constant; any thread.
struct Command {
  const char* name;
  const char* summary;    // one line
  const char* arguments;  // "PATH [DIR]"
  size_t min_arguments;
  size_t max_arguments;
  const char* description;  // paragraphs, wrapped
  std::vector<CommandFlag> flags;
  std::vector<const char*> examples;
  const char* exit_codes;
  int usage_exit_code;
  // Returns the exit code. `arguments` are what is left besides the flags.
  int (*run)(const std::vector<std::string>& arguments);
};

const Command& DfCommand();
const Command& ProbeCommand();
const Command& ScrubCommand();
const Command& DumpCommand();
const Command& FsckCommand();
const Command& InfoCommand();
const Command& LsCommand();
const Command& MkfsCommand();

// The exit codes of a command that has none of its own.
extern const char kExitCodes[];

// What `COMMAND --help` prints, where COMMAND stands behind `parent`.
std::string HelpText(const Command& command,
                     const std::string& parent = "diofs ");

enum class ParseOutcome { kRun, kHelp, kUsage };

// Sets the gflags that `given` names and collects the rest in *arguments. Only
// the command's own flags are known: "--size=4G", "--size 4G", "--force",
// "--noforce", "-l", "-lR"; "--" ends them. kUsage comes with one line that
// says what is wrong.
ParseOutcome ParseArguments(const Command& command,
                            const std::vector<std::string>& given,
                            std::vector<std::string>* arguments,
                            std::string* error);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIOFS_COMMAND_H_
