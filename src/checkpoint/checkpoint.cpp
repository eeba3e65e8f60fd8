#include "checkpoint/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/file_kind.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

// The folder `name` itself, or the one folder whose name begins with one of `prefixes`; empty if there is none.
fs::path find_variant(const fs::path& folder, const std::string& name, const std::vector<std::string>& prefixes) {
  std::error_code error;
  if (fs::is_directory(folder / name, error)) return folder / name;
  std::vector<fs::path> variants;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string candidate = entry->path().filename().string();
    const bool matches = std::any_of(prefixes.begin(), prefixes.end(),
                                     [&](const std::string& prefix) { return candidate.starts_with(prefix); });
    std::error_code ignored;
    if (matches && entry->is_directory(ignored)) variants.push_back(entry->path());
  }
  if (variants.size() > 1) {
    std::vector<std::string> names;
    for (const fs::path& variant : variants) names.push_back(variant.filename().string());
    std::sort(names.begin(), names.end());
    throw user_error("{}: which one of {} is meant? Rename it to {}", folder.string(), fmt::join(names, ", "), name);
  }
  return variants.empty() ? fs::path() : variants.front();
}

}  // namespace

CheckpointPaths find_checkpoint(const fs::path& model_path, const std::string& version, CheckpointParts parts) {
  std::error_code error;
  if (!fs::is_directory(model_path, error)) {
    throw user_error("{}: no such folder; --model_path is the folder with the checkpoint (see README, \"hf download\")",
                     model_path.string());
  }
  if (version.empty() || version.find('/') != std::string::npos) {
    throw user_error("--version {}: must be a size such as 3B or 7B", version);
  }
  const std::string mula_name = "HeartMuLa-oss-" + version;
  CheckpointPaths paths;
  std::vector<std::string> missing;
  paths.codec = find_variant(model_path, "HeartCodec-oss", {"HeartCodec-oss-"});
  if (paths.codec.empty()) missing.emplace_back("HeartCodec-oss/");
  if (parts == CheckpointParts::kAll) {
    paths.tokenizer = model_path / "tokenizer.json";
    paths.gen_config = model_path / "gen_config.json";
    paths.mula = find_variant(model_path, mula_name, {mula_name + "-", "HeartMuLa-RL-oss-" + version});
    for (const fs::path& file : {paths.tokenizer, paths.gen_config}) {
      if (!fs::is_regular_file(file, error)) missing.push_back(file.filename().string());
    }
    if (paths.mula.empty()) missing.push_back(mula_name + "/");
  }
  if (!missing.empty()) {
    throw user_error("{}: {} missing; is the download complete (see README, \"hf download\")?{}", model_path.string(),
                     fmt::join(missing, ", "), download_hint(model_path));
  }
  return paths;
}

}  // namespace heartmula
