#ifndef DIOFS_TESTS_TOOL_RUN_H_
#define DIOFS_TESTS_TOOL_RUN_H_

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/temp_dir.h"

namespace diofs {

// What a run of the diofs program left behind.
struct ToolRun {
  int exit_code = -1;
  std::string out;
  std::string err;
};

inline std::string ReadHostFile(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

inline std::string ShellQuoted(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

// The program, which ctest names in DIOFS_TOOL, as a word of the shell.
inline std::string QuotedTool() {
  const char* const tool = std::getenv("DIOFS_TOOL");
  if (tool == nullptr) {
    ADD_FAILURE() << "DIOFS_TOOL does not name the diofs program";
    return "false";
  }
  return ShellQuoted(tool);
}

inline ToolRun RunDiofs(const std::vector<std::string>& words) {
  ToolRun run;
  const TempDir dir;
  std::string line = QuotedTool();
  for (const std::string& word : words) line += " " + ShellQuoted(word);
  line += " >" + ShellQuoted(dir.File("out")) + " 2>" +
          ShellQuoted(dir.File("err"));
  const int status = std::system(line.c_str());
  if (WIFEXITED(status)) run.exit_code = WEXITSTATUS(status);
  run.out = ReadHostFile(dir.File("out"));
  run.err = ReadHostFile(dir.File("err"));
  return run;
}

// A failure as people want it: this exit code, nothing on standard output, and
// one line on standard error that says `what`.
inline void ExpectFailure(const ToolRun& run, int exit_code,
                          const std::string& what) {
  EXPECT_EQ(run.exit_code, exit_code) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_NE(run.err.find(what), std::string::npos)
      << "no \"" << what << "\" in: " << run.err;
  EXPECT_EQ(run.err.find("diofs"), 0u) << run.err;
  EXPECT_EQ(run.err.find('\n'), run.err.size() - 1) << run.err;
}

}  // namespace diofs

#endif  // DIOFS_TESTS_TOOL_RUN_H_
