#include "bench/models.h"

#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "bench/stages.h"
#include "checkpoint/checkpoint.h"

namespace heartmula::bench {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPatternBytes = size_t{16} << 20;
constexpr TransformerConfig kDraftBlock = {1, 8, 4, 1024, 4096, 64};  // of a drafter for the 3B model
constexpr float kGreatestWeight = 0.03f;  // uniform up to it: a sum over 3072 inputs keeps the inputs' magnitude

std::shared_ptr<const MappedFile> random_memory(size_t bytes) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> uniform(-kGreatestWeight, kGreatestWeight);
  std::vector<uint16_t> pattern(kPatternBytes / sizeof(uint16_t));
  for (uint16_t& value : pattern) value = f32_to_bf16(uniform(generator));
  return MappedFile::repeating(std::as_bytes(std::span(pattern)), bytes);
}

int64_t elements(const std::vector<ExpectedTensor>& tensors) {
  int64_t sum = 0;
  for (const ExpectedTensor& tensor : tensors) sum += tensor.elements();
  return sum;
}

// Every tensor begins where the memory does, so no more of it is touched than the largest one has.
WeightStore random_store(const std::vector<ExpectedTensor>& expected) {
  size_t largest = 0;
  for (const ExpectedTensor& tensor : expected) largest = std::max(largest, static_cast<size_t>(tensor.elements()));
  const std::shared_ptr<const MappedFile> memory = random_memory(largest * sizeof(uint16_t));
  std::vector<StoredTensor> tensors;
  for (const ExpectedTensor& tensor : expected) {
    const size_t bytes = static_cast<size_t>(tensor.elements()) * sizeof(uint16_t);
    tensors.push_back({tensor.name, DType::kBF16, tensor.shape, memory->bytes().first(bytes)});
  }
  return WeightStore::of(SafetensorsFile::in_memory(memory, std::move(tensors), "random weights"));
}

LmConfig synthetic_lm_config(const std::string& size) {
  const std::string depth = size == "7B" ? "400M" : "300M";
  return parse_lm_config(fmt::format(R"({{"backbone_flavor": "llama-{}", "decoder_flavor": "llama-{}",
        "text_vocab_size": 128256, "audio_vocab_size": 8197, "audio_num_codebooks": 8, "muq_dim": 512}})",
                                     size, depth),
                         "--synthetic " + size);
}

fs::path config_of(const fs::path& folder, const std::string& begin) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    if (entry->path().filename().string().starts_with(begin)) return entry->path() / "config.json";
  }
  throw user_error("--synthetic {}: neither 3B nor 7B nor a folder with {}*/config.json", folder.string(), begin);
}

const WeightStore& no_store() {
  static const WeightStore kNone = WeightStore::of(SafetensorsFile::in_memory(nullptr, {}, "none"));
  return kNone;
}

}  // namespace

bool ModelChoice::names_checkpoint() const {
  return !checkpoint.model_path.empty() || !checkpoint.mula_path.empty() || !checkpoint.codec_path.empty();
}

ModelSource::ModelSource(const ModelChoice& choice) : choice_(choice) {
  if (choice.names_checkpoint() != choice.synthetic.empty()) {
    throw user_error("say what to measure: either --model_path DIR or --synthetic 3B");
  }
  if (choice.names_checkpoint()) {
    const CheckpointPaths paths = find_checkpoint(choice.checkpoint, CheckpointParts::kModels);
    lm_folder_ = paths.mula.string();
    codec_folder_ = paths.codec.string();
    lm_config_ = read_lm_config(paths.mula / "config.json");
    codec_config_ = read_codec_config(paths.codec / "config.json");
  } else if (choice.synthetic == "3B" || choice.synthetic == "7B") {
    lm_config_ = synthetic_lm_config(choice.synthetic);
    codec_config_ = CodecConfig{.source = "--synthetic"};
  } else {
    lm_config_ = read_lm_config(config_of(choice.synthetic, "HeartMuLa-"));
    codec_config_ = read_codec_config(config_of(choice.synthetic, "HeartCodec-"));
  }
  skip_layers(lm_config_, choice.checkpoint.skip_layers);
}

int64_t ModelSource::lm_bytes(DType dtype) const {
  int64_t count = elements(HeartMula::expected_tensors(lm_config_));
  count -= lm_config_.backbone.embed_dim * (lm_config_.text_vocab_size + kCodebooks * lm_config_.audio_vocab_size);
  return count * static_cast<int64_t>(dtype_size(dtype));
}

int64_t ModelSource::codec_bytes(DType dtype) const {
  return elements(HeartCodec::expected_tensors(codec_config_, no_store())) * static_cast<int64_t>(dtype_size(dtype));
}

void ModelSource::check_positions(const StageChoice& choice, int64_t repeats) const {
  const int64_t most = lm_config_.backbone.max_seq_len;
  const int64_t frames = frame_positions(choice.context, repeats);
  if (frames > most) {
    throw user_error("--context {} with --repeats {} takes {} positions, but the model has {}", choice.context, repeats,
                     frames, most);
  }
  if (choice.prompt + 1 > most) {
    throw user_error("--prompt {} and what follows take {} positions, but the model has {}", choice.prompt,
                     choice.prompt + 1, most);
  }
}

const WeightStore& ModelSource::lm_store() {
  if (!lm_store_) {
    lm_store_.emplace(lm_folder_.empty() ? random_store(HeartMula::expected_tensors(lm_config_))
                                         : WeightStore::open(lm_folder_));
  }
  return *lm_store_;
}

const WeightStore& ModelSource::codec_store() {
  if (!codec_store_) {
    codec_store_.emplace(codec_folder_.empty() ? random_store(HeartCodec::expected_tensors(codec_config_, no_store()))
                                               : HeartCodec::open_weights(codec_folder_, codec_config_));
  }
  return *codec_store_;
}

HeartMula ModelSource::load_lm(Ops& ops, DType dtype) {
  return HeartMula::load(ops, lm_store(), lm_config_, dtype);
}

HeartCodec ModelSource::load_codec(Ops& ops, DType dtype) {
  HeartCodec codec = HeartCodec::load(ops, codec_store(), codec_config_, dtype);
  codec_store_.reset();  // its pages would count as memory of the codec
  return codec;
}

std::shared_ptr<const DraftModel> ModelSource::load_draft_model(Ops& ops, const std::string& name, DType dtype) const {
  if (name.empty()) return nullptr;
  if (name != "3B")
    return std::make_shared<DraftModel>(DraftModel::load(ops, DraftFile::open(name, lm_config_), dtype));
  DraftConfig config = {.source = "--draft_model 3B",
                        .embed_dim = lm_config_.backbone.embed_dim,
                        .audio_vocab_size = lm_config_.audio_vocab_size,
                        .depth = kDraftBlock,
                        .frame = kDraftBlock};
  config.depth.max_seq_len = kCodebooks;
  const DraftFile file = {random_store(DraftModel::expected_tensors(config)), config};
  return std::make_shared<DraftModel>(DraftModel::load(ops, file, dtype));
}

}  // namespace heartmula::bench
