#include "cpu/stream_threads.h"

#include <gmock/gmock.h>

#include <map>

namespace heartmula::cpu {
namespace {

using testing::ElementsAre;

struct Outcome {
  int threads;
  std::vector<int> tried;
};

/// GB/s by number of threads.
Outcome find(int threads, const std::map<int, StreamSample>& curve) {
  Outcome outcome{};
  outcome.threads = find_stream_threads(threads, [&](int count) {
    outcome.tried.push_back(count);
    StreamSample sample = curve.at(count);
    sample.bytes_per_second *= 1e9;
    return sample;
  });
  return outcome;
}

TEST(FindStreamThreads, on_a_raspberry_pi_5_takes_two_of_four) {
  EXPECT_EQ(find(4, {{1, {10.4}}, {2, {13.2}}, {4, {11.6}}}).threads, 2);
}

TEST(FindStreamThreads, takes_all_while_more_read_more) {
  const Outcome outcome = find(20, {{1, {40}}, {2, {79}}, {4, {140}}, {8, {198}}, {16, {215}}, {20, {228}}});
  EXPECT_EQ(outcome.threads, 20);
  EXPECT_THAT(outcome.tried, ElementsAre(1, 2, 4, 8, 16, 20));
}

TEST(FindStreamThreads, takes_the_fewest_that_reach_the_limit) {
  EXPECT_EQ(find(20, {{1, {40}}, {2, {79}}, {4, {140}}, {8, {226}}, {16, {231}}, {20, {229}}}).threads, 8);
  EXPECT_EQ(find(6, {{1, {20.1}}, {2, {20.3}}, {4, {20.2}}, {6, {20.3}}}).threads, 1) << "one core is enough";
}

TEST(FindStreamThreads, stops_when_more_threads_read_less) {
  const Outcome outcome = find(64, {{1, {12}}, {2, {20}}, {4, {19}}, {8, {17}}});
  EXPECT_EQ(outcome.threads, 2);
  EXPECT_THAT(outcome.tried, ElementsAre(1, 2, 4, 8));
}

TEST(FindStreamThreads, is_not_stopped_by_one_bad_sample) {
  EXPECT_EQ(find(16, {{1, {12}}, {2, {9}}, {4, {44}}, {8, {60}}, {16, {59}}}).threads, 8);
  EXPECT_EQ(find(16, {{1, {12}}, {2, {23}}, {4, {21}}, {8, {60}}, {16, {52}}}).threads, 8);
}

TEST(FindStreamThreads, takes_all_where_other_programs_are_at_work) {
  const Outcome outcome = find(8, {{1, {12, 0.99}}, {2, {12, 0.6}}});
  EXPECT_EQ(outcome.threads, 8);
  EXPECT_THAT(outcome.tried, ElementsAre(1, 2));
}

TEST(FindStreamThreads, takes_one_of_one) {
  EXPECT_EQ(find(1, {{1, {12}}}).threads, 1);
}

TEST(UncachedBytes, are_some_caches_but_no_absurd_number) {
  CpuTopology topology;
  EXPECT_EQ(uncached_bytes(topology), int64_t{128} << 20) << "nothing is known";
  topology.cache_bytes = int64_t{40} << 20;
  EXPECT_EQ(uncached_bytes(topology), int64_t{160} << 20);
  topology.cache_bytes = int64_t{2} << 30;
  EXPECT_EQ(uncached_bytes(topology), int64_t{256} << 20);
}

TEST(MeasureStreamThreads, gives_a_number_of_threads_that_there_are) {
  for (const int threads : {1, 2, 3}) {
    Device device({.threads = threads});
    const int found = measure_stream_threads(device, int64_t{4} << 20);
    EXPECT_GE(found, 1);
    EXPECT_LE(found, threads);
  }
}

}  // namespace
}  // namespace heartmula::cpu
