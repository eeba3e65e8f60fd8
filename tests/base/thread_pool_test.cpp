#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "base/affinity.h"
#include "base/testing.h"

namespace {
std::atomic<int64_t> allocations{0};
}

#if !defined(HEARTMULA_SANITIZED)  // they bring their own
// Counts what the whole program allocates. Not inlined: GCC would take malloc and delete for a mismatch.
[[gnu::noinline]] void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
#endif

namespace heartmula {
namespace {

using namespace std::chrono_literals;

class EveryThreadCount : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(ThreadPool, EveryThreadCount, testing::Values(1, 2, 3, 7));

/// Waits until `condition` holds; false after ten seconds.
template <typename Condition>
bool eventually(const Condition& condition) {
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST_P(EveryThreadCount, computes_every_chunk_exactly_once) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.threads(), GetParam());
  for (const int64_t chunks : {0, 1, 2, 3, 6, 7, 8, 1000}) {
    std::vector<int> runs(static_cast<size_t>(chunks));  // not atomic: the end of parallel_for orders them
    pool.parallel_for(chunks, [&](int64_t chunk, int worker) {
      ASSERT_GE(worker, 0);
      ASSERT_LT(worker, GetParam());
      ++runs[static_cast<size_t>(chunk)];
    });
    EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(chunks), 1));
  }
}

TEST_P(EveryThreadCount, each_chunk_is_counted_for_the_worker_that_computed_it) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> mine(static_cast<size_t>(GetParam()));
  for (int round = 0; round < 50; ++round) {
    pool.parallel_for(20, [&](int64_t, int worker) { ++mine[static_cast<size_t>(worker)]; });
  }
  EXPECT_EQ(pool.chunks_by_worker(), mine);
}

TEST_P(EveryThreadCount, a_worker_number_belongs_to_one_thread_at_a_time) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<int>> inside(static_cast<size_t>(GetParam()));
  std::atomic<bool> shared{false};
  for (int round = 0; round < 50; ++round) {
    pool.parallel_for(100, [&](int64_t, int worker) {
      if (inside[static_cast<size_t>(worker)].fetch_add(1) != 0) shared = true;
      inside[static_cast<size_t>(worker)].fetch_sub(1);
    });
  }
  EXPECT_FALSE(shared);
}

TEST_P(EveryThreadCount, cancel_ends_the_work_between_two_chunks) {
  ThreadPool pool(GetParam());
  CancelToken token;
  pool.set_cancel_token(&token);
  std::atomic<int> done{0};
  std::atomic<int> inside{0};
  EXPECT_EQ(error_of(ErrorKind::kCancelled,
                     [&] {
                       pool.parallel_for(10'000, [&](int64_t chunk, int) {
                         ++inside;
                         if (chunk == 10) token.cancel();
                         if (chunk > 10) eventually([&] { return token.cancelled(); });
                         ++done;
                         --inside;
                       });
                     }),
            "cancelled");
  EXPECT_EQ(inside, 0);
  EXPECT_LE(done, 10 + GetParam());
  const int done_when_thrown = done;
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(done, done_when_thrown) << "a body ran after the exception";

  error_of(ErrorKind::kCancelled, [&] { pool.parallel_for(1, [&](int64_t, int) { ++done; }); });
  EXPECT_EQ(done, done_when_thrown) << "a chunk ran after the token was raised";

  pool.set_cancel_token(nullptr);
  pool.parallel_for(5, [&](int64_t, int) { ++done; });
  EXPECT_EQ(done, done_when_thrown + 5);
}

TEST_P(EveryThreadCount, a_token_raised_in_the_last_chunk_comes_too_late) {
  ThreadPool pool(GetParam());
  CancelToken token;
  pool.set_cancel_token(&token);
  std::atomic<int> done{0};
  pool.parallel_for(20, [&](int64_t, int) {
    if (++done == 20) token.cancel();
  });
  EXPECT_EQ(done, 20);
}

TEST_P(EveryThreadCount, an_exception_of_a_body_reaches_the_caller) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> inside{0};
    std::atomic<int> begun{0};
    std::atomic<int> done{0};
    try {
      pool.parallel_for(10'000, [&](int64_t, int) {
        ++inside;
        if (begun++ >= 5) {
          --inside;
          throw std::runtime_error("chunk");
        }
        ++done;
        --inside;
      });
      FAIL() << "no exception";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "chunk");
    }
    EXPECT_EQ(inside, 0);
    EXPECT_EQ(done, 5);
    pool.parallel_for(10, [&](int64_t, int) { ++done; });
    EXPECT_EQ(done, 15) << "the pool works on";
  }
}

TEST_P(EveryThreadCount, a_hundred_thousand_calls_take_moments) {
  ThreadPool pool(GetParam());
  constexpr int kCalls = 100'000;
  std::atomic<int64_t> sum{0};
  const int64_t allocations_before = allocations;
  const auto start = std::chrono::steady_clock::now();
  for (int call = 0; call < kCalls; ++call) {
    pool.parallel_for(4, [&](int64_t chunk, int) { sum.fetch_add(chunk, std::memory_order_relaxed); });
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(allocations, allocations_before);
  EXPECT_EQ(sum, kCalls * int64_t{6});
  EXPECT_LT(elapsed.count(), 60);
  RecordProperty("microseconds_per_call", std::to_string(elapsed.count() * 1e6 / kCalls));
}

TEST_P(EveryThreadCount, workers_who_are_in_time_get_the_same_chunks_again) {
  const int threads = GetParam();
  ThreadPool pool(threads);
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> came{0};
    std::vector<int64_t> first(static_cast<size_t>(threads), -1);
    pool.parallel_for(10 * threads, [&](int64_t chunk, int worker) {
      int64_t& mine = first[static_cast<size_t>(worker)];
      if (mine >= 0) return;
      mine = chunk;
      ++came;
      EXPECT_TRUE(eventually([&] { return came == threads; }));
    });
    for (int worker = 0; worker < threads; ++worker) EXPECT_EQ(first[static_cast<size_t>(worker)], 10 * worker);
  }
}

TEST(ThreadPool, others_do_the_work_of_a_slow_worker) {
  for (const int threads : {2, 7}) {
    ThreadPool pool(threads);
    std::atomic<int> others{0};
    bool others_came = false;
    pool.parallel_for(64, [&](int64_t chunk, int) {
      if (chunk == 0) {
        others_came = eventually([&] { return others == 63; });
      } else {
        ++others;
      }
    });
    EXPECT_TRUE(others_came);
  }
}

// A slow worker takes the time of twenty chunks of the others for each of its own: as many chunks as it is slow.
TEST(ThreadPool, a_slow_worker_gets_few_chunks_and_the_results_are_the_same) {
  constexpr int64_t kChunks = 2000;
  constexpr int kSlowness = 20;
  const auto value_of = [](int64_t chunk) { return chunk * chunk % 1009; };
  std::vector<int64_t> expected;
  for (int64_t chunk = 0; chunk < kChunks; ++chunk) expected.push_back(value_of(chunk));

  ThreadPool pool(3);
  for (const int slow : {0, 1, 2}) {
    std::vector<int64_t> results(kChunks);
    std::vector<std::atomic<int>> chunks_of(3);
    std::atomic<int> done{0};
    std::atomic<int> of_slow{0};
    pool.parallel_for(kChunks, [&](int64_t chunk, int worker) {
      if (worker == slow) {
        const int until = std::min<int>(done + kSlowness, kChunks - of_slow - 1);
        EXPECT_TRUE(eventually([&] { return done >= until; })) << "the others did not go on";
        ++of_slow;
      } else {
        ++done;
      }
      results[static_cast<size_t>(chunk)] = value_of(chunk);
      ++chunks_of[static_cast<size_t>(worker)];
    });
    EXPECT_LE(chunks_of[static_cast<size_t>(slow)], kChunks / kSlowness);
    EXPECT_EQ(chunks_of[0] + chunks_of[1] + chunks_of[2], kChunks);
    EXPECT_EQ(results, expected);
  }
}

TEST(ThreadPool, pinned_workers_stay_on_their_cpus) {
  const std::vector<int> cpus = {affinity().back(), affinity().front()};
  const UnpinAtEnd unpin;
  ThreadPool pool(2, cpus);
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> arrived{0};
    pool.parallel_for(2, [&](int64_t, int worker) {
      EXPECT_EQ(sched_getcpu(), cpus[static_cast<size_t>(worker)]);
      ++arrived;
      EXPECT_TRUE(eventually([&] { return arrived == 2; })) << "one worker did both chunks";
    });
  }
}

TEST(ThreadPool, a_thread_that_cannot_be_pinned_is_an_error) {
  EXPECT_EQ(error_of(ErrorKind::kFailure,
                     [] {
                       ThreadPool pool(2, {affinity().front(), 60000});
                     }),
            "cannot keep a thread on cpu 60000: the system refuses; leave out --cpus");
  ThreadPool pool(2, {60000, affinity().front()});
  error_of(ErrorKind::kFailure, [&] { pool.parallel_for(2, [](int64_t, int) {}); });
}

// Each call needs two workers at once, so a worker that misses its call is seen; the pauses let workers spin, be
// about to sleep, and sleep.
TEST(ThreadPool, no_call_is_missed_around_falling_asleep) {
  ThreadPool pool(2);
  for (int round = 0; round < 2000; ++round) {
    const auto pause = std::chrono::microseconds(round % 80);
    const auto end = std::chrono::steady_clock::now() + pause;
    while (std::chrono::steady_clock::now() < end) {
    }
    std::atomic<int> arrived{0};
    std::atomic<bool> met{true};
    pool.parallel_for(2, [&](int64_t, int) {
      ++arrived;
      if (!eventually([&] { return arrived == 2; })) met = false;
    });
    ASSERT_TRUE(met) << "round " << round;
  }
}

TEST(ThreadPool, only_as_many_threads_take_part_as_are_asked_for) {
  ThreadPool pool(4);
  const auto greatest_worker = [&](bool all_must_come) {
    std::atomic<int> greatest{0};
    std::atomic<int> came{0};
    std::array<bool, 4> here{};
    const int wanted = all_must_come ? 4 : 2;
    pool.parallel_for(64, [&](int64_t, int worker) {
      for (int seen = greatest; seen < worker && !greatest.compare_exchange_weak(seen, worker);) {
      }
      // Each worker's first chunk stays until as many are here as can be, so that none is late.
      if (!std::exchange(here[static_cast<size_t>(worker)], true)) {
        ++came;
        EXPECT_TRUE(eventually([&] { return came >= wanted; }));
      }
    });
    return greatest.load();
  };
  EXPECT_EQ(greatest_worker(true), 3);
  pool.use_threads(2);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(greatest_worker(false), 1);
  pool.use_threads(0);  // at least one
  pool.parallel_for(8, [&](int64_t, int worker) { EXPECT_EQ(worker, 0); });
  pool.use_threads(100);  // at most all
  EXPECT_EQ(greatest_worker(true), 3);
}

TEST(ThreadPool, the_number_that_takes_part_may_change_at_any_time) {
  ThreadPool pool(3);
  std::atomic<bool> done{false};
  std::thread changer([&] {
    for (int i = 0; !done; ++i) pool.use_threads(1 + i % 3);
  });
  for (int call = 0; call < 2000; ++call) {
    std::atomic<int> sum{0};
    pool.parallel_for(8, [&](int64_t chunk, int) { sum += static_cast<int>(chunk) + 1; });
    ASSERT_EQ(sum, 36);
  }
  done = true;
  changer.join();
}

TEST(ThreadPool, pools_come_and_go) {
  for (int round = 0; round < 100; ++round) {
    ThreadPool pool(1 + round % 5);
    if (round % 2 == 0) pool.parallel_for(3, [](int64_t, int) {});
  }
}

TEST(ThreadPool, refuses_absurd_numbers_of_threads) {
  for (const int threads : {-1, 0, 100'000}) {
    error_of(ErrorKind::kUser, [&] { ThreadPool pool(threads); });
  }
}

}  // namespace
}  // namespace heartmula
