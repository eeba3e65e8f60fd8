// Cards that are made up, listed for people and for programs.
#include "bench/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace heartmula::bench {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

CudaDevices two_cards() {
  const CudaDevice good{.index = 0,
                        .name = "Card A",
                        .major = 9,
                        .minor = 0,
                        .memory_bytes = 141'000'000'000,
                        .free_bytes = 139'500'000'000,
                        .multiprocessors = 132,
                        .shares_memory = false,
                        .problem = ""};
  const CudaDevice old{.index = 1,
                       .name = "Card B",
                       .major = 6,
                       .minor = 1,
                       .memory_bytes = 8'000'000'000,
                       .free_bytes = 0,
                       .multiprocessors = 20,
                       .shares_memory = false,
                       .problem = "its compute capability is 6.1, and 8.0 is the least"};
  return {true, "13.0", "12.9", "", {good, old}};
}

TEST(Devices, a_line_a_device_with_what_it_has_or_lacks) {
  const json devices = list_devices(two_cards, [](int) { return 4.57e12; });
  const std::string text = describe_devices(devices);
  EXPECT_THAT(text, AllOf(HasSubstr("cpu "), HasSubstr("cuda:0    Card A, compute capability 9.0, 132 multiprocessors"),
                          HasSubstr("139.5 of 141.0 GB free, read at 4570 GB/s"),
                          HasSubstr("cuda:1    Card B: cannot be used: its compute capability is 6.1"),
                          HasSubstr("knows CUDA 13.0; this program was built with 12.9")));
  EXPECT_EQ(devices["cuda"]["devices"][0]["usable"], true);
  EXPECT_EQ(devices["cuda"]["devices"][0]["read_bytes_per_second"], 4.57e12);
  EXPECT_EQ(devices["cuda"]["devices"][1]["usable"], false);
  EXPECT_EQ(devices["cuda"]["devices"][1]["read_bytes_per_second"], json());
}

TEST(Devices, without_cuda_it_says_what_to_do) {
  const auto none = [] { return CudaDevices{false, "", "", "this program was built without CUDA: do this", {}}; };
  const json devices = list_devices(none, {});
  EXPECT_THAT(describe_devices(devices), AllOf(HasSubstr("built without CUDA: do this"), Not(HasSubstr("knows CUDA"))));
  EXPECT_EQ(devices["cuda"]["built"], false);
  EXPECT_EQ(devices["cuda"]["driver"], json());
  EXPECT_GT(devices["cpu"]["cores"], 0);
}

TEST(Devices, a_card_that_fails_while_it_is_measured_is_listed_all_the_same) {
  const json devices = list_devices(two_cards, [](int) -> double { throw user_error("another program has it"); });
  EXPECT_EQ(devices["cuda"]["devices"][0]["usable"], false);
  EXPECT_THAT(describe_devices(devices), HasSubstr("Card A: cannot be used: another program has it"));
}

}  // namespace
}  // namespace heartmula::bench
