#include "checkpoint/convert.h"

#include <chrono>
#include <optional>
#include <system_error>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/message.h"
#include "base/output_lock.h"
#include "checkpoint/packed_writer.h"
#include "text/vocabulary.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

/// What the model was trained on, if the checkpoint says it; checked, as everything that is copied has been.
std::optional<std::string> vocabulary_beside(const fs::path& gen_config) {
  const fs::path path = gen_config.parent_path() / kVocabularyFile;
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  find_vocabulary(gen_config.parent_path());
  return read_file(path);
}

// What was rounded stays so, and a file that says F32 must not hide it.
void check_precision(const WeightStore& store, DType dtype, const char* flag) {
  if (store.packed() == nullptr || store.packed()->layout.dtype == DType::kF32 || dtype == DType::kBF16) return;
  throw user_error("{}: was rounded to bfloat16 when it was packed: use {} bfloat16, or convert the stock checkpoint",
                   store.path().string(), flag);
}

void check_room(const fs::path& folder, int64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (error || static_cast<int64_t>(space.available) >= bytes) return;
  throw failure("{}: the packed checkpoint takes {:.3f} GB, but {:.3f} GB are free there", folder.string(),
                gigabytes(bytes), gigabytes(static_cast<int64_t>(space.available)));
}

}  // namespace

Converted convert_checkpoint(const ModelOptions& options, const fs::path& save_path, const ProgressSink& progress,
                             const CancelToken* cancel) {
  const auto begin = std::chrono::steady_clock::now();
  const CheckpointSettings& dtypes = options.checkpoint;
  Models models(options, CheckpointParts::kAll, cancel);
  const OutputLock lock(save_path, "--save_path");
  AtomicFolder folder(save_path);
  const std::optional<std::string> vocabulary = vocabulary_beside(models.paths().gen_config);
  check_precision(models.lm_store(), dtypes.mula_dtype, "--mula_dtype");
  check_precision(models.codec_store(), dtypes.codec_dtype, "--codec_dtype");

  const PackedWriter lm(models.lm_ops(), models.lm_store(), HeartMula::expected_tensors(models.lm_config()),
                        dtypes.mula_dtype, models.lm_identity().fingerprint, [&](Ops& ops) {
                          HeartMula::load(ops, models.lm_store(), models.lm_config(), dtypes.mula_dtype);
                        });
  const PackedWriter codec(models.codec_ops(), models.codec_store(),
                           HeartCodec::expected_tensors(models.codec_config(), models.codec_store()),
                           dtypes.codec_dtype, models.codec_identity().fingerprint, [&](Ops& ops) {
                             HeartCodec::load(ops, models.codec_store(), models.codec_config(), dtypes.codec_dtype);
                           });
  Converted converted{.bytes = lm.bytes() + codec.bytes()};
  check_room(folder.temporary_path(), converted.bytes);

  int64_t done = 0;
  const auto written = [&](int64_t bytes) {
    done += bytes;
    if (progress) progress("convert", done, converted.bytes, seconds_since(begin));
  };
  const CheckpointPaths& paths = models.paths();
  write_file(folder.temporary_path() / "tokenizer.json", read_file(paths.tokenizer));
  write_file(folder.temporary_path() / "gen_config.json", read_file(paths.gen_config));
  if (vocabulary) write_file(folder.temporary_path() / kVocabularyFile, *vocabulary);
  for (const auto& [writer, path, name] : {std::tuple(&lm, paths.mula, packed_mula_name(paths)),
                                           std::tuple(&codec, paths.codec, packed_codec_name(paths))}) {
    const fs::path model = folder.temporary_path() / name;
    std::error_code error;
    if (!fs::create_directory(model, error)) throw failure("{}: {}", model.string(), error.message());
    write_file(model / "config.json", read_file(path / "config.json"));
    writer->write(model / "model.safetensors", written, cancel);
  }
  folder.commit();
  converted.seconds = seconds_since(begin);
  return converted;
}

}  // namespace heartmula
