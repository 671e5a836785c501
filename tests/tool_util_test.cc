#include <gflags/gflags.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "dio/result.h"
#include "tools/diofs_command.h"
#include "tools/diofs_progress.h"
#include "tools/diofs_util.h"

DECLARE_bool(force);
DECLARE_bool(l);
DECLARE_bool(R);
DECLARE_string(size);

namespace diofs {
namespace {

// ---- Showing values --------------------------------------------------------

TEST(ToolUtilTest, HumanBytes) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(HumanBytes(uint64_t{4} << 30), "4.0 GiB");
  EXPECT_EQ(HumanBytes(UINT64_MAX), "16.0 EiB");
}

TEST(ToolUtilTest, ShowBytesObeysTheFlag) {
  const gflags::FlagSaver saver;
  EXPECT_EQ(ShowBytes(4096), "4.0 KiB");
  FLAGS_bytes = true;
  EXPECT_EQ(ShowBytes(4096), "4096");
}

TEST(ToolUtilTest, PercentIsZeroOnlyForNothing) {
  EXPECT_EQ(ShowPercent(0, 1000), "0 %");
  EXPECT_EQ(ShowPercent(1, 1000), "1 %");
  EXPECT_EQ(ShowPercent(500, 1000), "50 %");
  EXPECT_EQ(ShowPercent(1000, 1000), "100 %");
  EXPECT_EQ(ShowPercent(0, 0), "-");
}

TEST(ToolUtilTest, Times) {
  EXPECT_EQ(ShowTime(0), "-");
  EXPECT_EQ(ShowTime(1700000000000000).size(), 19u);
  EXPECT_EQ(IsoTime(1700000000000042), "2023-11-14T22:13:20.000042Z");
  // An inode may say anything.
  EXPECT_EQ(IsoTime(UINT64_MAX).empty(), false);
}

TEST(ToolUtilTest, NothingReachesATerminalThatCouldDriveIt) {
  EXPECT_EQ(Printable("000012.sst"), "000012.sst");
  EXPECT_EQ(Printable("a\nb\x1b[2J\x7f\\"), "a\\nb\\x1b[2J\\x7f\\\\");
  EXPECT_EQ(Printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(Printable("größe"), "größe");
}

TEST(ToolUtilTest, Table) {
  EXPECT_EQ(FormatTable({{"a", "size"}, {"long name", "7"}}, "lr"),
            "a          size\nlong name     7\n");
  EXPECT_EQ(FormatTable({{"x", "y"}, {"xx", "yy"}}, "ll"), "x   y\nxx  yy\n");
}

TEST(ToolUtilTest, JsonOfBytesThatAreNoText) {
  const nlohmann::ordered_json json = {{"name", "a\xff"}};
  EXPECT_EQ(JsonText(json), "{\n  \"name\": \"a\xef\xbf\xbd\"\n}\n");
}

TEST(ToolUtilTest, ExplainSaysThePathAndWhatToDo) {
  EXPECT_EQ(Explain("/x", Result::Error(ENODATA, "/x: not formatted")),
            "/x: not formatted; make a volume of it with: diofs mkfs /x");
  EXPECT_EQ(Explain("/x", Result::Error(EUCLEAN, "damaged superblock")),
            "/x: damaged superblock; see what is wrong with: diofs fsck /x");
  EXPECT_EQ(Explain("/x", Result::Error(EIO, "/x: read")),
            "/x: read: Input/output error");
  EXPECT_EQ(Explain("/x", Result::Error(EBUSY, "/x: held by process 7")),
            "/x: held by process 7");
}

// ---- The command line ------------------------------------------------------

class ParseTest : public testing::Test {
 protected:
  ParseOutcome Parse(const Command& command,
                     const std::vector<std::string>& given) {
    arguments_.clear();
    return ParseArguments(command, given, &arguments_, &error_);
  }

  const gflags::FlagSaver saver_;
  std::vector<std::string> arguments_;
  std::string error_;
};

TEST_F(ParseTest, FlagsAndArgumentsInAnyOrder) {
  EXPECT_EQ(Parse(MkfsCommand(), {"--size=4G", "/x", "--force"}),
            ParseOutcome::kRun);
  EXPECT_EQ(arguments_, std::vector<std::string>{"/x"});
  EXPECT_EQ(FLAGS_size, "4G");
  EXPECT_TRUE(FLAGS_force);
  EXPECT_EQ(Parse(MkfsCommand(), {"--noforce", "/x", "--size", "1M"}),
            ParseOutcome::kRun);
  EXPECT_EQ(FLAGS_size, "1M");
  EXPECT_FALSE(FLAGS_force);
  EXPECT_EQ(Parse(MkfsCommand(), {"--force=true", "/x"}), ParseOutcome::kRun);
  EXPECT_TRUE(FLAGS_force);
}

TEST_F(ParseTest, LettersMayBePutTogether) {
  EXPECT_EQ(Parse(LsCommand(), {"-lR", "/x", "/dir"}), ParseOutcome::kRun);
  EXPECT_TRUE(FLAGS_l);
  EXPECT_TRUE(FLAGS_R);
  EXPECT_EQ(arguments_, (std::vector<std::string>{"/x", "/dir"}));
}

TEST_F(ParseTest, TwoDashesEndTheFlags) {
  EXPECT_EQ(Parse(LsCommand(), {"--", "-l", "--json"}), ParseOutcome::kRun);
  EXPECT_EQ(arguments_, (std::vector<std::string>{"-l", "--json"}));
  EXPECT_FALSE(FLAGS_l);
  EXPECT_FALSE(FLAGS_json);
}

TEST_F(ParseTest, HelpWinsOverWhatIsMissing) {
  EXPECT_EQ(Parse(LsCommand(), {"--help"}), ParseOutcome::kHelp);
  EXPECT_EQ(Parse(LsCommand(), {"-h"}), ParseOutcome::kHelp);
}

TEST_F(ParseTest, SaysWhatIsWrong) {
  const struct {
    std::vector<std::string> given;
    std::string error;
  } cases[] = {
      {{"--bogus", "/x"}, "unknown flag --bogus"},
      {{"--bogus=3", "/x"}, "unknown flag --bogus"},
      {{"-lx", "/x"}, "unknown flag -lx"},
      // A flag of another command, and one of gflags itself.
      {{"--size=4G", "/x"}, "unknown flag --size"},
      {{"--flagfile=/x", "/x"}, "unknown flag --flagfile"},
      {{"--nowait", "/x"}, "unknown flag --nowait"},
      {{"--wait", "soon", "/x"},
       "invalid value \"soon\" for --wait: --wait=SECONDS"},
      {{"--wait=-1", "/x"}, "invalid value \"-1\" for --wait: --wait=SECONDS"},
      {{"--json=maybe", "/x"}, "invalid value \"maybe\" for --json"},
      {{"/x", "--wait"}, "--wait needs a value: --wait=SECONDS"},
      {{}, "arguments missing: DEVICE [PATH]"},
      {{"/x", "/y", "/z"}, "unexpected argument \"/z\""},
  };
  for (const auto& wrong : cases) {
    EXPECT_EQ(Parse(LsCommand(), wrong.given), ParseOutcome::kUsage)
        << wrong.error;
    EXPECT_EQ(error_, wrong.error);
  }
}

TEST(HelpTest, EveryFlagIsExplained) {
  for (const Command* command :
       {&DfCommand(), &DumpCommand(), &FsckCommand(), &InfoCommand(),
        &LsCommand(), &MkfsCommand()}) {
    const std::string text = HelpText(*command);
    for (const CommandFlag& flag : command->flags) {
      gflags::CommandLineFlagInfo info;
      ASSERT_TRUE(gflags::GetCommandLineFlagInfo(flag.name, &info))
          << command->name << " --" << flag.name;
      EXPECT_EQ(info.type == "bool", flag.value == nullptr) << flag.name;
      EXPECT_NE(text.find(info.description.substr(0, 20)), std::string::npos)
          << flag.name;
    }
    EXPECT_NE(text.find("examples:\n  diofs " + std::string(command->name)),
              std::string::npos);
    EXPECT_NE(text.find("exit codes:\n  0"), std::string::npos);
  }
}

// ---- Progress --------------------------------------------------------------

TEST(ProgressTest, IsQuietForASecondAndThenSpeaksNowAndThen) {
  using std::chrono::milliseconds;
  constexpr uint64_t kMiB = 1 << 20;
  Progress progress("formatting /x");
  const Progress::Clock::time_point start = Progress::Clock::now();
  EXPECT_EQ(progress.UpdateAt(start + milliseconds(900), kMiB, 10 * kMiB), "");
  const std::string line =
      progress.UpdateAt(start + milliseconds(2000), 2 * kMiB, 10 * kMiB);
  EXPECT_NE(line.find("formatting /x: 2.0 MiB of 10.0 MiB, 1.0 MiB/s, 8 s "
                      "left"),
            std::string::npos)
      << line;
  EXPECT_EQ(progress.UpdateAt(start + milliseconds(2100), 3 * kMiB, 10 * kMiB),
            "");
  EXPECT_NE(progress.UpdateAt(start + milliseconds(9000), 4 * kMiB, 10 * kMiB),
            "");
}

TEST(ProgressTest, LongTimesAreInMinutes) {
  Progress progress("x");
  const std::string line = progress.UpdateAt(
      Progress::Clock::now() + std::chrono::seconds(10), 1000, 14000);
  EXPECT_NE(line.find("2 min 10 s left"), std::string::npos) << line;
}

}  // namespace
}  // namespace diofs
