// heartmula lint: what will not come out as it is meant, said before the song is made.
#include "text/lint.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/setting_flags.h"
#include "text/text_source.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;

struct LintOptions {
  SettingFlags flags;
  bool json = false;
};

std::optional<std::string> text_of(const SettingFlags& flags, const std::string& name) {
  const std::optional<std::string> value = flags.word(name);
  std::optional<std::string> literal = flags.word(name + "_text");
  if (value && literal) throw user_error("--{} and --{}_text are both given: choose one", name, name);
  if (value) return read_text_argument("--" + name, *value);
  if (literal) check_song_text("--" + name + "_text", *literal);
  return literal;
}

/// Of a folder that need not hold the models.
Vocabulary vocabulary_of(const std::string& model_path) {
  if (model_path.empty()) return Vocabulary::released();
  std::error_code ignored;
  if (!fs::is_directory(model_path, ignored)) {
    throw user_error("{}: {}; --model_path is the folder with the checkpoint", model_path,
                     instead_of_folder(model_path));
  }
  return find_vocabulary(model_path);
}

int run_lint(const LintOptions& options) {
  Request request;
  options.flags.apply(request);
  find_setting("max_audio_length_ms")->type->check(request, "--max_audio_length_ms", "");
  const std::optional<std::string> lyrics = text_of(options.flags, "lyrics");
  const std::optional<std::string> tags = text_of(options.flags, "tags");
  if (!lyrics && !tags) throw user_error("lint needs --lyrics, --tags, or both");
  const LintInput input{.lyrics = lyrics, .tags = tags, .max_audio_length_ms = request.song.max_audio_length_ms};
  const std::vector<LintWarning> warnings = lint(input, vocabulary_of(request.checkpoint.model_path));
  if (options.json) {
    print_out(nlohmann::json{{"warnings", to_json(warnings)}}.dump(2) + "\n");
    return 0;
  }
  std::string lines;
  for (const LintWarning& warning : warnings) {
    const std::string place = warning.line ? fmt::format("{}:{}", warning.field, *warning.line) : warning.field;
    lines += fmt::format("{}: {} [{}]\n", place, warning.message, warning.code);
  }
  print_out(lines);
  return 0;
}

}  // namespace

void add_lint(CLI::App& app, Run& run) {
  Command command(app, "lint", "Say what of lyrics and tags will not come out as it is meant");
  auto options = std::make_shared<LintOptions>();
  options->flags.add_to(command.app(), kLint);
  command.flag("--json", options->json, "For programs");
  command.runs(run, [options] { return run_lint(*options); });
}

}  // namespace heartmula
