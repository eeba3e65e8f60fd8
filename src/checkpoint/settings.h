// Which checkpoint makes a song, and what of the machine it may use.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/names.h"
#include "decode/draft_settings.h"
#include "tensor/dtype.h"

namespace heartmula {

inline constexpr int kMaxThreads = 1024;

struct CheckpointSettings {
  std::string model_path;  // the folder with all of it; may be empty if the paths below say where everything is
  std::string version = "3B";
  DType mula_dtype = DType::kBF16;
  DType codec_dtype = DType::kF32;
  std::string mula_path = {};          // the language model's folder, instead of that in model_path
  std::string codec_path = {};         // the codec's folder, likewise
  std::string tokenizer = {};          // tokenizer.json, likewise
  std::vector<std::string> lora = {};  // folders of PEFT adapters that are merged into the language model
  int64_t skip_layers = 0;             // of the backbone, from its middle outward: another model, of level G2
};

/// "bfloat16", "bf16", "float16", "fp16", "float32", "fp32" as in heartlib; 16-bit floats are bf16 (with a note for
/// fp16). Throws Error(kUser) that begins with `flag` ("--mula_dtype") for anything else.
DType parse_weight_dtype(const std::string& flag, const std::string& name);
std::string weight_dtype_name(DType dtype);

/// Where to compute, as it is asked for; device_choice.h finds the device.
struct DeviceWish {
  enum class Kind : uint8_t { kAuto, kCpu, kCuda };

  Kind kind = Kind::kAuto;
  std::optional<int> index = {};  // of the card; any if there is none

  bool operator==(const DeviceWish&) const = default;
};

/// "auto", "cpu", "cuda" or "cuda:N". Throws Error(kUser) that begins with `flag` for anything else.
DeviceWish parse_device(const std::string& flag, const std::string& word);
std::string device_name(const DeviceWish& wish);

/// How weights get to a card: copied, or read where they lie in a mapped file.
enum class CudaWeights : uint8_t { kCopy, kMap };

/// "copy" or "map". Throws Error(kUser) that begins with `flag` for anything else.
CudaWeights parse_cuda_weights(const std::string& flag, const std::string& word);
std::string cuda_weights_name(CudaWeights weights);

/// What becomes of a song whose plan is larger than the memory.
enum class MemoryPolicy : uint8_t {
  kStrict,  // it is refused
  kAuto,    // it is made in another way that fits: one model at a time, the codec's weights in bfloat16, or both
};

inline constexpr Names<MemoryPolicy, 2> kMemoryPolicies = {
    {{{MemoryPolicy::kStrict, "strict"}, {MemoryPolicy::kAuto, "auto"}}}};

struct MachineSettings {
  DeviceWish device = {};
  std::optional<DeviceWish> mula_device = {};   // of the language model, instead of `device`
  std::optional<DeviceWish> codec_device = {};  // of the codec, likewise
  CudaWeights cuda_weights = CudaWeights::kCopy;
  bool lazy_load = false;  // one model in memory at a time
  MemoryPolicy memory = MemoryPolicy::kStrict;
  int threads = 0;                  // 0: as many as serve best
  std::string cpus = {};            // "0-3,8" or "fastest": pins the threads; empty: the system places them
  bool mlock = false;               // weights are locked in memory
  std::optional<int> overlap = {};  // threads of the codec beside the frame loop, 0 for none; measured if not given
  std::string drafter = "auto";     // as DraftSettings::parse reads it
  std::optional<int64_t> draft_frames = {};  // in every step; those that pay if not given

  std::optional<int64_t> kv_memory_mb = {};  // for keys and values of all songs, at most
  std::string kv_swap = {};                  // the folder where they go if they have no room in memory

  DraftSettings drafts() const;
};

/// `word`, if it names a drafter that needs nothing else. Throws Error(kUser) that begins with `flag` for anything
/// else.
std::string parse_drafter(const std::string& flag, const std::string& word);

/// "auto" (nothing), "off" (0), or a number of threads. Throws Error(kUser) that begins with `flag` for anything else.
std::optional<int> parse_overlap(const std::string& flag, const std::string& word);
std::string overlap_name(const std::optional<int>& overlap);

}  // namespace heartmula
