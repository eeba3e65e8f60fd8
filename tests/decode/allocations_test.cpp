// Once the frame loop runs it asks for no memory: every call of malloc and its kin in the process is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>

#include "checkpoint/models.h"
#include "decode/frame_loop.h"

#if defined(__GLIBC__) && !defined(HEARTMULA_SANITIZED)
#define HEARTMULA_COUNTS_ALLOCATIONS 1

namespace {
std::atomic<int64_t> allocations{0};
}

// The program's own malloc stands before glibc's, for operator new and for every library.
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* memory, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, bytes);
}
}
#endif

namespace heartmula {
namespace {

#if defined(HEARTMULA_COUNTS_ALLOCATIONS)

TEST(Allocations, are_counted) {
  const int64_t before = allocations;
  delete new int(1);
  std::vector<std::byte>(100).resize(1000);
  EXPECT_GE(allocations - before, 1);
}

/// Allocations from the end of the first new frame to the end of the last.
int64_t allocations_between_frames(DType dtype, float guidance, int threads, std::span<const Frame> begin = {},
                                   int32_t audio_eos_id = 1 << 20) {
  constexpr int64_t kFrames = 60;
  Models models({.checkpoint = {.model_path = std::string(HEARTMULA_TEST_DATA) + "/tiny1", .mula_dtype = dtype},
                 .machine = {.threads = threads}},
                CheckpointParts::kAll, nullptr);
  FrameLoopSettings settings{.sampling = {.guidance = guidance}, .max_audio_length_ms = kFrames * kFrameMs};
  settings.audio_eos_id = audio_eos_id;
  settings.ignore_eos = true;
  const Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), "piano,happy", "[verse]\nla la la");
  const PhiloxNoise noise(7);
  LmBatch batch(
      models.lm_ops(), models.lm(),
      {.streams = settings.sampling.streams(), .positions = required_context(models.lm_config(), prompt, settings)});
  int64_t frames = 0;
  int64_t after_first = 0;
  int64_t after_last = 0;
  generate_frames(batch, prompt, begin, settings, noise, [&](int64_t, const Frame&) {
    after_last = allocations;
    if (frames++ == 0) after_first = after_last;
  });
  EXPECT_EQ(frames, kFrames + 1 - static_cast<int64_t>(begin.size()));
  return after_last - after_first;
}

TEST(Allocations, the_frame_loop_makes_none_after_the_first_frame) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const float guidance : {1.0F, 1.5F}) {
      for (const int threads : {1, 3}) {
        EXPECT_EQ(allocations_between_frames(dtype, guidance, threads), 0)
            << dtype_name(dtype) << ", guidance " << guidance << ", " << threads << " threads";
      }
    }
  }
}

TEST(Allocations, a_song_that_goes_on_makes_none_either) {
  const std::vector<Frame> begin(17, Frame{1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_EQ(allocations_between_frames(DType::kBF16, 1.5F, 2, begin), 0);
}

TEST(Allocations, a_song_that_is_kept_from_its_end_makes_none_either) {
  EXPECT_EQ(allocations_between_frames(DType::kBF16, 1.5F, 2, {}, 65), 0);
}

#else

TEST(Allocations, cannot_be_counted_here) {
  GTEST_SKIP() << "another allocator stands in the way";
}

#endif

}  // namespace
}  // namespace heartmula
