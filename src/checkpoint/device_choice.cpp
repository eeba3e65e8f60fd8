#include "checkpoint/device_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "base/error.h"
#include "base/message.h"

namespace heartmula {
namespace {

// A problem, and the way out that always works, unless it names that itself.
std::string with_way_out(const std::string& problem, const std::string& flag) {
  if (problem.find("--device cpu") != std::string::npos) return problem;
  return fmt::format("{}; or use {} cpu", problem, flag);
}

// Looks for cards when they are first asked for: `--device cpu` wakes no driver.
class Cards {
 public:
  explicit Cards(const FindCudaDevices& find) : find_(find) {}

  const CudaDevices& found() {
    if (!found_) found_ = find_();
    return *found_;
  }

  /// The first that can be used and has this much memory free; null if there is none.
  const CudaDevice* with_memory(int64_t bytes) {
    for (const CudaDevice& card : found().devices) {
      if (card.problem.empty() && card.free_bytes >= bytes) return &card;
    }
    return nullptr;
  }

  std::string names() {
    std::string names;
    for (const CudaDevice& card : found().devices) names += (names.empty() ? "" : ", ") + describe(card);
    return names;
  }

 private:
  const FindCudaDevices& find_;
  std::optional<CudaDevices> found_;
};

struct Stage {
  std::string flag;
  DeviceWish wish;
};

Stage stage_of(const char* flag, const std::optional<DeviceWish>& wish, const DeviceWish& all) {
  return wish ? Stage{flag, *wish} : Stage{"--device", all};
}

// A card with the first of `bytes` that any has; of those that were asked for, at last any.
Device choose(const Stage& stage, std::initializer_list<int64_t> bytes, Cards& cards) {
  if (stage.wish.kind == DeviceWish::Kind::kCpu) return {};
  const bool is_auto = stage.wish.kind == DeviceWish::Kind::kAuto;
  const CudaDevices& found = cards.found();
  const std::string asked = stage.flag + " " + device_name(stage.wish);
  if (!is_auto && found.devices.empty()) throw user_error("{}: {}", asked, with_way_out(found.problem, stage.flag));
  if (stage.wish.index) {
    const CudaDevice* card = find_card(found, *stage.wish.index);
    if (card == nullptr) throw user_error("{}: there is no such card, only {}", asked, cards.names());
    if (!card->problem.empty())
      throw user_error("{}: {}: {}", asked, card->name, with_way_out(card->problem, stage.flag));
    return {.is_cuda = true, .index = card->index};
  }
  for (const int64_t enough : bytes) {
    if (const CudaDevice* card = cards.with_memory(enough)) return {.is_cuda = true, .index = card->index};
  }
  if (is_auto) return {};
  if (const CudaDevice* card = cards.with_memory(0)) return {.is_cuda = true, .index = card->index};
  const CudaDevice& first = found.devices.front();
  throw user_error("{}: {}: {}", asked, describe(first), with_way_out(first.problem, stage.flag));
}

}  // namespace

DeviceWish Device::wish() const {
  if (!is_cuda) return {.kind = DeviceWish::Kind::kCpu};
  return {.kind = DeviceWish::Kind::kCuda, .index = index};
}

std::string describe(const CudaDevice& card) {
  return fmt::format("cuda:{} ({})", card.index, card.name);
}

const CudaDevice* find_card(const CudaDevices& found, int index) {
  const auto card = std::ranges::find(found.devices, index, &CudaDevice::index);
  return card == found.devices.end() ? nullptr : &*card;
}

Device choose_device(const std::string& flag, const DeviceWish& wish, int64_t bytes, const FindCudaDevices& find) {
  Cards cards(find);
  return choose({flag, wish}, {bytes}, cards);
}

StageDevices choose_devices(const MachineSettings& machine, const DeviceNeeds& needs, const FindCudaDevices& find) {
  Cards cards(find);
  const Stage lm = stage_of("--mula_device", machine.mula_device, machine.device);
  const Stage codec = stage_of("--codec_device", machine.codec_device, machine.device);
  const int64_t one = std::max(needs.lm, needs.codec);
  const int64_t both = machine.lazy_load ? one : needs.lm + needs.codec;
  StageDevices devices;
  if (needs.lm == 0 || needs.codec == 0) {
    if (needs.lm > 0) devices.lm = choose(lm, {needs.lm}, cards);
    if (needs.codec > 0) devices.codec = choose(codec, {needs.codec}, cards);
  } else if (lm.wish == codec.wish) {
    devices.lm = choose(lm, {both, one}, cards);  // a card that holds them one after the other is better than none
    devices.codec = devices.lm;
  } else {
    devices.lm = choose(lm, {needs.lm}, cards);
    devices.codec = choose(codec, {needs.codec}, cards);
  }
  if (needs.lm > 0 && devices.lm.is_cuda && devices.lm == devices.codec && !machine.lazy_load) {
    const CudaDevice& card = *find_card(cards.found(), devices.lm.index);
    if (card.free_bytes < both && card.free_bytes >= one) {
      devices.one_at_a_time = true;
      devices.note = fmt::format(
          "{} has {:.1f} GB free, and both models at once take about {:.1f} GB: one at a time, as with --lazy_load "
          "true{}",
          describe(card), gigabytes(card.free_bytes), gigabytes(both),
          needs.codec > needs.lm / 2 ? "; --codec_dtype bf16 takes less" : "");
    }
  }
  const bool wanted_any = lm.wish.kind == DeviceWish::Kind::kAuto || codec.wish.kind == DeviceWish::Kind::kAuto;
  if (devices.note.empty() && wanted_any && !devices.any_cuda()) {
    if (const CudaDevice* card = cards.with_memory(0)) {
      devices.note = fmt::format("{} has {:.1f} GB free, but the models take about {:.1f} GB: computing on the CPU",
                                 describe(*card), gigabytes(card->free_bytes), gigabytes(one));
    }
  }
  return devices;
}

}  // namespace heartmula
