#include "base/cpu_topology.h"

#include <gmock/gmock.h>
#include <sched.h>

#include <numeric>
#include <thread>

#include "base/affinity.h"
#include "base/machines.h"
#include "base/system_files.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::Ge;
using testing::IsEmpty;
using testing::Le;
using testing::SizeIs;

std::vector<int> range(int begin, int end) {
  std::vector<int> numbers(static_cast<size_t>(end - begin));
  std::iota(numbers.begin(), numbers.end(), begin);
  return numbers;
}

std::vector<int> ids(const CpuTopology& topology) {
  std::vector<int> numbers;
  for (const Cpu& cpu : topology.cpus) numbers.push_back(cpu.id);
  return numbers;
}

TEST(CpuTopology, of_this_machine_is_what_the_system_lets_us_use) {
  const CpuTopology topology = cpu_topology();
  const std::vector<int> allowed = affinity();
  ASSERT_FALSE(allowed.empty());
  EXPECT_EQ(ids(topology), allowed);
  for (const Cpu& cpu : topology.cpus) EXPECT_THAT(cpu.speed, AllOf(testing::Gt(0.0), Le(1.0)));
  EXPECT_THAT(default_cpu_count(topology), AllOf(Ge(1), Le(core_count(topology))));
  EXPECT_EQ(std::ssize(cpus_in_order(topology)), std::ssize(topology.cpus));
}

TEST(CpuTopology, of_this_machine_follows_the_affinity_of_the_calling_thread) {
  std::vector<int> of_thread;
  std::thread([&] {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(affinity().back()), &set);
    ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
    of_thread = ids(cpu_topology());
  }).join();
  EXPECT_THAT(of_thread, ElementsAre(affinity().back()));
}

TEST(CpuTopology, of_this_machine_does_not_shrink_when_a_thread_is_pinned) {
  const std::vector<int> before = ids(cpu_topology());
  const UnpinAtEnd unpin;
  ASSERT_TRUE(pin_thread(before.back()));
  EXPECT_EQ(ids(cpu_topology()), before);
}

TEST(CpuTopology, of_two_clusters_of_big_and_small_cores) {
  const TemporaryFolder root;
  machines::write_gb10(root);
  const CpuTopology topology = detail::cpu_topology(root.path(), range(0, 20));
  ASSERT_THAT(topology.cpus, SizeIs(20));
  EXPECT_EQ(topology.cpus[3], (Cpu{.id = 3, .core = 3, .cluster = 0, .speed = 718.0 / 1024}));
  EXPECT_EQ(topology.cpus[19], (Cpu{.id = 19, .core = 19, .cluster = 10, .speed = 1}));
  EXPECT_EQ(topology.quota, 0);
  EXPECT_EQ(topology.cache_bytes, 24 << 20);
  EXPECT_EQ(default_cpu_count(topology), 20);
  // Big ones first, the favoured one of them at the head; clusters in turn.
  EXPECT_THAT(cpus_in_order(topology),
              ElementsAre(19, 5, 6, 15, 7, 16, 8, 17, 9, 18, 0, 10, 1, 11, 2, 12, 3, 13, 4, 14));
}

TEST(CpuTopology, of_a_part_of_big_and_small_cores) {
  const TemporaryFolder root;
  machines::write_gb10(root);
  EXPECT_THAT(cpus_in_order(detail::cpu_topology(root.path(), {2, 3, 8, 13})), ElementsAre(8, 2, 13, 3));
}

TEST(CpuTopology, of_a_board_with_eight_equal_cores) {
  const TemporaryFolder root;
  machines::write_a78_board(root);
  const CpuTopology topology = detail::cpu_topology(root.path(), range(0, 8));
  for (const Cpu& cpu : topology.cpus) EXPECT_EQ(cpu.speed, 1);
  EXPECT_THAT(cpus_in_order(topology), ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
  EXPECT_EQ(topology.cache_bytes, 0);
  EXPECT_EQ(default_cpu_count(topology), 8);
}

TEST(CpuTopology, of_a_laptop_takes_one_cpu_of_each_core) {
  const TemporaryFolder root;
  machines::write_hybrid_laptop(root);
  const CpuTopology topology = detail::cpu_topology(root.path(), range(0, 8));
  EXPECT_EQ(topology.cpus[3].core, 2);
  EXPECT_EQ(topology.cpus[3].speed, 1);
  EXPECT_NEAR(topology.cpus[7].speed, 35.0 / 47, 1e-9);
  EXPECT_EQ(core_count(topology), 6);
  EXPECT_EQ(default_cpu_count(topology), 6);
  EXPECT_THAT(cpus_in_order(topology), ElementsAre(0, 2, 4, 5, 6, 7, 1, 3)) << "siblings last";
}

TEST(CpuTopology, counts_a_core_of_which_only_the_second_cpu_may_be_used) {
  const TemporaryFolder root;
  machines::write_hybrid_laptop(root);
  const CpuTopology topology = detail::cpu_topology(root.path(), {1, 2, 3});
  EXPECT_EQ(core_count(topology), 2);
  EXPECT_THAT(cpus_in_order(topology), ElementsAre(1, 2, 3));
}

TEST(CpuTopology, of_a_server_deals_the_cores_of_its_caches_in_turn) {
  const TemporaryFolder root;
  machines::write_server(root);
  const CpuTopology topology = detail::cpu_topology(root.path(), range(0, 64));
  EXPECT_EQ(default_cpu_count(topology), 32);
  std::vector<int> order = cpus_in_order(topology);
  EXPECT_EQ(order[63], 63);
  order.resize(9);
  EXPECT_THAT(order, ElementsAre(0, 8, 16, 24, 1, 9, 17, 25, 2));
}

TEST(CpuTopology, of_a_container_with_two_of_64_cpus_and_a_quota_of_one_and_a_half) {
  const TemporaryFolder root;
  machines::write_server(root);
  root.write("proc/self/cgroup", "0::/\n");
  root.write("sys/fs/cgroup/cpuset.cpus.effective", "17,23\n");
  root.write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  // The system's word on the affinity already knows of the cpuset; a thread may have asked for less in vain.
  for (const std::vector<int>& allowed : {std::vector{17, 23}, range(0, 64), std::vector<int>{}}) {
    const CpuTopology topology = detail::cpu_topology(root.path(), allowed);
    EXPECT_THAT(ids(topology), ElementsAre(17, 23));
    EXPECT_EQ(topology.present, range(0, 64));
    EXPECT_EQ(topology.quota, 2);
    EXPECT_EQ(default_cpu_count(topology), 2);
  }
  root.write("sys/fs/cgroup/cpu.max", "90000 100000\n");
  EXPECT_EQ(default_cpu_count(detail::cpu_topology(root.path(), {17, 23})), 1);
}

TEST(CpuTopology, of_a_cpuset_of_version_1) {
  const TemporaryFolder root;
  machines::write_a78_board(root);
  root.write("proc/self/cgroup", "3:cpuset:/docker/0123\n0::/\n");
  root.write("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "1-2\n");
  EXPECT_THAT(ids(detail::cpu_topology(root.path(), range(0, 8))), ElementsAre(1, 2));
}

TEST(CpuTopology, believes_the_affinity_where_a_container_numbers_its_cpus_anew) {
  const TemporaryFolder root;
  root.write("sys/devices/system/cpu/online", "0-1\n");
  EXPECT_THAT(ids(detail::cpu_topology(root.path(), {17, 23})), ElementsAre(17, 23));
}

TEST(CpuTopology, leaves_out_cpus_that_are_switched_off) {
  const TemporaryFolder root;
  machines::write_a78_board(root);
  root.write("sys/devices/system/cpu/online", "0-2,5\n");
  EXPECT_THAT(ids(detail::cpu_topology(root.path(), range(0, 8))), ElementsAre(0, 1, 2, 5));
}

TEST(CpuTopology, without_files_takes_every_cpu_for_a_core) {
  const TemporaryFolder root;
  const CpuTopology topology = detail::cpu_topology(root.path(), {4, 0, 2});
  EXPECT_THAT(topology.cpus, ElementsAre(Cpu{.id = 0, .core = 0}, Cpu{.id = 2, .core = 2}, Cpu{.id = 4, .core = 4}));
  EXPECT_THAT(topology.present, ElementsAre(0, 2, 4));
  EXPECT_EQ(default_cpu_count(topology), 3);
  EXPECT_THAT(cpus_in_order(topology), ElementsAre(0, 2, 4));
  EXPECT_THAT(ids(detail::cpu_topology(root.path(), {})), ElementsAre(0)) << "nothing is known at all";
}

TEST(CpuTopology, without_some_files_does_without_them) {
  const TemporaryFolder root;
  root.write("sys/devices/system/cpu/present", "0-3\n");
  root.write("sys/devices/system/cpu/cpu0/cpu_capacity", "1024\n");  // and none of the others
  root.write("sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "nonsense\n");
  root.write("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "");
  root.write("sys/devices/system/cpu/cpu3/topology/cluster_cpus_list", "2-3\n");
  root.write("sys/devices/system/cpu/cpu3/cache/index0/level", "9\n");
  const CpuTopology topology = detail::cpu_topology(root.path(), {});
  EXPECT_THAT(topology.cpus, ElementsAre(Cpu{.id = 0, .core = 0}, Cpu{.id = 1, .core = 1}, Cpu{.id = 2, .core = 2},
                                         Cpu{.id = 3, .core = 3, .cluster = 2}));
}

TEST(CpuTopology, favoured_cores_do_not_crowd_out_a_cluster) {
  const TemporaryFolder root;
  root.write("sys/devices/system/cpu/online", "0-3\n");
  for (int cpu = 0; cpu < 4; ++cpu) {
    machines::write_cpu(root, cpu,
                        {.siblings = std::to_string(cpu),
                         .cache_sharers = cpu < 2 ? "0-1" : "2-3",
                         .max_khz = cpu < 2 ? 5200000 : 5000000});
  }
  EXPECT_THAT(cpus_in_order(detail::cpu_topology(root.path(), {})), ElementsAre(0, 2, 1, 3));
}

TEST(CgroupCpuLimit, of_version_2_is_the_least_on_the_way_up) {
  const TemporaryFolder root;
  root.write("proc/self/cgroup", "0::/jobs/song\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 0);
  root.write("sys/fs/cgroup/jobs/song/cpu.max", "max 100000\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 0);
  root.write("sys/fs/cgroup/jobs/cpu.max", "250000 100000\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 3) << "rounded up";
  root.write("sys/fs/cgroup/jobs/song/cpu.max", "50000 100000\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 1);
}

TEST(CgroupCpuLimit, of_version_1) {
  const TemporaryFolder root;
  root.write("proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 0);
  root.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "400000\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 4);
}

TEST(CgroupCpuLimit, in_a_container_that_shows_only_the_outermost_folder) {
  const TemporaryFolder root;
  root.write("proc/self/cgroup", "4:cpu:/docker/0123456789\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 2);
}

TEST(CgroupCpuLimit, of_files_that_make_no_sense) {
  const TemporaryFolder root;
  root.write("proc/self/cgroup", "\n::\nx\n0::/../..\n0::jobs\n");
  root.write("sys/fs/cgroup/cpu.max", "100000 0\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 0);
  root.write("sys/fs/cgroup/cpu.max", "99999999999999999999999999 100000\n");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 0);
  root.write("sys/fs/cgroup/cpu.max", "");
  EXPECT_EQ(detail::cgroup_cpu_limit(root.path()), 0);
}

TEST(CpuList, is_read_in_its_order) {
  EXPECT_EQ(detail::cpu_list("8,0-3\n"), (std::vector{8, 0, 1, 2, 3}));
  EXPECT_EQ(detail::cpu_list("7"), std::vector{7});
  for (const char* text : {"", ",", "1,", "1,,2", "a", "1-", "-1", "3-2", "1-2-3", "0x1", "1 2", "1.5", "65536",
                           "0-99999999999999999999"}) {
    EXPECT_EQ(detail::cpu_list(text), std::nullopt) << text;
  }
}

TEST(CpuList, is_written_in_ranges) {
  EXPECT_EQ(cpu_list_text({0, 1, 2, 3, 8}), "0-3,8");
  EXPECT_EQ(cpu_list_text({5}), "5");
  EXPECT_EQ(cpu_list_text({9, 3, 4}), "9,3-4");
  EXPECT_EQ(cpu_list_text({}), "");
}

}  // namespace
}  // namespace heartmula
