#include "checkpoint/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_fields.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/models.h"
#include "codec/heartcodec.h"
#include "heartmula/frame.h"
#include "lm/heartmula.h"
#include "tensor/weight_store.h"
#include "text/gen_config.h"
#include "text/tokenizer.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

void count(const StoredTensor& tensor, std::map<std::string, int64_t>& dtypes, int64_t& parameters, int64_t& bytes) {
  ++dtypes[std::string(dtype_name(tensor.dtype))];
  parameters += tensor.elements();
  bytes += static_cast<int64_t>(tensor.data.size());
}

nlohmann::json totals(const WeightStore& store) {
  std::map<std::string, int64_t> dtypes;
  int64_t parameters = 0;
  int64_t bytes = 0;
  int64_t tensors = 0;
  for (const SafetensorsFile& file : store.files()) {
    for (const StoredTensor& tensor : file.tensors()) {
      if (store.packed() != nullptr && PackedIndex::is_gap(tensor.name)) continue;
      count(tensor, dtypes, parameters, bytes);
      ++tensors;
    }
  }
  nlohmann::json json = {{"files", store.files().size()},
                         {"tensors", tensors},
                         {"dtypes", dtypes},
                         {"parameters", parameters},
                         {"bytes", bytes}};
  if (store.packed() != nullptr) {
    const PackedLayout& layout = store.packed()->layout;
    json["parameters"] = store.total_elements();  // without the padding of the panels
    json["packed"] = {{"dtype", dtype_name(layout.dtype)},
                      {"panel_width", layout.panel_width},
                      {"k_per_group", layout.k_per_group},
                      {"matrices", store.packed()->matrices.size()},
                      {"made_by", store.packed()->made_by}};
  }
  return json;
}

nlohmann::json dimensions(const TransformerConfig& c) {
  return {{"num_layers", c.num_layers},    {"num_heads", c.num_heads}, {"num_kv_heads", c.num_kv_heads},
          {"embed_dim", c.embed_dim},      {"head_dim", c.head_dim()}, {"intermediate_dim", c.intermediate_dim},
          {"max_seq_len", c.max_seq_len},  {"norm_eps", c.norm_eps},   {"rope_base", c.rope_base},
          {"scale_factor", c.scale_factor}};
}

nlohmann::json inspect_language_model(const fs::path& folder) {
  const LmConfig config = read_lm_config(folder / "config.json");
  const WeightStore store = WeightStore::open(folder);
  HeartMula::require(store, config);
  nlohmann::json json = totals(store);
  json["model"] = "HeartMuLa";
  json["path"] = folder.string();
  json["backbone_flavor"] = config.backbone_flavor;
  json["decoder_flavor"] = config.decoder_flavor;
  json["backbone"] = dimensions(config.backbone);
  json["decoder"] = dimensions(config.decoder);
  json["text_vocab_size"] = config.text_vocab_size;
  json["audio_vocab_size"] = config.audio_vocab_size;
  json["audio_num_codebooks"] = kCodebooks;
  json["unused_tensors"] = store.unused();
  return json;
}

nlohmann::json inspect_codec(const fs::path& folder) {
  const CodecConfig c = read_codec_config(folder / "config.json");
  const WeightStore store = HeartCodec::open_weights(folder, c);
  store.require(HeartCodec::expected_tensors(c, store), c.source);
  nlohmann::json json = totals(store);
  json["model"] = "HeartCodec";
  json["path"] = folder.string();
  json["codebook_size"] = c.codebook_size;
  json["codebook_dim"] = c.codebook_dim;
  json["dim"] = c.dim;
  json["num_attention_heads"] = c.num_heads;
  json["attention_head_dim"] = c.head_dim;
  json["num_layers"] = c.num_layers;
  json["num_layers_2"] = c.num_layers_2;
  json["latent_hidden_dim"] = c.latent_dim;
  json["init_channel"] = c.init_channel;
  json["upsample_factors"] = c.upsample_factors;
  if (c.student) json["student"] = {{"steps", c.student->steps}, {"base", c.student->base}};
  json["unused_tensors"] = store.unused();
  return json;
}

}  // namespace

nlohmann::json inspect_folder(const fs::path& path) {
  std::error_code error;
  if (fs::exists(path / "config.json", error)) {
    const bool is_language_model = read_json_object(path / "config.json").contains("backbone_flavor");
    nlohmann::json json = is_language_model ? inspect_language_model(path) : inspect_codec(path);
    json["kind"] = "model";
    return json;
  }
  CheckpointSettings settings{.model_path = path.string()};
  const std::vector<std::string> models = language_models_in(path);
  if (models.size() == 1) settings.version = models.front();  // of whatever size
  const CheckpointPaths paths = find_checkpoint(settings, CheckpointParts::kAll);
  const Tokenizer tokenizer = Tokenizer::open(paths.tokenizer);
  const GenConfig gen = GenConfig::open(paths.gen_config);
  check_ids(gen, read_lm_config(paths.mula / "config.json"), paths.gen_config.string());
  return {{"kind", "checkpoint"},
          {"path", path.string()},
          {"notes", paths.notes},
          {"tokenizer", {{"vocabulary", tokenizer.vocabulary_size()}}},
          {"gen_config",
           {{"text_bos_id", gen.text_bos_id},
            {"text_eos_id", gen.text_eos_id},
            {"audio_eos_id", gen.audio_eos_id},
            {"empty_id", gen.empty_id}}},
          {"models", {inspect_language_model(paths.mula), inspect_codec(paths.codec)}}};
}

nlohmann::json inspect_file(const SafetensorsFile& file) {
  std::map<std::string, int64_t> dtypes;
  int64_t parameters = 0;
  int64_t bytes = 0;
  nlohmann::json tensors = nlohmann::json::array();
  for (const StoredTensor& tensor : file.tensors()) {
    count(tensor, dtypes, parameters, bytes);
    tensors.push_back({{"name", tensor.name},
                       {"dtype", dtype_name(tensor.dtype)},
                       {"shape", tensor.shape},
                       {"bytes", tensor.data.size()}});
  }
  return {{"kind", "safetensors"},    {"path", file.name()}, {"tensors", tensors},         {"dtypes", dtypes},
          {"parameters", parameters}, {"bytes", bytes},      {"metadata", file.metadata()}};
}

namespace {

std::string describe_totals(const nlohmann::json& json) {
  std::string dtypes;
  for (const auto& item : json["dtypes"].items()) {
    dtypes += fmt::format("{}{} {}", dtypes.empty() ? "" : ", ", item.value().get<int64_t>(), item.key());
  }
  return fmt::format("{} parameters, {:.3f} GB ({})", json["parameters"].get<int64_t>(),
                     json["bytes"].get<double>() * 1e-9, dtypes);
}

std::string describe_transformer(const char* name, const nlohmann::json& c) {
  return fmt::format("  {}: {} layers of {}, {} query and {} key/value heads of {}, MLP {}, context {}\n", name,
                     c["num_layers"].get<int64_t>(), c["embed_dim"].get<int64_t>(), c["num_heads"].get<int64_t>(),
                     c["num_kv_heads"].get<int64_t>(), c["head_dim"].get<int64_t>(),
                     c["intermediate_dim"].get<int64_t>(), c["max_seq_len"].get<int64_t>());
}

std::string describe_model(const nlohmann::json& m) {
  std::string text = fmt::format("{} in {}: {} files, {}\n", m["model"].get<std::string>(),
                                 escaped(m["path"].get<std::string>()), m["files"].get<int64_t>(), describe_totals(m));
  if (m["model"] == "HeartMuLa") {
    text += describe_transformer("backbone", m["backbone"]);
    text += describe_transformer("depth decoder", m["decoder"]);
    text += fmt::format("  vocabulary: {} text tokens, {} codes in each of {} codebooks\n",
                        m["text_vocab_size"].get<int64_t>(), m["audio_vocab_size"].get<int64_t>(),
                        m["audio_num_codebooks"].get<int64_t>());
  } else {
    const int64_t width = m["num_attention_heads"].get<int64_t>() * m["attention_head_dim"].get<int64_t>();
    text +=
        fmt::format("  codebooks: 8 of {} x {}\n", m["codebook_size"].get<int64_t>(), m["codebook_dim"].get<int64_t>());
    text += fmt::format("  flow: {} blocks of {}, then {} of {}, {} heads\n", m["num_layers"].get<int64_t>(), width,
                        m["num_layers_2"].get<int64_t>(), 2 * width, m["num_attention_heads"].get<int64_t>());
    text += fmt::format("  wave decoder: {} latents a channel, {} channels at the end\n",
                        m["latent_hidden_dim"].get<int64_t>(), m["init_channel"].get<int64_t>());
    if (m.contains("student")) {
      const nlohmann::json& student = m["student"];
      const auto base = student["base"].get<std::string>();
      text += fmt::format("  student: solves in {} steps, without guidance{}\n",
                          fmt::join(student["steps"].get<std::vector<int64_t>>(), ", "),
                          base.empty() ? "" : "; what it lacks is in " + escaped(base));
    }
  }
  if (m.contains("packed")) {
    const nlohmann::json& packed = m["packed"];
    text += fmt::format("  packed: {} matrices of {} in panels of {} outputs by {} inputs, made by {}\n",
                        packed["matrices"].get<int64_t>(), packed["dtype"].get<std::string>(),
                        packed["panel_width"].get<int64_t>(), packed["k_per_group"].get<int64_t>(),
                        escaped(packed["made_by"].get<std::string>()));
  }
  const size_t unused = m["unused_tensors"].size();
  if (unused > 0) text += fmt::format("  {} tensors are not needed to make songs\n", unused);
  return text;
}

}  // namespace

std::string describe_inspection(const nlohmann::json& inspection) {
  const std::string kind = inspection["kind"].get<std::string>();
  if (kind == "model") return describe_model(inspection);
  if (kind == "checkpoint") {
    std::string text =
        fmt::format("checkpoint {}, tokenizer of {} tokens\n", escaped(inspection["path"].get<std::string>()),
                    inspection["tokenizer"]["vocabulary"].get<int64_t>());
    for (const nlohmann::json& model : inspection["models"]) text += describe_model(model);
    for (const nlohmann::json& note : inspection["notes"]) text += escaped(note.get<std::string>()) + "\n";
    return text;
  }
  std::string text = fmt::format("{}: {} tensors, {}\n", escaped(inspection["path"].get<std::string>()),
                                 inspection["tensors"].size(), describe_totals(inspection));
  for (const nlohmann::json& tensor : inspection["tensors"]) {
    text += fmt::format("  {:<5} {:<20} {}\n", tensor["dtype"].get<std::string>(), tensor["shape"].dump(),
                        escaped(tensor["name"].get<std::string>()));
  }
  for (const auto& item : inspection["metadata"].items()) {
    text += fmt::format("  {}: {}\n", escaped(item.key()), escaped(item.value().get<std::string>()));
  }
  return text;
}

}  // namespace heartmula
