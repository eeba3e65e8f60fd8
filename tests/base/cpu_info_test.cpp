#include "base/cpu_info.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/file.h"
#include "base/testing.h"

namespace heartmula {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr const char* kMeminfo = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    800 kB\n";

TEST(CpuInfo, this_machine_has_a_name_and_memory) {
  EXPECT_FALSE(cpu_info().model_name.empty());
  EXPECT_EQ(&cpu_info(), &cpu_info());

  const MemoryInfo memory = memory_info();
  EXPECT_GT(memory.available_bytes, 0u);
  EXPECT_GE(memory.total_bytes, memory.available_bytes);
}

TEST(CpuInfo, features_agree_with_the_kernel) {
  const CpuFeatures& features = cpu_info().features;
#if defined(__x86_64__)
  const std::string cpuinfo = read_file("/proc/cpuinfo");
  const size_t start = cpuinfo.find("\nflags");
  ASSERT_NE(start, std::string::npos);
  const std::string flags = cpuinfo.substr(start, cpuinfo.find('\n', start + 1) - start) + " ";
  const auto has = [&](const char* flag) { return flags.find(std::string(" ") + flag + " ") != std::string::npos; };
  EXPECT_EQ(features.avx2_fma, has("avx2") && has("fma"));
  EXPECT_EQ(features.avx512,
            has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl") && has("avx512cd"));
  EXPECT_EQ(features.avx512_bf16, features.avx512 && has("avx512_bf16"));
  EXPECT_FALSE(features.neon);
#elif defined(__aarch64__)
  EXPECT_TRUE(features.neon);
  EXPECT_FALSE(features.avx2_fma);
#endif
}

TEST(CpuInfo, peak_memory_grows_with_what_is_touched) {
  const uint64_t before = peak_memory_bytes();
  EXPECT_GT(before, 100'000u);
  std::vector<char> block(size_t{64} << 20, 'x');
  EXPECT_GE(peak_memory_bytes(), before + (uint64_t{32} << 20)) << block[12345];
}

TEST(CpuModelName, of_an_x86_processor) {
  const TemporaryFolder root;
  root.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 9R14 \n\nprocessor\t: 1\nmodel name\t: other\n");
  EXPECT_EQ(detail::cpu_model_name(root.path()), "AMD EPYC 9R14");
}

TEST(CpuModelName, of_arm_cores_of_two_kinds) {
  const TemporaryFolder root;
  root.write("proc/cpuinfo", "CPU part\t: 0xd85\n\nCPU part\t: 0xd87\n\nCPU part\t: 0xd85\n\nCPU part\t: 0xfff\n");
  EXPECT_EQ(detail::cpu_model_name(root.path()), "Arm Cortex-X925 + Cortex-A725 + part 0xfff");
}

TEST(CpuModelName, of_nothing) {
  const TemporaryFolder root;
  EXPECT_EQ(detail::cpu_model_name(root.path()), "unknown");
}

TEST(MemoryInfo, of_the_machine_without_limits) {
  const TemporaryFolder root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/job\n");
  root.write("sys/fs/cgroup/job/memory.max", "max\n");
  root.write("sys/fs/cgroup/job/memory.current", "4096\n");
  const MemoryInfo memory = detail::memory_info(root.path());
  EXPECT_EQ(memory.total_bytes, 1000 * kKiB);
  EXPECT_EQ(memory.available_bytes, 800 * kKiB);
}

TEST(MemoryInfo, of_a_version_2_limit_counts_file_pages_as_free) {
  const TemporaryFolder root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "0::/jobs/song\n");
  root.write("sys/fs/cgroup/jobs/memory.max", std::to_string(500 * kKiB));
  root.write("sys/fs/cgroup/jobs/memory.current", std::to_string(450 * kKiB));
  EXPECT_EQ(detail::memory_info(root.path()).available_bytes, 50 * kKiB);
  root.write("sys/fs/cgroup/jobs/memory.stat",
             "anon 1\nfile 409600\ninactive_file " + std::to_string(300 * kKiB) + "\nactive_file 0\n");
  const MemoryInfo memory = detail::memory_info(root.path());
  EXPECT_EQ(memory.total_bytes, 500 * kKiB);
  EXPECT_EQ(memory.available_bytes, 350 * kKiB);
}

TEST(MemoryInfo, that_the_machine_does_not_say_is_unknown_without_a_limit) {
  const TemporaryFolder root;
  root.write("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 500 kB\n");
  root.write("proc/self/cgroup", "4:memory:/job\n");
  root.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(detail::memory_info(root.path()).available_bytes, std::nullopt);
}

TEST(MemoryInfo, of_a_version_1_limit) {
  const TemporaryFolder root;
  root.write("proc/meminfo", kMeminfo);
  root.write("proc/self/cgroup", "4:memory:/job\n0::/\n");
  root.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", std::to_string(700 * kKiB));
  root.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", std::to_string(900 * kKiB));
  EXPECT_EQ(detail::memory_info(root.path()).available_bytes, 0u) << "usage beyond the limit";
  root.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", std::to_string(200 * kKiB));
  root.write("sys/fs/cgroup/memory/job/memory.stat",
             "inactive_file 1\ntotal_inactive_file " + std::to_string(50 * kKiB) + "\ntotal_active_file 0\n");
  EXPECT_EQ(detail::memory_info(root.path()).available_bytes, 550 * kKiB);
  root.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(detail::memory_info(root.path()).available_bytes, 800 * kKiB);
  EXPECT_EQ(detail::memory_info(root.path()).total_bytes, 1000 * kKiB);
}

TEST(MemoryInfo, is_unknown_where_the_system_does_not_say) {
  const TemporaryFolder root;
  EXPECT_FALSE(detail::memory_info(root.path()).total_bytes);
  EXPECT_FALSE(detail::memory_info(root.path()).available_bytes);
  root.write("proc/self/cgroup", "0::/job\n");
  root.write("sys/fs/cgroup/job/memory.max", "500\n");
  root.write("sys/fs/cgroup/job/memory.current", "100\n");
  EXPECT_EQ(detail::memory_info(root.path()).available_bytes, 400u);
}

TEST(PeakMemory, is_zero_where_the_system_does_not_say) {
  const TemporaryFolder root;
  EXPECT_EQ(detail::peak_memory_bytes(root.path()), 0u);
  root.write("proc/self/status", "Name:\tx\nVmPeak:\t  999 kB\nVmHWM:\t  123 kB\n");
  EXPECT_EQ(detail::peak_memory_bytes(root.path()), 123 * kKiB);
}

}  // namespace
}  // namespace heartmula
