// diofs ls, df, info, dump and fsck, run as programs on images made here.

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "dio/open_device.h"
#include "env/mount_table.h"
#include "env/superblock.h"
#include "env/volume.h"
#include "tests/temp_dir.h"
#include "tests/tool_run.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kImageBytes = 16 << 20;

class ShowTest : public testing::Test {
 protected:
  ShowTest() : image_(dir_.File("volume.img")) {
    FormatOptions options;
    options.write_every_block = false;
    options.label = "orders";
    EXPECT_TRUE(CreateImage(image_, kImageBytes, options).ok());
    const std::shared_ptr<Volume> volume = Mount();
    EXPECT_TRUE(volume->MkdirAll("/db/old").ok());
    EXPECT_TRUE(
        WriteFile(volume.get(), "/db/000012.sst", Pattern(1, 10000), true)
            .ok());
    EXPECT_TRUE(
        WriteFile(volume.get(), "/db/CURRENT", "MANIFEST-5\n", true).ok());
    EXPECT_TRUE(volume->Link("/db/000012.sst", "/db/old/000012.sst").ok());
    EXPECT_TRUE(
        WriteFile(volume.get(), "/db/odd\nname", std::string(), true).ok());
  }

  std::shared_ptr<Volume> Mount(const MountOptions& options = MountOptions()) {
    std::unique_ptr<BlockDevice> device;
    std::shared_ptr<Volume> volume;
    EXPECT_TRUE(OpenBlockDevice(image_, OpenDeviceOptions(), &device).ok());
    EXPECT_TRUE(Volume::Mount(std::move(device), options, &volume).ok());
    return volume;
  }

  // Overwrites one byte of the image by another.
  void Flip(uint64_t offset) {
    std::fstream file(image_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(offset);
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(offset);
    file.put(byte);
    EXPECT_TRUE(file.good());
  }

  // A run that succeeds and writes no byte of the image.
  std::string Show(const std::vector<std::string>& words) {
    const std::string before = ReadHostFile(image_);
    const ToolRun run = RunDiofs(words);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_EQ(run.err, "");
    EXPECT_TRUE(ReadHostFile(image_) == before);
    return run.out;
  }

  Json ShowJson(const std::vector<std::string>& words) {
    return Json::parse(Show(words), nullptr, /*allow_exceptions=*/false);
  }

  const TempDir dir_;
  const std::string image_;
};

const Json* FindByPath(const Json& entries, const std::string& path) {
  for (const Json& entry : entries) {
    if (entry["path"] == path) return &entry;
  }
  return nullptr;
}

TEST_F(ShowTest, LsListsNames) {
  EXPECT_EQ(Show({"ls", image_}), "db\n");
  EXPECT_EQ(Show({"ls", image_, "/db"}),
            "000012.sst\nCURRENT\nodd\\nname\nold\n");
  EXPECT_EQ(Show({"ls", image_, "db/old/"}), "000012.sst\n");
  EXPECT_EQ(Show({"ls", image_, "/db/CURRENT"}), "/db/CURRENT\n");
}

TEST_F(ShowTest, LsRecursive) {
  EXPECT_EQ(Show({"ls", "-R", image_}),
            "/:\ndb\n\n/db:\n000012.sst\nCURRENT\nodd\\nname\nold\n\n"
            "/db/old:\n000012.sst\n");
}

TEST_F(ShowTest, LsLong) {
  const std::string text = Show({"ls", "-l", "--bytes", image_, "/db"});
  EXPECT_NE(text.find("sst        2  10000        1  20"), std::string::npos)
      << text;
  EXPECT_NE(text.find("\ndir "), std::string::npos) << text;
  EXPECT_NE(text.find("  odd\\nname\n"), std::string::npos) << text;
  EXPECT_NE(Show({"ls", "-l", image_, "/db"}).find("9.8 KiB"),
            std::string::npos);
}

TEST_F(ShowTest, LsJson) {
  const Json entries = ShowJson({"ls", "--json", "-R", image_});
  ASSERT_EQ(entries.size(), 6u);
  const Json* const sst = FindByPath(entries, "/db/old/000012.sst");
  ASSERT_NE(sst, nullptr);
  EXPECT_EQ((*sst)["type"], "sst");
  EXPECT_EQ((*sst)["size_bytes"], 10000);
  EXPECT_EQ((*sst)["allocated_bytes"], 12288);
  EXPECT_EQ((*sst)["links"], 2);
  EXPECT_NE(FindByPath(entries, "/db/odd\nname"), nullptr);
}

TEST_F(ShowTest, LsOfWhatIsNotThere) {
  ExpectFailure(RunDiofs({"ls", image_, "/nothing"}), 1, "/nothing");
  ExpectFailure(RunDiofs({"ls", image_, "/db/.."}), 1, "/db/..");
  ExpectFailure(RunDiofs({"ls", dir_.File("none")}), 1, "none");
}

TEST_F(ShowTest, DfAddsUp) {
  const Json df = ShowJson({"df", "--json", image_});
  EXPECT_EQ(df["total_bytes"], kImageBytes);
  EXPECT_EQ(df["used_bytes"], 12288 + 4096);
  EXPECT_EQ(df["total_bytes"].get<uint64_t>(),
            df["used_bytes"].get<uint64_t>() +
                df["metadata_bytes"].get<uint64_t>() +
                df["pending_bytes"].get<uint64_t>() +
                df["free_bytes"].get<uint64_t>());
  const std::string text = Show({"df", image_});
  EXPECT_NE(text.find("16.0 MiB  16.0 KiB"), std::string::npos) << text;
}

TEST_F(ShowTest, InfoTellsStateAndGeometry) {
  const std::string text = Show({"info", image_});
  for (const char* const line :
       {"label       orders\n", "prealloc    none\n", "state       clean\n",
        "size        16.0 MiB\n", " 4 of 4 copies intact", "backend     ",
        "2 regions of 1.0 MiB", "image file"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
  EXPECT_NE(text.find("by process " + std::to_string(getpid())),
            std::string::npos)
      << text;
  const Json json = ShowJson({"info", "--json", image_});
  EXPECT_EQ(json["superblock"]["label"], "orders");
  EXPECT_EQ(json["superblock"]["state"], "clean");
  EXPECT_EQ(json["superblock_copies_intact"], 4);
  EXPECT_EQ(json["geometry"]["is_block_device"], false);
}

TEST_F(ShowTest, InfoCountsIntactSuperblocks) {
  Flip(kSecondSuperblockOffset + 200);
  EXPECT_EQ(ShowJson({"info", "--json", image_})["superblock_copies_intact"],
            3);
}

TEST_F(ShowTest, DumpHasEveryInodeWithItsPaths) {
  const Json dump = ShowJson({"dump", image_});
  EXPECT_EQ(dump["superblock"]["device_bytes"], kImageBytes);
  ASSERT_EQ(dump["inodes"].size(), 6u);
  EXPECT_EQ(dump["inodes"][0]["paths"], Json({"/"}));
  bool seen = false;
  for (const Json& inode : dump["inodes"]) {
    if (inode["type"] != "sst") continue;
    seen = true;
    EXPECT_EQ(inode["paths"], Json({"/db/000012.sst", "/db/old/000012.sst"}));
    EXPECT_EQ(inode["size_bytes"], 10000);
    uint64_t blocks = 0;
    for (const Json& extent : inode["extents"]) {
      blocks += extent["blocks"].get<uint64_t>();
    }
    EXPECT_EQ(blocks, 3u);
  }
  EXPECT_TRUE(seen);
}

TEST_F(ShowTest, FsckOfASoundVolume) {
  const std::string text = Show({"fsck", image_});
  EXPECT_NE(text.find(": clean, 3 files, 3 directories"), std::string::npos)
      << text;
  EXPECT_EQ(ShowJson({"fsck", "--json", image_})["clean"], true);
}

TEST_F(ShowTest, FsckOfADamagedVolume) {
  Flip(kSecondSuperblockOffset + 200);
  const std::string before = ReadHostFile(image_);
  ToolRun run = RunDiofs({"fsck", image_});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_NE(run.out.find("problem: superblock copy 2 of 4"), std::string::npos)
      << run.out;
  EXPECT_NE(run.out.find(": 1 problem\n"), std::string::npos) << run.out;
  run = RunDiofs({"fsck", "--json", image_});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_EQ(Json::parse(run.out, nullptr, false)["clean"], false);
  EXPECT_TRUE(ReadHostFile(image_) == before);
}

TEST_F(ShowTest, FsckRepairsWhatItCan) {
  EXPECT_EQ(RunDiofs({"fsck", "--repair", image_}).exit_code, 0);
  Flip(kSecondSuperblockOffset + 200);
  ToolRun run = RunDiofs({"fsck", "--repair", image_});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_NE(run.out.find("repaired: rewrote superblock copies 2 of 4\n"),
            std::string::npos)
      << run.out;
  EXPECT_NE(run.out.find(": clean, "), std::string::npos) << run.out;
  EXPECT_EQ(RunDiofs({"fsck", image_}).exit_code, 0);
  for (const uint64_t copy : {0, 1, 2, 3}) {
    Flip(SuperblockOffset(kImageBytes, copy) + 200);
  }
  run = RunDiofs({"fsck", "--repair", "--json", image_});
  EXPECT_EQ(run.exit_code, 4);
  EXPECT_EQ(Json::parse(run.out)["repaired"], Json::array());
}

TEST_F(ShowTest, FsckThatCannotBeMade) {
  ExpectFailure(RunDiofs({"fsck", dir_.File("none")}), 8, "none");
  std::ofstream(dir_.File("blank")) << std::string(16 << 20, '\0');
  ExpectFailure(RunDiofs({"fsck", dir_.File("blank")}), 8, "not formatted");
  ExpectFailure(RunDiofs({"fsck", "--bogus", image_}), 16,
                "unknown flag --bogus");
  ExpectFailure(RunDiofs({"fsck"}), 16, "DEVICE");
}

TEST_F(ShowTest, ScrubOfASoundVolume) {
  const ToolRun run = RunDiofs({"scrub", image_});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out,
            "note: 2 files without checksums (9.8 KiB) were read and compared "
            "with nothing; checksums=1 makes some for new files\n" +
                image_ + ": clean, 3 files, 9.8 KiB read\n");
}

TEST_F(ShowTest, ScrubFindsTheByteThatChanged) {
  MountOptions options;
  options.checksums = true;
  uint64_t start = 0;
  {
    const std::shared_ptr<Volume> volume = Mount(options);
    ASSERT_TRUE(
        WriteFile(volume.get(), "/db/000014.sst", Pattern(3, 70000), true)
            .ok());
    OpenFilePtr file;
    ASSERT_TRUE(volume->Open("/db/000014.sst", &file).ok());
    start = file->inode()->map()->extents()[0].start * kBlockBytes;
  }
  EXPECT_EQ(RunDiofs({"scrub", image_}).exit_code, 0);
  Flip(start + 66000);
  ToolRun run = RunDiofs({"scrub", image_});
  EXPECT_EQ(run.exit_code, 4) << run.err;
  EXPECT_EQ(run.out.substr(0, run.out.find('\n')),
            "problem: /db/000014.sst: bytes 65536 to 69999 are not what was "
            "written");
  run = RunDiofs({"scrub", "--json", image_});
  EXPECT_EQ(run.exit_code, 4) << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_EQ(json["clean"], false);
  EXPECT_EQ(json["problems"].size(), 1u);
  EXPECT_EQ(json["unverified_files"], 2);
  EXPECT_EQ(RunDiofs({"scrub", image_ + "x"}).exit_code, 8);
  EXPECT_EQ(RunDiofs({"scrub"}).exit_code, 16);
}

TEST_F(ShowTest, DirtyVolumeIsShownAsTheNextMountFindsIt) {
  const std::string copy = dir_.File("killed.img");
  {
    const std::shared_ptr<Volume> volume = Mount();
    EXPECT_TRUE(WriteFile(volume.get(), "/db/LOCK", "", true).ok());
    std::ofstream(copy, std::ios::binary) << ReadHostFile(image_);
  }
  const ToolRun ls = RunDiofs({"ls", copy, "/db"});
  EXPECT_EQ(ls.exit_code, 0) << ls.err;
  EXPECT_NE(ls.out.find("LOCK\n"), std::string::npos) << ls.out;
  EXPECT_EQ(Json::parse(RunDiofs({"info", "--json", copy}).out, nullptr,
                        false)["superblock"]["state"],
            "dirty");
  const ToolRun fsck = RunDiofs({"fsck", copy});
  EXPECT_EQ(fsck.exit_code, 0) << fsck.out;
  EXPECT_NE(fsck.out.find("note: not unmounted cleanly"), std::string::npos);
}

TEST_F(ShowTest, HeldVolumeNamesItsOwner) {
  const std::shared_ptr<Volume> volume = Mount();
  const std::string owner = "held by process " + std::to_string(getpid());
  for (const char* const command : {"ls", "df", "info", "dump"}) {
    ExpectFailure(RunDiofs({command, "--wait=0", image_}), 1, owner);
  }
  ExpectFailure(RunDiofs({"fsck", "--wait=0", image_}), 8, owner);
  const std::string before = ReadHostFile(image_);
  ExpectFailure(RunDiofs({"mkfs", "--force", image_}), 1, owner);
  EXPECT_TRUE(ReadHostFile(image_) == before);
}

TEST_F(ShowTest, UnformattedDamagedAndNewerVolumes) {
  const std::string blank = dir_.File("blank");
  std::ofstream(blank) << std::string(16 << 20, '\0');
  for (const char* const command : {"ls", "df", "info", "dump"}) {
    ExpectFailure(RunDiofs({command, blank}), 1,
                  "not formatted; make a volume of it with: diofs mkfs");
  }
  // Another version in every copy.
  const std::string newer = dir_.File("newer");
  std::string image = ReadHostFile(image_);
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    image[SuperblockOffset(kImageBytes, i) + 8] = 9;
    image[SuperblockOffset(kImageBytes, i) + 100] ^= 1;
  }
  std::ofstream(newer, std::ios::binary) << image;
  ExpectFailure(RunDiofs({"info", newer}), 1, "format version 9");
  ExpectFailure(RunDiofs({"fsck", newer}), 8, "format version 9");
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    Flip(SuperblockOffset(kImageBytes, i) + 100);
  }
  ExpectFailure(RunDiofs({"ls", image_}), 1, "damaged superblock");
}

TEST_F(ShowTest, InfoOfADamagedJournalShowsTheRest) {
  const Json info = ShowJson({"info", "--json", image_});
  for (const Json& region : info["superblock"]["journal_regions"]) {
    Flip(region["offset_bytes"].get<uint64_t>() + 20);
  }
  const ToolRun run = RunDiofs({"info", image_});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_NE(run.out.find("label       orders\n"), std::string::npos);
  EXPECT_NE(run.out.find(", damaged\n"), std::string::npos) << run.out;
  EXPECT_NE(run.err.find("diofs fsck"), std::string::npos) << run.err;
  EXPECT_EQ(RunDiofs({"fsck", image_}).exit_code, 4);
}

// No image is written through: there is one way, and nothing to remember.
TEST_F(ShowTest, Probe) {
  const ToolRun text = RunDiofs({"probe", "--rounds=5", image_});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("not to be had"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("sync=flush"), std::string::npos) << text.out;
  const ToolRun json = RunDiofs({"probe", "--rounds=5", "--json", image_});
  const Json parsed = Json::parse(json.out);
  EXPECT_EQ(parsed["device"], image_);
  EXPECT_EQ(parsed["rounds"], 5);
  EXPECT_TRUE(parsed["write_through_us"].is_null());
  EXPECT_GT(parsed["write_and_flush_us"], 0.0);
  EXPECT_EQ(parsed["sync_auto"], "flush");
  EXPECT_EQ(RunDiofs({"fsck", image_}).exit_code, 0);
  EXPECT_EQ(RunDiofs({"probe", "--rounds=0", image_}).exit_code, 2);
  const std::shared_ptr<Volume> held = Mount();
  const ToolRun busy = RunDiofs({"probe", "--wait=0", image_});
  EXPECT_EQ(busy.exit_code, 1);
  EXPECT_NE(busy.err.find(image_), std::string::npos) << busy.err;
}

TEST_F(ShowTest, StandardOutputThatTakesNothing) {
  const std::string line = QuotedTool() + " dump " + ShellQuoted(image_) +
                           " >/dev/full 2>" + ShellQuoted(dir_.File("err"));
  const int status = std::system(line.c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_EQ(ReadHostFile(dir_.File("err")),
            "diofs dump: standard output: No space left on device\n");
}

// ---- The program itself ----------------------------------------------------

TEST(DispatchTest, Help) {
  const ToolRun overview = RunDiofs({"--help"});
  EXPECT_EQ(overview.exit_code, 0);
  EXPECT_EQ(RunDiofs({"help"}).out, overview.out);
  for (const char* const command :
       {"mkfs", "ls", "df", "info", "fsck", "dump"}) {
    EXPECT_NE(overview.out.find(std::string("\n  ") + command + " "),
              std::string::npos);
    const ToolRun help = RunDiofs({command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_EQ(help.err, "");
    EXPECT_NE(help.out.find("usage: diofs " + std::string(command)),
              std::string::npos);
    EXPECT_EQ(RunDiofs({"help", command}).out, help.out);
  }
}

TEST(DispatchTest, WrongUsage) {
  ExpectFailure(RunDiofs({}), 2, "diofs --help");
  ExpectFailure(RunDiofs({"frobnicate"}), 2,
                "unknown command frobnicate; see diofs --help");
  ExpectFailure(RunDiofs({"--bogus"}), 2,
                "unknown flag --bogus; see diofs --help");
  ExpectFailure(RunDiofs({"ls", "--bogus", "/x"}), 2,
                "unknown flag --bogus; see diofs ls --help");
  ExpectFailure(RunDiofs({"df", "a", "b"}), 2, "unexpected argument \"b\"");
  ExpectFailure(RunDiofs({"help", "frobnicate"}), 2, "frobnicate");
}

}  // namespace
}  // namespace diofs
