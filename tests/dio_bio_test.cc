#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "dio/bio.h"

namespace diofs {
namespace {

alignas(4096) char g_memory[256 * 1024];

class BioTest : public testing::Test {
 protected:
  BioTest() : bio_(pool_.TryGet()) {}
  ~BioTest() override { pool_.Put(bio_); }

  void Reset(uint32_t max_bytes, uint32_t max_segments) {
    BioHead head;
    head.io_class = 3;
    head.file_offset = 1 << 20;
    head.device_offset = 8192;
    head.max_bytes = max_bytes;
    head.max_segments = max_segments;
    bio_->Reset(head);
  }

  // What follows in the file and on the device.
  uint32_t Append(void* memory, uint32_t length) {
    return bio_->TryAppend((1 << 20) + bio_->bytes(), bio_->device_end(),
                           memory, length);
  }

  BioPool pool_{4};
  Bio* const bio_;
};

TEST_F(BioTest, StartsEmpty) {
  Reset(4096, 1);
  EXPECT_EQ(512u, Append(g_memory, 512));
  bio_->done_bytes = 17;
  Reset(4096, 1);
  EXPECT_EQ(0u, bio_->bytes());
  EXPECT_EQ(0u, bio_->segment_count());
  EXPECT_EQ(8192u, bio_->device_offset());
  EXPECT_EQ(8192u, bio_->device_end());
  EXPECT_EQ(3, bio_->io_class());
  EXPECT_EQ(0u, bio_->done_bytes);
  EXPECT_EQ(0u, bio_->limit_bytes);
  EXPECT_EQ(nullptr, bio_->top());
}

TEST_F(BioTest, AdjacentMemoryExtendsTheLastSegment) {
  Reset(64 * 1024, 2);
  EXPECT_EQ(512u, Append(g_memory, 512));
  EXPECT_EQ(512u, Append(g_memory + 512, 512));
  EXPECT_EQ(1u, bio_->segment_count());
  EXPECT_EQ(1024u, bio_->segments()[0].iov_len);
  EXPECT_EQ(512u, Append(g_memory + 4096, 512));
  EXPECT_EQ(2u, bio_->segment_count());
  EXPECT_EQ(8192u + 1536, bio_->device_end());
  // Full of segments, but the last one still grows.
  EXPECT_EQ(0u, Append(g_memory, 512));
  EXPECT_EQ(512u, Append(g_memory + 4096 + 512, 512));
}

TEST_F(BioTest, WhatDoesNotFollowIsNotTaken) {
  Reset(64 * 1024, 8);
  EXPECT_EQ(512u, Append(g_memory, 512));
  const uint64_t file = (1 << 20) + 512;
  EXPECT_EQ(0u, bio_->TryAppend(file, 8192, g_memory + 512, 512));
  EXPECT_EQ(0u, bio_->TryAppend(file, 9216, g_memory + 512, 512));
  EXPECT_EQ(0u, bio_->TryAppend(file + 512, 8704, g_memory + 512, 512));
  EXPECT_EQ(0u, bio_->TryAppend(file - 512, 8704, g_memory + 512, 512));
  EXPECT_EQ(512u, bio_->TryAppend(file, 8704, g_memory + 512, 512));
}

TEST_F(BioTest, ByteLimitCuts) {
  Reset(4096, 8);
  EXPECT_EQ(3072u, Append(g_memory, 3072));
  EXPECT_EQ(1024u, Append(g_memory + 8192, 3072));
  EXPECT_EQ(0u, Append(g_memory + 8192 + 1024, 2048));
  EXPECT_EQ(4096u, bio_->bytes());
}

TEST_F(BioTest, NeverMoreSegmentsThanItHasRoomFor) {
  Reset(UINT32_MAX, UINT32_MAX);
  for (uint32_t i = 0; i < Bio::kMaxSegments; ++i) {
    ASSERT_EQ(512u, Append(g_memory + size_t{1024} * i, 512));
  }
  EXPECT_EQ(0u, Append(g_memory + size_t{1024} * Bio::kMaxSegments, 512));
}

TEST_F(BioTest, TheRemainderIsWhatHasNotMoved) {
  Reset(64 * 1024, 4);
  Append(g_memory, 1024);
  Append(g_memory + 4096, 1024);
  Append(g_memory + 8192, 1024);
  EXPECT_EQ(3, bio_->FillRemainder());
  bio_->done_bytes = 1024;
  ASSERT_EQ(2, bio_->FillRemainder());
  EXPECT_EQ(g_memory + 4096, bio_->remainder[0].iov_base);
  bio_->done_bytes = 512;
  bio_->limit_bytes = 2048 + 512;
  ASSERT_EQ(3, bio_->FillRemainder());
  EXPECT_EQ(g_memory + 512, bio_->remainder[0].iov_base);
  EXPECT_EQ(512u, bio_->remainder[0].iov_len);
  EXPECT_EQ(1024u, bio_->remainder[1].iov_len);
  EXPECT_EQ(512u, bio_->remainder[2].iov_len);
}

TEST(BioPool, CountsAndReuses) {
  BioPool pool(2);
  Bio* const bio = pool.TryGet();
  EXPECT_EQ(1u, pool.in_use());
  pool.Put(bio);
  EXPECT_EQ(0u, pool.in_use());
  EXPECT_EQ(bio, pool.TryGet());
  Bio* const other = pool.TryGet();
  EXPECT_NE(nullptr, other);
  EXPECT_EQ(nullptr, pool.TryGet());
  pool.Put(bio);
  EXPECT_EQ(bio, pool.TryGet());
  pool.Put(bio);
  pool.Put(other);
}

TEST(BioPool, ManyThreads) {
  BioPool pool(8);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = 0; i < 1000; ++i) {
        Bio* const first = pool.TryGet();
        Bio* const second = pool.TryGet();
        BioHead head;
        head.device_offset = i;
        first->Reset(head);
        head.device_offset = i + 1;
        second->Reset(head);
        EXPECT_NE(first, second);
        EXPECT_EQ(i, first->device_offset());
        pool.Put(first);
        pool.Put(second);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(0u, pool.in_use());
}

}  // namespace
}  // namespace diofs
