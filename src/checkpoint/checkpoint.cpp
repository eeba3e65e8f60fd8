#include "checkpoint/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "base/file_kind.h"

namespace heartmula {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kMula = "HeartMuLa-";
constexpr std::string_view kCodec = "HeartCodec-oss";

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

/// The names of the folders in `folder` that are `wanted`, in order.
std::vector<std::string> folders_in(const fs::path& folder, const std::function<bool(const std::string&)>& wanted) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (wanted(name) && is_folder(entry->path())) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// "3B-happy-new-year" of "HeartMuLa-oss-3B-happy-new-year", which is what people call it.
std::string short_name(std::string_view folder) {
  for (const std::string_view prefix : {kMula, std::string_view("oss-")}) {
    if (folder.starts_with(prefix)) folder.remove_prefix(prefix.size());
  }
  return std::string(folder);
}

/// How the folder of a model may be called, and how a user says which one is meant.
struct ModelName {
  std::vector<std::string> names;     // the first one that is there is taken
  std::vector<std::string> variants;  // else the one that is called so, with "-ANYTHING" behind
  std::string choose_by;              // of error messages
  bool by_version = false;            // --version chooses, too
};

ModelName mula_name(const std::string& version) {
  if (version.empty() || version.front() == '.' || version.find('/') != std::string::npos) {
    throw user_error(
        "--version {}: must be a size or the name of a release, such as 3B or RL-oss-3B-20260123; a folder "
        "anywhere is --mula_path",
        version);
  }
  const std::string name = short_name(version);
  const std::string released = fmt::format("{}oss-{}", kMula, name);
  const std::string other = fmt::format("{}{}", kMula, name);
  ModelName mula = {.names = {released, other, version},
                    .variants = {released, other, fmt::format("{}RL-oss-{}", kMula, name)},
                    .choose_by = "--mula_path",
                    .by_version = true};
  if (version.starts_with(kMula)) std::rotate(mula.names.begin(), mula.names.end() - 1, mula.names.end());
  return mula;
}

ModelName codec_name() {
  return {.names = {std::string(kCodec)}, .variants = {std::string(kCodec)}, .choose_by = "--codec_path"};
}

/// "--version 3B-a or --version 3B-b, or the folder with --mula_path"
std::string how_to_choose(const ModelName& model, const std::vector<std::string>& candidates) {
  std::string by_path = fmt::format("name the folder with {}", model.choose_by);
  if (!model.by_version) return by_path;
  std::vector<std::string> versions;
  for (const std::string& name : candidates) versions.push_back("--version " + short_name(name));
  return fmt::format("say {}, or {}", fmt::join(versions, " or "), by_path);
}

/// The name of the model's folder in `folder`; empty if there is none.
std::string find_model(const fs::path& folder, const ModelName& model, std::vector<std::string>& notes) {
  const auto is_variant = [&](const std::string& name) {
    return std::ranges::any_of(
        model.variants, [&](const std::string& variant) { return name == variant || name.starts_with(variant + "-"); });
  };
  std::vector<std::string> candidates = folders_in(folder, [&](const std::string& name) {
    return is_variant(name) || std::ranges::find(model.names, name) != model.names.end();
  });
  const auto exact = std::ranges::find_first_of(model.names, candidates);
  if (exact == model.names.end() && candidates.size() > 1) {
    throw user_error("{}: which one of {} is meant? {}", folder.string(), fmt::join(candidates, ", "),
                     how_to_choose(model, candidates));
  }
  if (candidates.empty()) return {};
  std::string taken = exact == model.names.end() ? candidates.front() : *exact;
  std::erase(candidates, taken);
  if (!candidates.empty()) {
    notes.push_back(fmt::format("{}: takes {}; for {} {}", folder.string(), taken, fmt::join(candidates, " or "),
                                how_to_choose(model, candidates)));
  }
  return taken;
}

/// What --mula_path or --codec_path names.
fs::path named_folder(const char* flag, const std::string& path) {
  if (!is_folder(path)) {
    throw user_error("{} {}: {}; it is the one with the model's config.json and weights", flag, path,
                     instead_of_folder(path));
  }
  if (!is_file(fs::path(path) / "config.json")) {
    throw user_error("{} {}: has no config.json; it is the folder with the model's config.json and weights", flag,
                     path);
  }
  return path;
}

class Finder {
 public:
  explicit Finder(const CheckpointSettings& settings) : settings_(settings), folder_(settings.model_path) {
    if (!settings.model_path.empty() && !is_folder(folder_)) {
      throw user_error("{}: {}; --model_path is the folder with the checkpoint (see README, \"hf download\")",
                       folder_.string(), instead_of_folder(folder_));
    }
  }

  CheckpointPaths find(CheckpointParts parts) {
    paths_.codec = model("--codec_path", settings_.codec_path, codec_name());
    if (parts != CheckpointParts::kCodec) {
      paths_.mula = model("--mula_path", settings_.mula_path, mula_name(settings_.version));
    }
    if (parts == CheckpointParts::kAll) find_tokenizer();
    if (!missing_.empty()) complain();
    return std::move(paths_);
  }

 private:
  fs::path model(const char* flag, const std::string& path, const ModelName& name) {
    if (!path.empty()) return named_folder(flag, path);
    if (!folder_.empty()) {
      const std::string found = find_model(folder_, name, paths_.notes);
      if (!found.empty()) return folder_ / found;
    }
    missing_.push_back(fmt::format("{}/ (or {} DIR)", name.names.front(), flag));
    return {};
  }

  void find_tokenizer() {
    if (!settings_.tokenizer.empty()) {
      paths_.tokenizer = settings_.tokenizer;
      if (is_folder(paths_.tokenizer)) paths_.tokenizer /= "tokenizer.json";
      if (!is_file(paths_.tokenizer)) throw user_error("--tokenizer {}: no such file", paths_.tokenizer.string());
    } else if (!folder_.empty() && is_file(folder_ / "tokenizer.json")) {
      paths_.tokenizer = folder_ / "tokenizer.json";
    } else {
      missing_.emplace_back("tokenizer.json (or --tokenizer FILE)");
    }
    for (const fs::path& folder : {paths_.tokenizer.parent_path(), folder_}) {
      paths_.gen_config = folder / "gen_config.json";
      if (is_file(paths_.gen_config)) return;
    }
    missing_.push_back(settings_.tokenizer.empty()
                           ? "gen_config.json"
                           : fmt::format("gen_config.json (beside {})", paths_.tokenizer.string()));
  }

  [[noreturn]] void complain() const {
    const std::string missing = fmt::format("{}", fmt::join(missing_, ", "));
    if (folder_.empty()) {
      throw user_error("missing of the checkpoint: {}; or --model_path DIR, which holds everything", missing);
    }
    if (is_file(folder_ / "config.json")) {
      throw user_error("{}: is the folder of one model; --model_path is the folder above it (missing: {})",
                       folder_.string(), missing);
    }
    std::string others;
    if (paths_.mula.empty()) {
      for (const std::string& name : language_models_in(folder_)) {
        others += fmt::format("{}{} is there: --version {}", others.empty() ? "; " : ", ", name, short_name(name));
      }
    }
    throw user_error("{}: {} missing{}; is the download complete (see README, \"hf download\")?{}", folder_.string(),
                     missing, others, download_hint(folder_));
  }

  const CheckpointSettings& settings_;
  fs::path folder_;
  CheckpointPaths paths_;
  std::vector<std::string> missing_;
};

}  // namespace

CheckpointPaths find_checkpoint(const CheckpointSettings& settings, CheckpointParts parts) {
  return Finder(settings).find(parts);
}

std::string packed_mula_name(const CheckpointPaths& paths) {
  const std::string name = folder_name(paths.mula);
  return name.starts_with(kMula) ? name : fmt::format("{}oss-3B", kMula);
}

std::string packed_codec_name(const CheckpointPaths& paths) {
  const std::string name = folder_name(paths.codec);
  return name.starts_with(kCodec) ? name : std::string(kCodec);
}

std::string folder_name(const fs::path& folder) {
  std::error_code error;
  const fs::path whole = fs::absolute(folder, error).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

std::vector<std::string> language_models_in(const fs::path& model_path) {
  return folders_in(model_path, [](const std::string& name) { return name.starts_with(kMula); });
}

}  // namespace heartmula
