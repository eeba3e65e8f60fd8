#include "checkpoint/settings.h"

#include <spdlog/spdlog.h>

#include <charconv>
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
