#include "checkpoint/lora.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/json_fields.h"
#include "lm/heartmula.h"
#include "tensor/fingerprint.h"
#include "tensor/tensor_check.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr int64_t kMostRank = 1 << 16;
constexpr double kMostAlpha = 1e9;

/// A name of a pattern of adapter_config.json: a module's, or the end of one. PEFT takes any regular expression.
bool is_plain(const std::string& pattern) {
  return std::ranges::all_of(pattern, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
  });
}

class AdapterConfig {
 public:
  explicit AdapterConfig(const fs::path& path) : name_(path.string()) {
    const std::string text = read_file(path);
    const nlohmann::json json = parse_json_object(text, name_);
    const JsonFields fields(json, name_);
    if (fields.text("peft_type") != "LORA") refuse("peft_type", json);
    for (const char* field : {"use_dora", "lora_bias", "modules_to_save", "target_parameters", "layer_replication",
                              "trainable_token_indices", "use_qalora"}) {
      const auto found = json.find(field);
      const bool off =
          found == json.end() || found->is_null() || *found == false || (!found->is_boolean() && found->empty());
      if (!off) refuse(field, json);
    }
    if (json.contains("bias") && json["bias"] != "none") refuse("bias", json);
    // The others that are named by words only choose where training begins.
    for (const char* changes_base : {"pissa", "olora", "corda", "loftq"}) {
      const nlohmann::json init = json.value("init_lora_weights", nlohmann::json());
      if (init.is_string() && init.get_ref<const std::string&>().starts_with(changes_base)) {
        throw user_error(
            "{}: init_lora_weights is {}, which changes the base model, too; save the adapter converted to "
            "a plain one",
            name_, init.dump(-1, ' ', true));
      }
    }
    rank_ = fields.integer("r", 1, kMostRank);
    alpha_ = fields.number("lora_alpha", -kMostAlpha, kMostAlpha);
    rslora_ = json.contains("use_rslora") && fields.flag("use_rslora");
    // In the order of the file, for the first pattern that fits a module counts.
    const auto ordered = nlohmann::ordered_json::parse(text);
    const auto ranks = pattern_of(ordered, "rank_pattern");
    for (const auto& [pattern, value] : ranks.items()) {
      if (value.is_number_integer() && value.get<int64_t>() >= 1) ranks_.insert(value.get<int64_t>());
    }
    const auto alphas = pattern_of(ordered, "alpha_pattern");
    for (const auto& [pattern, value] : alphas.items()) {
      const std::string plain = pattern.starts_with('^') ? pattern.substr(1) : pattern;
      if (!is_plain(plain) || !value.is_number()) {
        throw user_error(
            "{}: alpha_pattern has {}: {}, but only names of modules, or their ends, with numbers are "
            "supported",
            name_, nlohmann::json(pattern).dump(-1, ' ', true), value.dump(-1, ' ', true));
      }
      alphas_.emplace_back(pattern, value.get<double>());
    }
  }

  bool allows(int64_t rank) const { return rank == rank_ || ranks_.contains(rank); }
  int64_t rank() const { return rank_; }

  double scale(const std::string& module, int64_t rank) const {
    const auto fits = [&module](const auto& pattern) {
      const std::string& name = pattern.first;
      return name.starts_with('^') ? name.substr(1) == module : name == module || module.ends_with("." + name);
    };
    const auto found = std::ranges::find_if(alphas_, fits);
    const double alpha = found == alphas_.end() ? alpha_ : found->second;
    return alpha / (rslora_ ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
  }

 private:
  [[noreturn]] void refuse(const char* field, const nlohmann::json& json) const {
    throw user_error("{}: {} is {}, which is not supported: only LoRA of linear layers can be merged", name_, field,
                     json[field].dump(-1, ' ', true).substr(0, 120));
  }

  static nlohmann::ordered_json pattern_of(const nlohmann::ordered_json& json, const char* field) {
    const auto found = json.find(field);
    return found == json.end() || !found->is_object() ? nlohmann::ordered_json::object() : *found;
  }

  std::string name_;
  int64_t rank_ = 0;
  double alpha_ = 0;
  bool rslora_ = false;
  std::set<int64_t> ranks_;                             // of rank_pattern
  std::vector<std::pair<std::string, double>> alphas_;  // alpha_pattern
};

/// LoRA's A and B of one module.
struct Factors {
  const StoredTensor* a = nullptr;
  const StoredTensor* b = nullptr;
};

/// "backbone.layers.0.attn.q_proj" and which factor, of "base_model.model.backbone.layers.0.attn.q_proj.lora_A.weight";
/// some programs keep the adapter's name: "...lora_A.default.weight".
struct FactorName {
  std::string module;
  char factor = 'A';
};

std::optional<FactorName> parse_name(std::string_view name) {
  constexpr std::string_view kPrefix = "base_model.model.";
  constexpr std::string_view kWeight = ".weight";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  if (!name.ends_with(kWeight)) return std::nullopt;
  name.remove_suffix(kWeight.size());
  for (const char factor : {'A', 'B'}) {
    const std::string marker = fmt::format(".lora_{}", factor);
    const size_t found = name.rfind(marker);
    if (found == std::string_view::npos) continue;
    const std::string_view rest = name.substr(found + marker.size());
    if (rest.empty() || (rest.front() == '.' && rest.find('.', 1) == std::string_view::npos)) {
      return FactorName{std::string(name.substr(0, found)), factor};
    }
  }
  return std::nullopt;
}

std::map<std::string, Factors> factors_in(const SafetensorsFile& file) {
  std::map<std::string, Factors> modules;
  for (const StoredTensor& tensor : file.tensors()) {
    const std::optional<FactorName> name = parse_name(tensor.name);
    if (!name) {
      throw user_error(
          "{}: {} is neither lora_A.weight nor lora_B.weight of a module; only LoRA of linear layers, as "
          "PEFT saves it, can be merged",
          file.name(), nlohmann::json(tensor.name).dump(-1, ' ', true));
    }
    if (tensor.dtype != DType::kF32 && tensor.dtype != DType::kBF16 && tensor.dtype != DType::kF16) {
      throw user_error("{}: {} has the dtype {}; F32, BF16 and F16 are supported", file.name(), tensor.name,
                       dtype_name(tensor.dtype));
    }
    Factors& factors = modules[name->module];
    (name->factor == 'A' ? factors.a : factors.b) = &tensor;
  }
  if (modules.empty()) throw user_error("{}: has no tensors", file.name());
  return modules;
}

void check_finite(const StoredTensor& factor, const std::string& file) {
  std::vector<float> values(static_cast<size_t>(factor.elements()));
  convert_to_f32(values.data(), factor.data.data(), factor.dtype, 0, factor.elements());
  if (!all_finite(values)) refuse_not_finite(factor.name, file);
}

/// The linear layers of the language model: names of modules.
std::set<std::string> linear_layers(const LmConfig& config, const WeightStore& store) {
  constexpr std::string_view kWeight = ".weight";
  std::set<std::string> modules;
  for (const ExpectedTensor& tensor : HeartMula::expected_tensors(config)) {
    if (tensor.is_table || tensor.shape.size() != 2 || !tensor.name.ends_with(kWeight)) continue;
    modules.insert(tensor.name.substr(0, tensor.name.size() - kWeight.size()));
  }
  if (store.contains("muq_linear.weight")) modules.insert("muq_linear");
  return modules;
}

SafetensorsFile open_weights(const fs::path& folder) {
  const fs::path weights = folder / kWeightsName;
  std::error_code error;
  if (!fs::exists(weights, error) && fs::exists(folder / "adapter_model.bin", error)) {
    throw user_error("{}: is a PyTorch pickle, which can run code; save the adapter as safetensors",
                     (folder / "adapter_model.bin").string());
  }
  return SafetensorsFile::open(weights);
}

}  // namespace

void merge_lora(const fs::path& folder, WeightStore& store, const LmConfig& config) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw user_error("--lora {}: {}; it is the one with {} and {}", folder.string(), instead_of_folder(folder),
                     kConfigName, kWeightsName);
  }
  if (store.packed() != nullptr) {
    throw user_error(
        "--lora {}: {} is packed, and nothing can be merged into it; use the stock checkpoint, or pack that "
        "with `heartmula convert --lora {}`",
        folder.string(), store.path().string(), folder.string());
  }
  const AdapterConfig adapter(folder / kConfigName);
  const auto file = std::make_shared<const SafetensorsFile>(open_weights(folder));
  const std::set<std::string> layers = linear_layers(config, store);
  for (const auto& [module, factors] : factors_in(*file)) {
    const std::string shown = nlohmann::json(module).dump(-1, ' ', true);
    if (!layers.contains(module)) {
      throw user_error(
          "{}: the language model has no linear layer {}; its names are like backbone.layers.0.attn.q_proj",
          file->name(), shown);
    }
    if (factors.a == nullptr || factors.b == nullptr) {
      throw user_error("{}: {} has no lora_{}.weight", file->name(), shown, factors.a == nullptr ? 'A' : 'B');
    }
    const std::string tensor = module + ".weight";
    const std::vector<int64_t>& shape = store.shape(tensor);
    const std::vector<int64_t>& a = factors.a->shape;
    const std::vector<int64_t>& b = factors.b->shape;
    if (shape.size() != 2 || a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[1] != shape[1] || b[0] != shape[0]) {
      throw user_error(
          "{}: {} does not fit: lora_B {} times lora_A {} is no change of {}; was it trained on another model?",
          file->name(), shown, shape_string(b), shape_string(a), shape_string(shape));
    }
    if (!adapter.allows(a[0])) {
      throw user_error("{}: {} has rank {}, but r is {} in {}", file->name(), shown, a[0], adapter.rank(), kConfigName);
    }
    check_finite(*factors.a, file->name());
    check_finite(*factors.b, file->name());
    store.change(tensor, {*factors.b, *factors.a, adapter.scale(module, a[0]), file});
  }
  spdlog::debug("{}: merged", folder.string());
}

std::string lora_fingerprint(const fs::path& folder) {
  return fingerprint(read_file(folder / kConfigName), WeightStore::of(open_weights(folder)));
}

}  // namespace heartmula
