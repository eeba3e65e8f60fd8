#include "base/affinity.h"

#include <gmock/gmock.h>
#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

namespace heartmula {
namespace {

using testing::ElementsAre;

/// By the system, not by what affinity() remembers.
std::vector<int> allowed_now() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<int> cpus;
  for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

TEST(Affinity, is_what_the_system_says) {
  EXPECT_EQ(affinity(), allowed_now());
}

TEST(Affinity, a_pinned_thread_stays_on_its_cpu_and_remembers_the_others) {
  const std::vector<int> before = allowed_now();
  {
    const UnpinAtEnd unpin;
    for (const int cpu : {before.front(), before.back(), before.back()}) {
      ASSERT_TRUE(pin_thread(cpu));
      EXPECT_THAT(allowed_now(), ElementsAre(cpu));
      EXPECT_EQ(sched_getcpu(), cpu);
      EXPECT_EQ(affinity(), before);
    }
  }
  EXPECT_EQ(allowed_now(), before);
  unpin_thread();
  EXPECT_EQ(allowed_now(), before);
}

TEST(Affinity, another_thread_can_be_pinned) {
  const std::vector<int> before = allowed_now();
  std::atomic<bool> pinned{false};
  std::vector<int> inside;
  std::thread thread([&] {
    pinned.wait(false);
    inside = allowed_now();
  });
  EXPECT_TRUE(pin_thread(thread, before.back()));
  pinned = true;
  pinned.notify_all();
  thread.join();
  EXPECT_THAT(inside, ElementsAre(before.back()));
  EXPECT_EQ(allowed_now(), before);
}

TEST(Affinity, a_cpu_that_does_not_exist_is_refused) {
  const std::vector<int> before = allowed_now();
  EXPECT_FALSE(pin_thread(60000));
  EXPECT_EQ(allowed_now(), before);
  EXPECT_EQ(affinity(), before);
}

}  // namespace
}  // namespace heartmula
