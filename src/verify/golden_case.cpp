#include "verify/golden_case.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json_fields.h"
#include "checkpoint/device_choice.h"
#include "cpu/cpu_ops.h"
#include "cuda/cuda_ops.h"
#include "text/prompt.h"

namespace heartmula {
namespace detail {

const StoredTensor& Recording::tensor(const std::string& name) const {
  const StoredTensor* found = file_.find(name);
  if (found == nullptr) throw user_error("{}: no tensor {}", file_.name(), name);
  return *found;
}

std::vector<float> Recording::floats(const std::string& name) const {
  const StoredTensor& stored = tensor(name);
  std::vector<float> values(static_cast<size_t>(stored.elements()));
  convert_to_f32(values.data(), stored.data.data(), stored.dtype, 0, stored.elements());
  return values;
}

std::vector<int64_t> Recording::integers(const std::string& name) const {
  const StoredTensor& stored = tensor(name);
  if (stored.dtype == DType::kI32) {
    std::vector<int32_t> values(static_cast<size_t>(stored.elements()));
    std::memcpy(values.data(), stored.data.data(), stored.data.size());
    return {values.begin(), values.end()};
  }
  if (stored.dtype != DType::kI64) throw user_error("{}: {} must be I64 or I32", file_.name(), name);
  std::vector<int64_t> values(static_cast<size_t>(stored.elements()));
  std::memcpy(values.data(), stored.data.data(), stored.data.size());
  return values;
}

std::string Recording::text(const std::string& name) const {
  const StoredTensor& stored = tensor(name);
  return std::string(reinterpret_cast<const char*>(stored.data.data()), stored.data.size());
}

std::vector<std::string> Recording::prefixes() const {
  std::vector<std::string> prefixes;
  for (const StoredTensor& stored : file_.tensors()) {
    const std::string prefix = stored.name.substr(0, stored.name.find('.'));
    if (std::find(prefixes.begin(), prefixes.end(), prefix) == prefixes.end()) prefixes.push_back(prefix);
  }
  return prefixes;
}

void check_text(const std::filesystem::path& folder, std::vector<Check>& checks) {
  const Tokenizer tokenizer = Tokenizer::open(folder / "tokenizer.json");
  const GenConfig config = GenConfig::open(folder / "gen_config.json");
  const nlohmann::json golden = read_json_object(folder / "golden_text.json");
  int64_t texts = 0;
  int64_t differences = 0;
  for (const nlohmann::json& item : golden.at("encode")) {
    const std::vector<int32_t> ids = tokenizer.encode(item.at("text").get<std::string>());
    ++texts;
    differences += ids != item.at("ids").get<std::vector<int32_t>>();
  }
  checks.push_back(equality("tokenizer", "ids of texts", texts, differences));

  int64_t prompts = 0;
  differences = 0;
  for (const nlohmann::json& item : golden.at("preprocess")) {
    const Prompt prompt =
        make_prompt(tokenizer, config, item.at("tags").get<std::string>(), item.at("lyrics").get<std::string>());
    ++prompts;
    differences += prompt.text_ids != item.at("text_ids").get<std::vector<int32_t>>() ||
                   prompt.reference_index != item.at("muq_index").get<int64_t>();
  }
  checks.push_back(equality("prompt", "text columns of prompts", prompts, differences));
}

}  // namespace detail

namespace {

template <typename Stage>
void run_stage(const char* name, std::vector<Check>& checks, const Stage& stage) {
  try {
    stage();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kCancelled) throw;
    checks.push_back({.stage = name, .what = error.what(), .tolerance = "no error", .passed = false});
  } catch (const nlohmann::json::exception&) {
    checks.push_back({.stage = name,
                      .what = "golden_text.json lacks a field, or has another in its place",
                      .tolerance = "no error",
                      .passed = false});
  }
}

}  // namespace

std::string device_of(const VerifyOptions& options) {
  const Device device = choose_device("--device", options.device, 0);
  if (device.is_cuda) return make_cuda_ops({.device = device.index})->description();
  return make_cpu_ops({.threads = options.threads, .isa = {}})->description();
}

std::vector<Check> verify_case(const std::filesystem::path& folder, const VerifyOptions& options,
                               const CancelToken* cancel) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) {
    throw user_error("{}: {}", folder.string(), instead_of_folder(folder));
  }
  const auto is_golden = [](const std::filesystem::directory_entry& entry) {
    return entry.path().filename().string().starts_with("golden_");
  };
  if (std::none_of(std::filesystem::directory_iterator(folder, ignored), {}, is_golden)) {
    throw user_error("{}: is no golden case: it holds no file golden_*, what the reference recorded", folder.string());
  }
  std::vector<Check> checks;
  run_stage("text", checks, [&] { detail::check_text(folder, checks); });
  run_stage("language model", checks, [&] { detail::check_language_model(folder, options, cancel, checks); });
  run_stage("pipeline", checks, [&] { detail::check_pipeline(folder, options, cancel, checks); });
  run_stage("codec", checks, [&] { detail::check_codec(folder, options, cancel, checks); });
  return checks;
}

}  // namespace heartmula
