// Merged adapters against a merge that is written plainly in float64.
#include "checkpoint/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "base/testing.h"
#include "checkpoint/convert.h"
#include "checkpoint/memory_plan.h"
#include "decode/frame_loop.h"
#include "lm/session.h"
#include "reference/random_checkpoint.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

const std::string kLmFolder = "HeartMuLa-oss-3B";

std::string file_of(const std::vector<TensorToWrite>& tensors) {
  const std::vector<std::byte> bytes = encode_safetensors(tensors, {});
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A PEFT adapter that is filled module by module.
class Adapter {
 public:
  explicit Adapter(uint32_t seed, int64_t rank = 3, double alpha = 8) : generator_(seed) {
    config = {{"peft_type", "LORA"}, {"r", rank},          {"lora_alpha", alpha},     {"bias", "none"},
              {"use_dora", false},   {"rank_pattern", {}}, {"target_modules", {"x"}}, {"modules_to_save", nullptr}};
  }

  void add(const std::string& module, int64_t n, int64_t k, int64_t rank) {
    tensor("base_model.model." + module + ".lora_A.weight", {rank, k});
    tensor("base_model.model." + module + ".lora_B.weight", {n, rank});
  }
  void add(const std::string& module, const WeightStore& store) {
    const std::vector<int64_t>& shape = store.shape(module + ".weight");
    add(module, shape[0], shape[1], config["r"]);
  }
  void tensor(const std::string& name, std::vector<int64_t> shape, DType dtype = DType::kF32) {
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;
    std::vector<float>& values = values_[name];
    std::normal_distribution<float> normal(0, 0.1F);
    for (int64_t i = 0; i < elements; ++i) values.push_back(normal(generator_));
    tensors_.push_back({name, dtype, std::move(shape), {}});
  }
  void fill(const std::string& name, float value) { std::ranges::fill(values_.at(name), value); }
  const std::vector<float>& values(const std::string& name) const { return values_.at(name); }

  std::string write(const TemporaryFolder& folder, const std::string& name) {
    for (TensorToWrite& tensor : tensors_) tensor.data = std::as_bytes(std::span(values_.at(tensor.name)));
    folder.write(name + "/adapter_config.json", config.dump());
    folder.write(name + "/adapter_model.safetensors", file_of(tensors_));
    return folder / name;
  }

  json config;

 private:
  std::mt19937 generator_;
  std::map<std::string, std::vector<float>> values_;
  std::vector<TensorToWrite> tensors_;
};

/// One of each kind of linear layer, among them parts of stacked and of gated matrices.
const std::vector<std::string> kModules = {"backbone.layers.0.attn.q_proj",
                                           "backbone.layers.1.attn.v_proj",
                                           "backbone.layers.2.attn.output_proj",
                                           "backbone.layers.0.mlp.w1",
                                           "backbone.layers.1.mlp.w2",
                                           "decoder.layers.0.mlp.w3",
                                           "decoder.layers.0.attn.k_proj",
                                           "projection",
                                           "codebook0_head",
                                           "muq_linear"};

WeightStore stock_store() {
  return WeightStore::open(fs::path(kTinyCheckpoint) / kLmFolder);
}

Adapter adapter_of(uint32_t seed, const std::vector<std::string>& modules = kModules) {
  Adapter adapter(seed);
  const WeightStore store = stock_store();
  for (const std::string& module : modules) adapter.add(module, store);
  return adapter;
}

/// W + the sum of scale * B A, in float64, then f32: the whole checkpoint written again.
std::string merged_on_disk(const TemporaryFolder& folder, const std::string& name,
                           const std::vector<std::pair<const Adapter*, double>>& adapters) {
  const fs::path copy = folder / name;
  fs::copy(kTinyCheckpoint, copy, fs::copy_options::recursive);
  const WeightStore store = stock_store();
  std::map<std::string, std::vector<float>> values;
  std::vector<TensorToWrite> tensors;
  for (const StoredTensor& stored : store.files().front().tensors()) {
    std::vector<float>& merged = values[stored.name];
    merged.resize(static_cast<size_t>(stored.elements()));
    convert_to_f32(merged.data(), stored.data.data(), stored.dtype, 0, stored.elements());
    const std::string module = stored.name.substr(0, stored.name.rfind('.'));
    if (std::ranges::count(kModules, module) == 1 && stored.name.ends_with(".weight")) {
      const auto k = static_cast<size_t>(stored.shape[1]);
      for (size_t i = 0; i < merged.size(); ++i) {
        double value = merged[i];
        for (const auto& [adapter, scale] : adapters) {
          const std::vector<float>& a = adapter->values("base_model.model." + module + ".lora_A.weight");
          const std::vector<float>& b = adapter->values("base_model.model." + module + ".lora_B.weight");
          const size_t rank = a.size() / k;
          for (size_t r = 0; r < rank; ++r) value += scale * b[i / k * rank + r] * a[r * k + i % k];
        }
        merged[i] = static_cast<float>(value);
      }
    }
    tensors.push_back({stored.name, DType::kF32, stored.shape, std::as_bytes(std::span(merged))});
  }
  std::ofstream(copy / kLmFolder / "model.safetensors", std::ios::binary) << file_of(tensors);
  return copy;
}

ModelOptions options(const std::string& folder, DType dtype, const std::vector<std::string>& lora = {}) {
  return {.checkpoint = {.model_path = folder, .mula_dtype = dtype, .lora = lora}, .machine = {.threads = 2}};
}

struct Music {
  std::vector<float> first_logits;
  std::vector<Frame> frames;
  bool operator==(const Music&) const = default;
};

Music music_of(const std::string& folder, DType dtype, const std::vector<std::string>& lora = {}) {
  Models models(options(folder, dtype, lora), CheckpointParts::kAll, nullptr);
  Prompt prompt = make_prompt(models.tokenizer(), models.gen_config(), "piano", "la la");
  for (int64_t i = 0; i < models.lm_config().muq_dim; ++i) prompt.muq_embed.push_back(0.01F * static_cast<float>(i));
  FrameLoopSettings settings;
  settings.max_audio_length_ms = 5 * kFrameMs;
  settings.audio_eos_id = 1 << 20;
  LmSession session(models.lm_ops(), models.lm(), settings.sampling.streams(),
                    required_context(models.lm_config(), prompt, settings));
  session.prefill(prompt.text_ids, prompt.reference_index, {}, prompt.muq_embed);
  const std::span<const float> logits = session.first_logits();
  Music music{.first_logits = {logits.begin(), logits.end()}, .frames = {}};
  LmBatch song(
      models.lm_ops(), models.lm(),
      {.streams = settings.sampling.streams(), .positions = required_context(models.lm_config(), prompt, settings)});
  generate_frames(song, prompt, {}, settings, PhiloxNoise(7),
                  [&](int64_t, const Frame& frame) { music.frames.push_back(frame); });
  return music;
}

class Lora : public testing::Test {
 protected:
  std::string complaint(Adapter& adapter, const std::string& checkpoint = kTinyCheckpoint) {
    const std::string folder = adapter.write(folder_, "refused");
    return error_of(ErrorKind::kUser, [&] {
      Models models(options(checkpoint, DType::kF32, {folder}), CheckpointParts::kAll, nullptr);
      models.lm_store();
    });
  }
  TemporaryFolder folder_;
};

TEST_F(Lora, a_merged_adapter_is_the_checkpoint_with_merged_weights) {
  Adapter adapter = adapter_of(1);
  const std::string lora = adapter.write(folder_, "singer");
  const std::string merged = merged_on_disk(folder_, "merged", {{&adapter, 8.0 / 3}});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Music want = music_of(merged, dtype);
    EXPECT_EQ(music_of(kTinyCheckpoint, dtype, {lora}), want) << dtype_name(dtype);
    EXPECT_NE(music_of(kTinyCheckpoint, dtype).first_logits, want.first_logits);
  }
}

TEST_F(Lora, several_adapters_add_up_in_any_order) {
  Adapter one = adapter_of(1);
  Adapter other = adapter_of(2, {kModules[0], kModules[3], kModules[8]});
  other.config["use_rslora"] = true;
  const std::string first = one.write(folder_, "one");
  const std::string second = other.write(folder_, "other");
  // The module that only one of them has must be absent, not zero, in the plain merge.
  Adapter padded = adapter_of(2, {kModules[0], kModules[3], kModules[8]});
  const WeightStore store = stock_store();
  Adapter nothing(0);
  for (const std::string& module : kModules) {
    if (module == kModules[0] || module == kModules[3] || module == kModules[8]) continue;
    padded.add(module, store.shape(module + ".weight")[0], store.shape(module + ".weight")[1], 0);
  }
  const std::string merged = merged_on_disk(folder_, "merged", {{&one, 8.0 / 3}, {&padded, 8.0 / std::sqrt(3.0)}});
  const Music want = music_of(merged, DType::kF32);
  EXPECT_EQ(music_of(kTinyCheckpoint, DType::kF32, {first, second}), want);
  EXPECT_EQ(music_of(kTinyCheckpoint, DType::kF32, {second, first}), want);
}

TEST_F(Lora, patterns_give_a_module_its_own_rank_and_alpha) {
  const WeightStore store = stock_store();
  const auto changed_by = [&](const json& alphas, bool rslora) {
    WeightStore changed = stock_store();
    Adapter adapter(3, 4, 16);
    adapter.add("backbone.layers.1.mlp.w2", store.shape("backbone.layers.1.mlp.w2.weight")[0],
                store.shape("backbone.layers.1.mlp.w2.weight")[1], 2);
    adapter.config["rank_pattern"] = {{"mlp.w2", 2}};
    adapter.config["alpha_pattern"] = alphas;
    adapter.config["use_rslora"] = rslora;
    merge_lora(adapter.write(folder_, "patterns"), changed,
               read_lm_config(fs::path(kTinyCheckpoint) / kLmFolder / "config.json"));
    return changed.changes("backbone.layers.1.mlp.w2.weight").front().scale;
  };
  EXPECT_DOUBLE_EQ(changed_by(json::object(), false), 16.0 / 2);
  EXPECT_DOUBLE_EQ(changed_by(json::object(), true), 16.0 / std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(changed_by({{"w2", 5}}, false), 5.0 / 2);
  EXPECT_DOUBLE_EQ(changed_by({{"layers.1.mlp.w2", 6}}, false), 6.0 / 2);
  EXPECT_DOUBLE_EQ(changed_by({{"^backbone.layers.1.mlp.w2", 7}}, false), 7.0 / 2);
  EXPECT_DOUBLE_EQ(changed_by({{"^mlp.w2", 9}, {"2", 9}, {"layers.2.mlp.w2", 9}}, false), 16.0 / 2) << "none fits";
}

TEST_F(Lora, an_adapter_in_bf16_and_with_its_own_name_is_read) {
  Adapter adapter(4);
  const WeightStore store = stock_store();
  const std::vector<int64_t>& shape = store.shape("projection.weight");
  std::vector<uint16_t> a(static_cast<size_t>(3 * shape[1]), f32_to_bf16(0.5F));
  std::vector<uint16_t> b(static_cast<size_t>(shape[0] * 3), f32_to_bf16(2.0F));
  folder_.write("bf16/adapter_config.json", adapter.config.dump());
  folder_.write(
      "bf16/adapter_model.safetensors",
      file_of({{"projection.lora_A.default.weight", DType::kBF16, {3, shape[1]}, std::as_bytes(std::span(a))},
               {"projection.lora_B.default.weight", DType::kBF16, {shape[0], 3}, std::as_bytes(std::span(b))}}));
  WeightStore changed = stock_store();
  merge_lora(folder_ / "bf16", changed, read_lm_config(fs::path(kTinyCheckpoint) / kLmFolder / "config.json"));
  std::vector<float> row(static_cast<size_t>(shape[1]), 1.0F);
  RowChanges(changed.changes("projection.weight")).add_to(shape[0] - 1, row.data(), shape[1]);
  EXPECT_EQ(row, std::vector<float>(row.size(), 9.0F)) << "1 + 8/3 * 3 * 0.5 * 2";
}

TEST_F(Lora, a_packed_checkpoint_is_made_with_it_and_takes_no_other) {
  Adapter adapter = adapter_of(5);
  const std::string lora = adapter.write(folder_, "singer");
  const std::string packed = folder_ / "packed";
  convert_checkpoint(options(kTinyCheckpoint, DType::kBF16, {lora}), packed, {}, nullptr);
  EXPECT_EQ(music_of(packed, DType::kBF16), music_of(kTinyCheckpoint, DType::kBF16, {lora}));
  EXPECT_THAT(complaint(adapter, packed), AllOf(HasSubstr("packed"), HasSubstr("heartmula convert --lora")));
}

TEST_F(Lora, a_model_with_it_is_another_model) {
  Adapter one = adapter_of(1);
  Adapter other = adapter_of(2);
  const std::vector<std::string> both = {one.write(folder_, "one"), other.write(folder_, "other")};
  const auto identity = [](const std::vector<std::string>& lora, const std::string& checkpoint = kTinyCheckpoint) {
    return Models(options(checkpoint, DType::kBF16, lora), CheckpointParts::kAll, nullptr).lm_identity();
  };
  const ModelIdentity stock = identity({});
  EXPECT_EQ(stock.name, kLmFolder);
  EXPECT_EQ(stock.lora, std::vector<std::string>{});
  const ModelIdentity with_both = identity(both);
  EXPECT_EQ(with_both.lora, (std::vector<std::string>{"one", "other"}));
  EXPECT_EQ(identity({both[1], both[0]}).fingerprint, with_both.fingerprint);
  const std::set<std::string> all = {stock.fingerprint, with_both.fingerprint, identity({both[0]}).fingerprint,
                                     identity({both[1]}).fingerprint};
  EXPECT_EQ(all.size(), 4u);
  convert_checkpoint(options(kTinyCheckpoint, DType::kBF16, both), folder_ / "packed", {}, nullptr);
  EXPECT_EQ(identity({}, folder_ / "packed").fingerprint, with_both.fingerprint);
}

TEST_F(Lora, its_memory_is_counted_while_it_is_merged) {
  const auto plan = [](const std::vector<std::string>& lora) {
    Models models(options(kTinyCheckpoint, DType::kBF16, lora), CheckpointParts::kAll, nullptr);
    return *plan_memory(models, {.context = 100}).lm;
  };
  Adapter adapter(6, 1000);
  adapter.add("backbone.layers.0.mlp.w1", stock_store());
  const int64_t factors = 1000 *
                          (stock_store().shape("backbone.layers.0.mlp.w1.weight")[0] +
                           stock_store().shape("backbone.layers.0.mlp.w1.weight")[1]) *
                          8;
  const std::string lora = adapter.write(folder_, "large");
  EXPECT_GE(plan({lora}).loading, factors);
  EXPECT_LT(plan({}).loading, factors);
  EXPECT_EQ(plan({lora}).weights, plan({}).weights);
}

TEST_F(Lora, a_module_that_does_not_exist_or_fit_is_refused_by_name) {
  const auto with = [&](const std::string& module, int64_t n, int64_t k, int64_t rank = 3) {
    Adapter adapter(7);
    adapter.add(module, n, k, rank);
    return complaint(adapter);
  };
  EXPECT_THAT(with("backbone.layers.99.attn.q_proj", 64, 64), HasSubstr("backbone.layers.99.attn.q_proj"));
  EXPECT_THAT(with("model.layers.0.self_attn.q_proj", 64, 64),
              AllOf(HasSubstr("self_attn.q_proj"), HasSubstr("backbone.layers.0.attn.q_proj")));
  EXPECT_THAT(with("backbone.layers.0.sa_norm", 64, 64), HasSubstr("no linear layer"));
  EXPECT_THAT(with("text_embeddings", 64, 64), HasSubstr("text_embeddings"));
  EXPECT_THAT(with("audio_head", 64, 64), HasSubstr("audio_head"));
  EXPECT_THAT(with("projection", 65, 64),
              AllOf(HasSubstr("projection"), HasSubstr("[65, 3]"), HasSubstr("another model")));
  const std::vector<int64_t> shape = stock_store().shape("projection.weight");
  EXPECT_THAT(with("projection", shape[0], shape[1], 2), AllOf(HasSubstr("projection"), HasSubstr("rank 2")));
  Adapter half(8);
  half.tensor("base_model.model.projection.lora_A.weight", {3, shape[1]});
  EXPECT_THAT(complaint(half), AllOf(HasSubstr("projection"), HasSubstr("lora_B")));
}

TEST_F(Lora, what_is_no_plain_lora_is_refused) {
  const auto with = [&](const char* field, const json& value) {
    Adapter adapter = adapter_of(9, {"projection"});
    adapter.config[field] = value;
    const std::string message = complaint(adapter);
    EXPECT_THAT(message, HasSubstr(field));
    return message;
  };
  with("peft_type", "LOHA");
  with("use_dora", true);
  with("bias", "all");
  with("lora_bias", true);
  with("modules_to_save", {"audio_head"});
  with("target_parameters", {"audio_head"});
  with("init_lora_weights", "pissa_niter_4");
  with("alpha_pattern", {{"mlp\\.w[12]", 3}});
  with("r", 0);
  with("lora_alpha", "8");
  const auto tensor = [&](const std::string& name) {
    Adapter adapter = adapter_of(9, {"projection"});
    adapter.tensor(name, {3, 3});
    EXPECT_THAT(complaint(adapter), HasSubstr(name));
  };
  tensor("base_model.model.text_embeddings.lora_embedding_A");
  tensor("base_model.model.projection.lora_magnitude_vector.weight");
  tensor("lora_unet_projection.alpha");
}

TEST_F(Lora, values_that_are_no_numbers_are_the_adapters_fault) {
  const auto complaint_about = [&](float a, float b) {
    Adapter adapter = adapter_of(11, {"projection"});
    adapter.fill("base_model.model.projection.lora_A.weight", a);
    adapter.fill("base_model.model.projection.lora_B.weight", b);
    const std::string lora = adapter.write(folder_, "wild");
    return error_of(ErrorKind::kUser, [&] {
      Models models(options(kTinyCheckpoint, DType::kF32, {lora}), CheckpointParts::kAll, nullptr);
      models.lm();
    });
  };
  EXPECT_THAT(complaint_about(NAN, 1), AllOf(HasSubstr("wild/adapter_model.safetensors"), HasSubstr("lora_A.weight"),
                                             HasSubstr("not finite numbers")));
  EXPECT_THAT(complaint_about(1e30F, 1e30F), AllOf(HasSubstr("wild/adapter_model.safetensors"),
                                                   HasSubstr("projection.weight"), HasSubstr("too large")));
}

TEST_F(Lora, a_folder_without_an_adapter_is_refused) {
  const auto refused = [&](const std::string& folder) {
    return error_of(ErrorKind::kUser, [&] {
      WeightStore store = stock_store();
      merge_lora(folder, store, read_lm_config(fs::path(kTinyCheckpoint) / kLmFolder / "config.json"));
    });
  };
  EXPECT_THAT(refused(folder_ / "nowhere"), AllOf(HasSubstr("--lora"), HasSubstr("no such folder")));
  EXPECT_THAT(refused(folder_.path()), HasSubstr("adapter_config.json"));
  Adapter adapter(1);
  folder_.write("bin/adapter_config.json", adapter.config.dump());
  EXPECT_THAT(refused(folder_ / "bin"), HasSubstr("adapter_model.safetensors"));
  folder_.write("bin/adapter_model.bin", "PK");
  EXPECT_THAT(refused(folder_ / "bin"), AllOf(HasSubstr("adapter_model.bin"), HasSubstr("safetensors")));
}

}  // namespace
}  // namespace heartmula
