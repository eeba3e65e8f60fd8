#include "base/cpu_choice.h"

#include <gmock/gmock.h>

#include "base/machines.h"

namespace heartmula {
namespace {

using testing::ElementsAre;

const CpuTopology& laptop() {
  static const CpuTopology topology = [] {
    const TemporaryFolder root;
    machines::write_hybrid_laptop(root);
    return detail::cpu_topology(root.path(), {});
  }();
  return topology;
}

TEST(ChooseCpus, by_default_takes_every_core_and_pins_nothing) {
  const CpuChoice choice = choose_cpus(laptop(), 0, "");
  EXPECT_EQ(choice.threads, 6);
  EXPECT_FALSE(choice.pinned);
  EXPECT_THAT(choice.cpus, ElementsAre(0, 2, 4, 5, 6, 7, 1, 3));
}

TEST(ChooseCpus, by_default_takes_no_more_than_the_quota) {
  CpuTopology topology = laptop();
  topology.quota = 3;
  EXPECT_EQ(choose_cpus(topology, 0, "").threads, 3);
  EXPECT_EQ(choose_cpus(topology, 5, "").threads, 5) << "who asks gets";
  topology.quota = 100;
  EXPECT_EQ(choose_cpus(topology, 0, "").threads, 6);
}

TEST(ChooseCpus, gives_as_many_threads_as_asked_for) {
  EXPECT_EQ(choose_cpus(laptop(), 1, "").threads, 1);
  EXPECT_EQ(choose_cpus(laptop(), 40, "").threads, 40);
  EXPECT_FALSE(choose_cpus(laptop(), 1, "").pinned);
}

TEST(ChooseCpus, pins_to_a_list_in_its_order) {
  const CpuChoice choice = choose_cpus(laptop(), 0, "6,0-2");
  EXPECT_EQ(choice.threads, 4);
  EXPECT_TRUE(choice.pinned);
  EXPECT_THAT(choice.cpus, ElementsAre(6, 0, 1, 2));
  EXPECT_EQ(choose_cpus(laptop(), 2, "6,0-2").threads, 2);
}

TEST(ChooseCpus, pins_to_the_fastest_in_order) {
  const CpuChoice choice = choose_cpus(laptop(), 0, "fastest");
  EXPECT_EQ(choice.threads, 6);
  EXPECT_TRUE(choice.pinned);
  EXPECT_THAT(choice.cpus, ElementsAre(0, 2, 4, 5, 6, 7, 1, 3));
  EXPECT_EQ(choose_cpus(laptop(), 2, "fastest").threads, 2);
  EXPECT_EQ(choose_cpus(laptop(), 8, "fastest").threads, 8);
}

TEST(ChooseCpus, refuses_lists_that_cannot_be_had) {
  const auto message = [](const CpuTopology& topology, int threads, const std::string& list) {
    return error_of(ErrorKind::kUser, [&] { choose_cpus(topology, threads, list); });
  };
  EXPECT_EQ(message(laptop(), 0, "0-8"), "--cpus 0-8: there is no cpu 8; this machine has 0-7");
  CpuTopology restricted = laptop();
  std::erase_if(restricted.cpus, [](const Cpu& cpu) { return cpu.id == 3 || cpu.id > 5; });
  EXPECT_EQ(message(restricted, 0, "2,3"),
            "--cpus 2,3: this process may not use cpu 3; it may use 0-2,4-5 (taskset and cgroups set this)");
  EXPECT_EQ(message(laptop(), 0, "1,0-2"), "--cpus 1,0-2: 1 stands there twice");
  EXPECT_EQ(message(laptop(), 3, "0,2"), "--threads 3, but --cpus 0,2 names 2: leave one of them out");
  EXPECT_EQ(message(laptop(), 9, "fastest"), "--threads 9, but --cpus fastest names 8: leave one of them out");
  for (const char* list : {" ", "all", "0-", "1;2", "-1"}) {
    EXPECT_EQ(message(laptop(), 0, list),
              std::string("--cpus ") + list + ": must be \"fastest\" or a list of processor numbers such as 0-3,8");
  }
}

TEST(ChooseCpus, knows_whether_anything_was_asked_for) {
  const CpuTopology& topology = laptop();
  EXPECT_TRUE(choose_cpus(topology, 0, "").automatic);
  EXPECT_FALSE(choose_cpus(topology, 1, "").automatic);
  EXPECT_FALSE(choose_cpus(topology, 0, "fastest").automatic);
}

TEST(ThreadsFromEnvironment, takes_a_number_and_nothing_else) {
  ::setenv("HEARTMULA_THREADS", "3", 1);
  EXPECT_EQ(threads_from_environment(), 3);
  for (const char* wrong : {"0", "-1", "two", "2 ", "99999999999"}) {
    ::setenv("HEARTMULA_THREADS", wrong, 1);
    EXPECT_THROW(threads_from_environment(), Error) << wrong;
  }
  ::unsetenv("HEARTMULA_THREADS");
  EXPECT_EQ(threads_from_environment(), 0);
}

}  // namespace
}  // namespace heartmula
