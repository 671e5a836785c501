#include <gtest/gtest.h>

#include <cerrno>
#include <thread>
#include <vector>

#include "dio/bio.h"

namespace diofs {
namespace {

alignas(4096) char g_memory[256 * 1024];

class BioTest : public testing::Test {
 protected:
  BioTest() : bio_(BioPool::Get()) {}
  ~BioTest() override { BioPool::Put(bio_); }

  void Reset(uint32_t max_bytes, uint32_t max_segments) {
    bio_->Reset(nullptr, IoDirection::kRead, 3, 8192, max_bytes, max_segments);
  }

  Bio* const bio_;
};

TEST_F(BioTest, StartsEmpty) {
  Reset(4096, 1);
  bio_->done_bytes = 17;
  bio_->retries = 3;
  Reset(4096, 1);
  EXPECT_EQ(0u, bio_->bytes());
  EXPECT_EQ(0u, bio_->segment_count());
  EXPECT_EQ(8192u, bio_->device_offset());
  EXPECT_EQ(8192u, bio_->device_end());
  EXPECT_EQ(3, bio_->io_class());
  EXPECT_EQ(0u, bio_->done_bytes);
  EXPECT_EQ(0u, bio_->retries);
}

TEST_F(BioTest, AdjacentMemoryExtendsTheLastSegment) {
  Reset(64 * 1024, 2);
  EXPECT_EQ(512u, bio_->Append(g_memory, 512));
  EXPECT_EQ(512u, bio_->Append(g_memory + 512, 512));
  EXPECT_EQ(1u, bio_->segment_count());
  EXPECT_EQ(1024u, bio_->segments()[0].iov_len);
  EXPECT_EQ(512u, bio_->Append(g_memory + 4096, 512));
  EXPECT_EQ(2u, bio_->segment_count());
  EXPECT_EQ(8192u + 1536, bio_->device_end());
  // Full of segments, but the last one still grows.
  EXPECT_EQ(0u, bio_->Append(g_memory, 512));
  EXPECT_EQ(512u, bio_->Append(g_memory + 4096 + 512, 512));
}

TEST_F(BioTest, ByteLimitCuts) {
  Reset(4096, 8);
  EXPECT_EQ(3072u, bio_->Append(g_memory, 3072));
  EXPECT_EQ(1024u, bio_->Append(g_memory + 8192, 3072));
  EXPECT_EQ(0u, bio_->Append(g_memory + 8192 + 1024, 2048));
  EXPECT_EQ(4096u, bio_->bytes());
}

TEST_F(BioTest, NeverMoreSegmentsThanItHasRoomFor) {
  Reset(UINT32_MAX, UINT32_MAX);
  for (uint32_t i = 0; i < Bio::kMaxSegments; ++i) {
    ASSERT_EQ(512u, bio_->Append(g_memory + size_t{1024} * i, 512));
  }
  EXPECT_EQ(0u, bio_->Append(g_memory + size_t{1024} * Bio::kMaxSegments, 512));
}

TEST(BioPool, CountsAndReuses) {
  const uint64_t before = BioPool::in_use();
  Bio* const bio = BioPool::Get();
  EXPECT_EQ(before + 1, BioPool::in_use());
  BioPool::Put(bio);
  EXPECT_EQ(before, BioPool::in_use());
  Bio* const again = BioPool::Get();
  EXPECT_EQ(bio, again);
  BioPool::Put(again);
}

TEST(BioPool, ManyThreads) {
  const uint64_t before = BioPool::in_use();
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 1000; ++i) {
        Bio* const first = BioPool::Get();
        Bio* const second = BioPool::Get();
        first->Reset(nullptr, IoDirection::kWrite, 0, 1, 1, 1);
        second->Reset(nullptr, IoDirection::kRead, 0, 2, 1, 1);
        EXPECT_NE(first, second);
        EXPECT_EQ(1u, first->device_offset());
        BioPool::Put(first);
        BioPool::Put(second);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(before, BioPool::in_use());
}

}  // namespace
}  // namespace diofs
