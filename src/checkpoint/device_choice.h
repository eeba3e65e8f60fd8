// Which device each stage of a song computes on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "checkpoint/settings.h"
#include "cuda/devices.h"

namespace heartmula {

/// One that is there.
struct Device {
  bool is_cuda = false;
  int index = 0;  // of the card

  bool operator==(const Device&) const = default;
  /// "cpu", "cuda:1": a word that parse_device takes.
  std::string name() const { return device_name(wish()); }
  DeviceWish wish() const;
};

/// What the models take of a card's memory, about: the choice of a card must come before anything is planned.
struct DeviceNeeds {
  int64_t lm = 0;     // 0: there is no such stage in this run
  int64_t codec = 0;  // likewise
};

struct StageDevices {
  Device lm;
  Device codec;
  bool one_at_a_time = false;  // both are on one card that does not hold them at once
  std::string note = {};       // what of this may surprise; empty if nothing

  bool any_cuda() const { return lm.is_cuda || codec.is_cuda; }
  /// Whether both compute on the same cores, which they then have to share.
  bool share_cpu() const { return !lm.is_cuda && !codec.is_cuda; }
};

using FindCudaDevices = std::function<CudaDevices()>;

/// `find` is called only if a card may be chosen. A stage that was asked to be on a card is there, or an Error(kUser)
/// says what to do; `auto` is a card that has the memory, or the CPU.
StageDevices choose_devices(const MachineSettings& machine, const DeviceNeeds& needs,
                            const FindCudaDevices& find = find_cuda_devices);
/// Of a run with one device; `flag` begins the message ("--device").
Device choose_device(const std::string& flag, const DeviceWish& wish, int64_t bytes,
                     const FindCudaDevices& find = find_cuda_devices);

/// How people call a card: "cuda:0 (NVIDIA H200)".
std::string describe(const CudaDevice& card);
/// Null if there is none.
const CudaDevice* find_card(const CudaDevices& found, int index);

}  // namespace heartmula
