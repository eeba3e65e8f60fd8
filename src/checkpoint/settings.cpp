#include "checkpoint/settings.h"

#include <spdlog/spdlog.h>

#include <charconv>
#include <string_view>
#include <system_error>

#include "base/error.h"

namespace heartmula {

DType parse_weight_dtype(const std::string& flag, const std::string& name) {
  if (name == "float32" || name == "fp32" || name == "f32") return DType::kF32;
  if (name == "bfloat16" || name == "bf16") return DType::kBF16;
  if (name == "float16" || name == "fp16") {
    spdlog::warn("{} {}: this build computes 16-bit floats as bf16", flag, name);
    return DType::kBF16;
  }
  throw user_error("{} {}: must be float32 (fp32) or bfloat16 (bf16)", flag, name);
}

std::string weight_dtype_name(DType dtype) {
  return dtype == DType::kBF16 ? "bfloat16" : "float32";
}

DeviceWish parse_device(const std::string& flag, const std::string& word) {
  if (word == "auto") return {};
  if (word == "cpu") return {.kind = DeviceWish::Kind::kCpu};
  if (word == "cuda") return {.kind = DeviceWish::Kind::kCuda};
  constexpr std::string_view kCard = "cuda:";
  if (word.starts_with(kCard)) {
    int index = 0;
    const auto [end, error] = std::from_chars(word.data() + kCard.size(), word.data() + word.size(), index);
    if (error == std::errc() && end == word.data() + word.size() && index >= 0) {
      return {.kind = DeviceWish::Kind::kCuda, .index = index};
    }
  }
  throw user_error("{} {}: must be auto, cpu, cuda, or cuda:N for the card that `heartmula devices` lists as N", flag,
                   word);
}

std::string device_name(const DeviceWish& wish) {
  if (wish.kind == DeviceWish::Kind::kAuto) return "auto";
  if (wish.kind == DeviceWish::Kind::kCpu) return "cpu";
  return wish.index ? "cuda:" + std::to_string(*wish.index) : "cuda";
}

CudaWeights parse_cuda_weights(const std::string& flag, const std::string& word) {
  if (word == "copy") return CudaWeights::kCopy;
  if (word == "map") throw user_error("{} map: is not built yet; use copy", flag);
  throw user_error("{} {}: must be copy or map", flag, word);
}

std::string cuda_weights_name(CudaWeights weights) {
  return weights == CudaWeights::kCopy ? "copy" : "map";
}

DraftSettings MachineSettings::drafts() const {
  DraftSettings settings = DraftSettings::parse("--drafter", drafter);
  settings.frames = draft_frames;
  const bool completes = settings.kind == DrafterKind::kAuto || settings.kind == DrafterKind::kBigram ||
                         settings.kind == DrafterKind::kFile;
  if (draft_frames == 0 && !completes && settings.kind != DrafterKind::kNone) {
    throw user_error(
        "--draft_frames 0 guesses the rest of each frame, which {} cannot; use bigram, a drafter file, or 1 or more",
        drafter);
  }
  return settings;
}

std::string parse_drafter(const std::string& flag, const std::string& word) {
  if (DraftSettings::parse(flag, word).kind == DrafterKind::kOracle) {
    throw user_error("{} {}: an oracle must know the song; `heartmula bench --stage drafted` has one", flag, word);
  }
  return word;
}

std::optional<int> parse_overlap(const std::string& flag, const std::string& word) {
  if (word == "auto") return std::nullopt;
  if (word == "off") return 0;
  int threads = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), threads);
  if (error == std::errc() && end == word.data() + word.size() && threads >= 1 && threads <= kMaxThreads) {
    return threads;
  }
  throw user_error("{} {}: must be auto, off, or a number of threads for the codec", flag, word);
}

std::string overlap_name(const std::optional<int>& overlap) {
  if (!overlap) return "auto";
  return *overlap == 0 ? "off" : std::to_string(*overlap);
}

}  // namespace heartmula
