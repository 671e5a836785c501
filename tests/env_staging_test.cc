// ctest: one-thread

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "env/staging.h"
#include "env/staging_file.h"
#include "env/staging_format.h"
#include "env/staging_reader.h"
#include "tests/child_process.h"
#include "tests/staging_rig.h"
#include "tests/temp_dir.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kRingBytes = kMinStagingBytes;

class StagingTest : public testing::Test {
 protected:
  void Make() {
    staging_ = StartStaging(path_);
    ASSERT_NE(staging_, nullptr);
  }
  // What the next mount would find.
  Result Read(StagedContent* content) {
    if (Result r = StagingFile::Open(path_, /*read_only=*/true, &read_);
        !r.ok()) {
      return r;
    }
    return ReadStaging(*read_, content);
  }
  // Turns one bit of the file around.
  void Flip(uint64_t bit) {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    const auto at = static_cast<std::streamoff>(bit / 8);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 1 << bit % 8));
  }

  const TempDir dir_;
  const std::string path_ = dir_.path() + "/staging";
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<StagingFile> read_;
};

TEST(SealedPosition, AnyBitThatTurnsIsSeen) {
  for (const uint64_t position :
       {uint64_t{0}, uint64_t{8}, uint64_t{123456}, uint64_t{1} << 58}) {
    const uint64_t word = SealPosition(position);
    uint64_t unsealed = 1;
    ASSERT_TRUE(UnsealPosition(word, &unsealed));
    EXPECT_EQ(unsealed, position);
    for (int bit = 0; bit < 64; ++bit) {
      EXPECT_FALSE(UnsealPosition(word ^ uint64_t{1} << bit, &unsealed)) << bit;
    }
  }
}

TEST_F(StagingTest, AFileIsItsOwnersAloneAndHasAllItsSpace) {
  std::unique_ptr<StagingFile> file;
  ASSERT_TRUE(StagingFile::Create(path_, TestStagingHeader(), &file).ok());
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_GE(static_cast<uint64_t>(status.st_blocks) * 512,
            kStagingRingOffset + kRingBytes);
  EXPECT_EQ(StagingFile::Create(path_, TestStagingHeader(), &file).error(),
            EEXIST);
  file.reset();
  ASSERT_TRUE(StagingFile::Open(path_, true, &file).ok());
  EXPECT_EQ(file->header().inode, 5u);
  EXPECT_EQ(file->header().mount_nonce, TestStagingHeader().mount_nonce);
  ASSERT_TRUE(file->Remove().ok());
  EXPECT_EQ(StagingFile::Open(path_, true, &file).error(), ENOENT);
}

TEST_F(StagingTest, WhereTheHostHasNoRoomNothingIsLeft) {
  ChildProcess child([this](const ChildProcess::Parent&) {
    std::unique_ptr<StagingFile> file;
    (void)std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1 << 20, 1 << 20};
    return setrlimit(RLIMIT_FSIZE, &limit) == 0 &&
           !StagingFile::Create(path_, TestStagingHeader(), &file).ok();
  });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_FALSE(fs::exists(path_));
}

TEST_F(StagingTest, ALinkIsNotFollowed) {
  std::unique_ptr<StagingFile> file;
  ASSERT_TRUE(StagingFile::Create(path_, TestStagingHeader(), &file).ok());
  const std::string link = dir_.path() + "/link";
  fs::create_symlink(path_, link);
  EXPECT_EQ(StagingFile::Open(link, true, &file).error(), ELOOP);
  fs::remove(path_);
  EXPECT_EQ(StagingFile::Create(link, TestStagingHeader(), &file).error(),
            EEXIST);
}

TEST_F(StagingTest, WhatIsNotAStagingFileIsRefused) {
  std::unique_ptr<StagingFile> file;
  ASSERT_TRUE(StagingFile::Create(path_, TestStagingHeader(), &file).ok());
  ASSERT_EQ(chmod(path_.c_str(), 0640), 0);
  EXPECT_EQ(StagingFile::Open(path_, true, &file).error(), EPERM);
  ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
  ASSERT_EQ(chown(path_.c_str(), geteuid() + 1, getegid()), 0);
  EXPECT_EQ(StagingFile::Open(path_, true, &file).error(), EPERM);
  ASSERT_EQ(chown(path_.c_str(), geteuid(), getegid()), 0);
  ASSERT_TRUE(StagingFile::Open(path_, true, &file).ok());
  for (uint64_t bit = 0; bit < uint64_t{kStagingHeaderFieldBytes} * 8; ++bit) {
    Flip(bit);
    ASSERT_FALSE(StagingFile::Open(path_, true, &file).ok()) << bit;
    Flip(bit);
  }
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{100}, kStagingRingOffset,
                               kStagingRingOffset + kRingBytes - 1,
                               kStagingRingOffset + kRingBytes + 1}) {
    fs::resize_file(path_, bytes);
    EXPECT_EQ(StagingFile::Open(path_, true, &file).error(), EUCLEAN) << bytes;
  }
}

TEST_F(StagingTest, AFreshOneHoldsNothing) {
  std::unique_ptr<StagingFile> file;
  ASSERT_TRUE(StagingFile::Create(path_, TestStagingHeader(), &file).ok());
  StagedContent content;
  ASSERT_TRUE(Read(&content).ok());
  EXPECT_EQ(content.state, StagingState::kFresh);
  EXPECT_TRUE(content.records.empty());
  EXPECT_TRUE(content.bases.empty());
}

// What is read is always a part of what was staged, without a gap, up to the
// last record; and whatever somebody still needs is in it.
TEST_F(StagingTest, MatchesAQueueThroughManyRounds) {
  Make();
  std::mt19937_64 rng(TestSeed());
  struct Staged {
    size_t holder;
    uint64_t mark;
    std::string body;
  };
  std::array<std::unique_ptr<Staging::Hold>, 4> holds;
  std::array<uint64_t, 4> released{};
  for (auto& hold : holds) {
    hold = std::make_unique<Staging::Hold>(staging_.get());
  }
  std::deque<Staged> model;
  uint64_t number = 0;  // of the first in `model`
  uint64_t refused = 0;
  uint64_t bytes = 0;
  for (uint64_t step = 0; bytes < 40 * kRingBytes; ++step) {
    const size_t holder = rng() % holds.size();
    if (rng() % 4 != 0) {
      const std::string body(rng() % (rng() % 8 == 0 ? 200000 : 300),
                             static_cast<char>(rng()));
      const uint64_t n = number + model.size();
      if (holds[holder]->Stage(StagedType::kData, n, n * 3, body)) {
        model.push_back({holder, holds[holder]->mark(), body});
        bytes += body.size();
      } else {
        ++refused;
      }
    } else {
      released[holder] = holds[holder]->mark();
      holds[holder]->Release(released[holder]);
    }
    if (step % 50 != 0) continue;
    StagedContent content;
    const Result read = Read(&content);
    ASSERT_TRUE(read.ok()) << read.ToString();
    ASSERT_EQ(content.state, StagingState::kActive);
    ASSERT_LE(content.records.size(), model.size());
    while (model.size() > content.records.size()) {
      const Staged& gone = model.front();
      ASSERT_LE(gone.mark, released[gone.holder]) << "still needed: " << number;
      model.pop_front();
      ++number;
    }
    for (size_t i = 0; i < model.size(); ++i) {
      const StagedRecord& record = content.records[i];
      ASSERT_EQ(record.type, StagedType::kData);
      ASSERT_EQ(record.number, number + i);
      ASSERT_EQ(record.offset, (number + i) * 3);
      ASSERT_EQ(record.body, model[i].body);
    }
  }
  EXPECT_GT(refused, 0u);
}

TEST_F(StagingTest, WhereThereIsNoRoomItSaysSo) {
  Make();
  Staging::Hold slow(staging_.get());
  Staging::Hold fast(staging_.get());
  const std::string body(10000, 'b');
  ASSERT_TRUE(slow.Stage(StagedType::kData, 1, 0, "old"));
  const uint64_t mark = slow.mark();
  uint64_t staged = 0;
  while (fast.Stage(StagedType::kData, 2, staged, body)) {
    staged += body.size();
    fast.Release(fast.mark());
    EXPECT_EQ(staging_->crowded(), staged > kRingBytes / 2 - 1000) << staged;
  }
  EXPECT_GT(staged, kRingBytes - 2 * body.size());
  EXPECT_TRUE(staging_->crowded());
  EXPECT_TRUE(slow.OlderThan(staging_->old()));
  EXPECT_FALSE(fast.OlderThan(staging_->old()));
  // A smaller one still fits, and so does this one when the old one has gone.
  EXPECT_TRUE(fast.Stage(StagedType::kData, 2, staged, "x"));
  slow.Release(mark);
  EXPECT_TRUE(fast.Stage(StagedType::kData, 2, staged, body));
  EXPECT_FALSE(staging_->crowded());
  EXPECT_FALSE(
      fast.Stage(StagedType::kData, 2, 0, std::string(kRingBytes, 'x')));
}

TEST_F(StagingTest, WithoutAStagingNothingIsStaged) {
  Staging::Hold hold(nullptr);
  EXPECT_FALSE(hold.Stage(StagedType::kData, 1, 0, "x"));
  hold.Release(hold.mark());
  EXPECT_FALSE(hold.OlderThan(UINT64_MAX));
}

TEST_F(StagingTest, AClosedOneTakesNothing) {
  Make();
  Staging::Hold journal(staging_.get());
  Staging::Hold file(staging_.get());
  ASSERT_TRUE(journal.Stage(StagedType::kOperations, 1, 0, "op"));
  EXPECT_FALSE(staging_->Close(journal));
  EXPECT_FALSE(file.Stage(StagedType::kData, 1, 0, "x"));
  staging_->SetDone();
  StagedContent content;
  ASSERT_TRUE(Read(&content).ok());
  EXPECT_EQ(content.state, StagingState::kDone);
}

TEST_F(StagingTest, AClosedOneTellsThatSomethingIsLeft) {
  Make();
  Staging::Hold other(staging_.get());
  Staging::Hold tail(staging_.get());
  ASSERT_TRUE(tail.Stage(StagedType::kData, 1, 0, "x"));
  EXPECT_TRUE(staging_->Close(other));
}

TEST_F(StagingTest, TheLastBaseCountsAndTheOneBeforeATentativeOneToo) {
  Make();
  StagedContent content;
  for (uint32_t i = 1; i < 6; ++i) {
    staging_->NoteBase({uint64_t{i} * 10, i, false});
    ASSERT_TRUE(Read(&content).ok());
    ASSERT_EQ(content.bases.size(), 1u);
    EXPECT_EQ(content.bases[0].sequence, i * 10);
    EXPECT_EQ(content.bases[0].chain, i);
  }
  staging_->NoteBase({1000, 77, true});
  ASSERT_TRUE(Read(&content).ok());
  ASSERT_EQ(content.bases.size(), 2u);
  EXPECT_EQ(content.bases[0].sequence, 1000u);
  EXPECT_EQ(content.bases[1].sequence, 50u);
  staging_->NoteBase({1001, 78, false});
  ASSERT_TRUE(Read(&content).ok());
  ASSERT_EQ(content.bases.size(), 1u);
  EXPECT_EQ(content.bases[0].sequence, 1001u);
  // A process that dies while it writes the next one leaves this one.
  StagingWords* const words = staging_->file().words();
  words->bases[0].sequence = 5;
  words->bases[0].number = 99;
  ASSERT_TRUE(Read(&content).ok());
  ASSERT_EQ(content.bases.size(), 1u);
  EXPECT_EQ(content.bases[0].sequence, 1001u);
  words->bases[1].chain = 0;
  EXPECT_EQ(Read(&content).error(), EUCLEAN);
}

TEST_F(StagingTest, AnyBitThatTurnsInWhatCountsIsSeen) {
  Make();
  Staging::Hold hold(staging_.get());
  ASSERT_TRUE(hold.Stage(StagedType::kOperations, 1, 0, "operation"));
  ASSERT_TRUE(hold.Stage(StagedType::kData, 9, 1000, "seven.."));
  const uint64_t bytes = hold.mark();
  StagedContent content;
  ASSERT_TRUE(Read(&content).ok());
  ASSERT_EQ(content.records.size(), 2u);
  const uint64_t first = kStagingRingOffset * 8;
  for (uint64_t bit = first; bit < first + bytes * 8; ++bit) {
    Flip(bit);
    const Result read = Read(&content);
    Flip(bit);
    // What fills a record up to 8 bytes is no part of it.
    const uint64_t byte = (bit - first) / 8;
    const bool fill = (byte >= 41 && byte < 48) || byte == 87;
    ASSERT_EQ(read.ok(), fill) << byte;
  }
  const uint64_t words = kStagingWordsOffset * 8;
  for (const uint64_t word : {0, 64, 128}) {
    for (uint64_t bit = 0; bit < 64; ++bit) {
      Flip(words + word * 8 + bit);
      ASSERT_EQ(Read(&content).error(), EUCLEAN) << word << ", bit " << bit;
      Flip(words + word * 8 + bit);
    }
  }
  ASSERT_TRUE(Read(&content).ok());
}

// A record that was valid at another place is none.
TEST_F(StagingTest, ARecordCountsInItsPlaceOnly) {
  std::string bytes(StagedRecord::Bytes(3), '\0');
  StagedRecord record;
  record.body = "abc";
  record.EncodeTo(bytes.data(), 64);
  StagedRecord read;
  std::string_view view = bytes;
  ASSERT_TRUE(StagedRecord::DecodeFrom(&view, 64, &read).ok());
  EXPECT_TRUE(view.empty());
  EXPECT_EQ(read.body, "abc");
  view = bytes;
  EXPECT_EQ(StagedRecord::DecodeFrom(&view, 72, &read).error(), EUCLEAN);
  for (size_t length = 0; length < bytes.size(); ++length) {
    view = std::string_view(bytes).substr(0, length);
    EXPECT_EQ(StagedRecord::DecodeFrom(&view, 64, &read).error(), EUCLEAN);
  }
}

// Whatever a process was told is staged is there after its death, and nothing
// that is half there counts.
TEST_F(StagingTest, ADeathAtAnyTimeLeavesWhatWasStaged) {
  std::mt19937_64 rng(TestSeed());
  void* const shared = mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* const told = new (shared) std::atomic<uint64_t>(0);
  for (uint64_t round = 0; round < ScaledRounds(200); ++round) {
    *told = 0;
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const std::unique_ptr<Staging> staging = StartStaging(path_);
      if (staging == nullptr) ExitChild(1);
      Staging::Hold hold(staging.get());
      for (uint64_t n = 1;; ++n) {
        const std::string body(n * 7919 % 1000, static_cast<char>(n));
        while (!hold.Stage(StagedType::kData, n, 0, body)) {
          hold.Release(hold.mark());
        }
        told->store(n);
        if (n % 100 == 0) hold.Release(hold.mark());
        if (n % 64 == 0) {
          staging->NoteBase({n, static_cast<uint32_t>(n), false});
        }
      }
    }
    while (*told == 0) usleep(10);
    usleep(rng() % 2000);
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    StagedContent content;
    const Result read = Read(&content);
    ASSERT_TRUE(read.ok()) << read.ToString();
    const uint64_t last = told->load();
    ASSERT_FALSE(content.records.empty());
    ASSERT_GE(content.records.back().number, last);
    ASSERT_LE(content.records.back().number, last + 1);
    for (const StagedRecord& record : content.records) {
      const uint64_t n = record.number;
      ASSERT_EQ(record.body,
                std::string(n * 7919 % 1000, static_cast<char>(n)));
    }
    ASSERT_EQ(content.bases.size(), last >= 65 ? 1u : content.bases.size());
    fs::remove(path_);
  }
  ASSERT_EQ(munmap(shared, 4096), 0);
}

// The memory is the parent's alone: in the child the place is free, and what
// the child puts there stays when its copy of the object goes.
TEST_F(StagingTest, AForkedChildLeavesItAlone) {
  Make();
  Staging::Hold hold(staging_.get());
  ASSERT_TRUE(hold.Stage(StagedType::kData, 1, 0, "x"));
  char* const place = staging_->file().At(0);
  ChildProcess child([&](const ChildProcess::Parent&) {
    void* const mine =
        mmap(place, 4096, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (mine != place) return false;
    *place = 'm';
    staging_.reset();
    return *place == 'm';
  });
  EXPECT_EQ(child.Wait(), 0);
  EXPECT_TRUE(hold.Stage(StagedType::kData, 2, 0, "y"));
  StagedContent content;
  ASSERT_TRUE(Read(&content).ok());
  EXPECT_EQ(content.records.size(), 2u);
}

}  // namespace
}  // namespace diofs
