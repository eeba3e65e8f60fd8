// Where stages compute, with cards that are made up.
#include "checkpoint/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/testing.h"

namespace heartmula {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int64_t kGiga = 1'000'000'000;
constexpr DeviceNeeds kSong{.lm = 8 * kGiga, .codec = 7 * kGiga};

CudaDevice card(int index, int64_t free_gb, std::string problem = {}) {
  return {.index = index,
          .name = "Card",
          .major = 9,
          .minor = 0,
          .memory_bytes = (free_gb + 1) * kGiga,
          .free_bytes = free_gb * kGiga,
          .multiprocessors = 100,
          .shares_memory = false,
          .problem = std::move(problem)};
}

FindCudaDevices machine_with(std::vector<CudaDevice> cards) {
  return [cards] { return CudaDevices{true, "13.0", "13.0", "", cards}; };
}

FindCudaDevices machine_without(const std::string& why) {
  return [why] { return CudaDevices{false, "", "", why, {}}; };
}

DeviceWish wish(const std::string& word) {
  return parse_device("--device", word);
}

Device device(const std::string& word) {
  const DeviceWish w = wish(word);
  return {.is_cuda = w.kind == DeviceWish::Kind::kCuda, .index = w.index.value_or(0)};
}

MachineSettings settings(const std::string& all, const std::string& lm = {}, const std::string& codec = {}) {
  MachineSettings machine{.device = wish(all)};
  if (!lm.empty()) machine.mula_device = wish(lm);
  if (!codec.empty()) machine.codec_device = wish(codec);
  return machine;
}

std::string complaint(const MachineSettings& machine, const FindCudaDevices& find) {
  return error_of(ErrorKind::kUser, [&] { choose_devices(machine, kSong, find); });
}

void expect_both_on(const std::string& word, const StageDevices& devices) {
  EXPECT_EQ(devices.lm, device(word));
  EXPECT_EQ(devices.codec, device(word));
}

TEST(DeviceWish, words_come_back) {
  for (const char* word : {"auto", "cpu", "cuda", "cuda:0", "cuda:13"}) EXPECT_EQ(device_name(wish(word)), word);
}

TEST(DeviceWish, other_words_are_errors_that_say_what_may_be) {
  for (const char* word : {"", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999", "mps"}) {
    EXPECT_THAT(error_of(ErrorKind::kUser, [&] { wish(word); }),
                AllOf(StartsWith(std::string("--device ") + word), HasSubstr("cuda:N")));
  }
}

TEST(ChooseDevices, the_cpu_wakes_no_driver) {
  const FindCudaDevices never = []() -> CudaDevices { throw failure("was asked"); };
  expect_both_on("cpu", choose_devices(settings("cpu"), kSong, never));
  expect_both_on("cpu", choose_devices(settings("auto", "cpu", "cpu"), kSong, never));
}

TEST(ChooseDevices, auto_takes_a_card_with_the_memory_or_else_the_cpu) {
  const StageDevices one = choose_devices(settings("auto"), kSong, machine_with({card(0, 20)}));
  expect_both_on("cuda:0", one);
  EXPECT_FALSE(one.one_at_a_time);
  EXPECT_EQ(one.note, "");
  expect_both_on("cuda:1", choose_devices(settings("auto"), kSong, machine_with({card(0, 10), card(1, 20)})));
  expect_both_on("cuda:1", choose_devices(settings("auto"), kSong, machine_with({card(0, 40, "old"), card(1, 20)})));
  const StageDevices none = choose_devices(settings("auto"), kSong, machine_with({card(0, 6)}));
  expect_both_on("cpu", none);
  EXPECT_THAT(none.note, AllOf(HasSubstr("cuda:0 (Card) has 6.0 GB free"), HasSubstr("CPU")));
  const StageDevices plain = choose_devices(settings("auto"), kSong, machine_without("no driver"));
  expect_both_on("cpu", plain);
  EXPECT_EQ(plain.note, "");
}

TEST(ChooseDevices, a_card_too_small_for_both_models_holds_one_after_the_other) {
  for (const char* word : {"auto", "cuda", "cuda:0"}) {
    const StageDevices devices = choose_devices(settings(word), kSong, machine_with({card(0, 11)}));
    expect_both_on("cuda:0", devices);
    EXPECT_TRUE(devices.one_at_a_time) << word;
    EXPECT_THAT(devices.note, AllOf(HasSubstr("11.0 GB"), HasSubstr("15.0 GB"), HasSubstr("--codec_dtype bf16")));
  }
  MachineSettings lazy = settings("cuda");
  lazy.lazy_load = true;
  EXPECT_EQ(choose_devices(lazy, kSong, machine_with({card(0, 11)})).note, "");
}

TEST(ChooseDevices, each_stage_may_have_its_own) {
  const auto two = machine_with({card(0, 40), card(1, 40)});
  const StageDevices mixed = choose_devices(settings("auto", "cuda", "cpu"), kSong, two);
  EXPECT_EQ(mixed.lm, device("cuda:0"));
  EXPECT_EQ(mixed.codec, device("cpu"));
  EXPECT_FALSE(mixed.share_cpu());
  const StageDevices cards = choose_devices(settings("auto", "cuda:1", "cuda:0"), kSong, two);
  EXPECT_EQ(cards.lm, device("cuda:1"));
  EXPECT_EQ(cards.codec, device("cuda:0"));
  EXPECT_EQ(choose_devices(settings("cpu", "", "cuda:1"), kSong, two).codec, device("cuda:1"));
  EXPECT_EQ(choose_devices(settings("auto"), {.lm = 0, .codec = kGiga}, two).codec, device("cuda:0"));
}

TEST(ChooseDevices, a_card_that_was_asked_for_is_used_or_an_error) {
  expect_both_on("cuda:1", choose_devices(settings("cuda"), kSong, machine_with({card(0, 40, "old"), card(1, 2)})));
  expect_both_on("cuda:0", choose_devices(settings("cuda:0"), kSong, machine_with({card(0, 1)})));
  EXPECT_THAT(complaint(settings("cuda"), machine_without("this program was built without CUDA")),
              AllOf(StartsWith("--device cuda: this program was built without CUDA"), HasSubstr("--device cpu")));
  EXPECT_THAT(complaint(settings("cuda:2"), machine_with({card(0, 40)})),
              AllOf(StartsWith("--device cuda:2: there is no such card"), HasSubstr("cuda:0 (Card)")));
  EXPECT_THAT(complaint(settings("cuda:0"), machine_with({card(0, 40, "too old")})),
              AllOf(StartsWith("--device cuda:0: Card: too old"), HasSubstr("--device cpu")));
  EXPECT_THAT(complaint(settings("cuda"), machine_with({card(0, 40, "too old")})), HasSubstr("too old"));
  EXPECT_THAT(complaint(settings("cpu", "cuda"), machine_without("no driver")),
              StartsWith("--mula_device cuda: no driver"));
  EXPECT_THAT(complaint(settings("cpu", "", "cuda:0"), machine_without("no driver")),
              StartsWith("--codec_device cuda:0: no driver"));
}

}  // namespace
}  // namespace heartmula
