// diofs: one tool to make, look at and check volumes. Each subcommand lives in
// a file of its own; this one finds it by name.

#include <cstdio>
#include <string>
#include <vector>

#include "tools/diofs_command.h"
#include "tools/diofs_util.h"

namespace diofs {

namespace {

const std::vector<const Command*>& Commands() {
  static const std::vector<const Command*> commands = {
      &MkfsCommand(), &LsCommand(),    &DfCommand(),   &InfoCommand(),
      &FsckCommand(), &ScrubCommand(), &DumpCommand(), &ProbeCommand()};
  return commands;
}

const Command* FindCommand(const std::string& name) {
  for (const Command* command : Commands()) {
    if (name == command->name) return command;
  }
  return nullptr;
}

std::string Overview() {
  std::string text =
      "diofs makes, shows and checks DioFS volumes.\n\n"
      "usage: diofs COMMAND [flags] DEVICE …\n\ncommands:\n";
  std::vector<std::vector<std::string>> rows;
  for (const Command* command : Commands()) {
    rows.push_back({std::string("  ") + command->name, command->summary});
  }
  return text + FormatTable(rows, "ll") +
         "\nEvery command takes --json, and --help, which shows its flags, "
         "its\n"
         "exit codes and examples.\n\nexamples:\n"
         "  diofs mkfs --size=4G /var/lib/db.img\n"
         "  diofs ls -lR /var/lib/db.img\n"
         "  diofs fsck --help\n";
}

int WrongUsage(const std::string& error) {
  Complain("", error + "; see diofs --help");
  return kExitUsage;
}

// `words`: the command line without the program's name.
int RunTool(const std::vector<std::string>& words) {
  if (words.empty()) return WrongUsage("no command given");
  const std::string& name = words[0];
  if (name == "--help" || name == "-h" ||
      (name == "help" && words.size() < 2)) {
    return Print("", Overview());
  }
  const std::string wanted = name == "help" ? words[1] : name;
  const Command* command = FindCommand(wanted);
  if (command == nullptr) {
    return WrongUsage(
        (wanted[0] == '-' ? "unknown flag " : "unknown command ") +
        Printable(wanted));
  }
  if (name == "help") return Print(wanted, HelpText(*command));

  std::vector<std::string> arguments;
  std::string error;
  switch (ParseArguments(*command, {words.begin() + 1, words.end()}, &arguments,
                         &error)) {
    case ParseOutcome::kHelp:
      return Print(wanted, HelpText(*command));
    case ParseOutcome::kUsage:
      Complain(wanted, Printable(error) + "; see diofs " + wanted + " --help");
      return command->usage_exit_code;
    case ParseOutcome::kRun:
      break;
  }
  return command->run(arguments);
}

}  // namespace

}  // namespace diofs

int main(int argc, char** argv) {
  if (argc < 1) return diofs::RunTool({});
  return diofs::RunTool({argv + 1, argv + argc});
}
