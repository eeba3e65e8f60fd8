#include "cli/tokenize.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <string_view>

#include "base/error.h"
#include "base/input.h"
#include "cli/commands.h"
#include "text/gen_config.h"
#include "text/prompt.h"
#include "text/text_source.h"
#include "text/tokenizer.h"

namespace heartmula {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// The bytes of a token between quotes: control characters and bytes that are no whole character as \xE5.
std::string shown(const std::string& piece) {
  bool is_text = true;
  try {
    json(piece).dump();
  } catch (const json::exception&) {
    is_text = false;
  }
  if (is_text) return json(piece).dump();
  std::string result = "\"";
  for (const char c : piece) {
    const bool is_plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
    result += is_plain ? std::string(1, c) : fmt::format("\\x{:02X}", static_cast<unsigned char>(c));
  }
  return result + "\"";
}

std::string counted(size_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

void print_tokens(const Tokenizer& tokenizer, const std::string& title, std::span<const int32_t> ids) {
  std::string table = fmt::format("{}: {}\n", title, counted(ids.size(), "token"));
  for (const int32_t id : ids) table += fmt::format("{:>8}  {}\n", id, shown(tokenizer.piece(id)));
  print_out(table);
}

/// As the language model gets it: in lower case, the tags between their marks, each text between begin and end.
void print_prompt(const Tokenizer& tokenizer, const TokenizeOptions& options, const fs::path& tokenizer_path) {
  if (!options.tags || !options.lyrics) throw user_error("tokenize --prompt needs --tags and --lyrics");
  constexpr std::string_view kLiterally = "write it into a file";
  const std::string tags = read_text_argument("--tags", *options.tags, kLiterally);
  const std::string lyrics = read_text_argument("--lyrics", *options.lyrics, kLiterally);
  const GenConfig config = GenConfig::open(tokenizer_path.parent_path() / "gen_config.json");
  const Prompt prompt = make_prompt(tokenizer, config, tags, lyrics);
  const std::span<const int32_t> ids = prompt.text_ids;
  const auto slot = static_cast<size_t>(prompt.reference_index);
  print_tokens(tokenizer, "tags", ids.first(slot));
  print_out("reference embedding: 1 position\n");
  print_tokens(tokenizer, "lyrics", ids.subspan(slot + 1));
  print_out(fmt::format("prompt: {}\n", counted(ids.size(), "position")));
}

void print_jsonl(const Tokenizer& tokenizer, const std::string& path) {
  std::istringstream lines(read_input(expand_home(path)));
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    const json text = json::parse(line, nullptr, false);
    if (!text.is_string()) throw user_error("{}: line {} is no JSON string", path, number);
    print_out(json(tokenizer.encode(text.get_ref<const std::string&>())).dump() + "\n");
  }
}

Tokenizer open_tokenizer(const fs::path& path) {
  if (input_kind(path) == InputKind::kStream) return Tokenizer::parse(read_input(path), path.string());
  return Tokenizer::open(path);
}

/// A folder stands for the file in it, as --tokenizer of `generate` takes it.
fs::path tokenizer_file(const fs::path& tokenizer, const fs::path& model_path) {
  std::error_code ignored;
  if (tokenizer.empty()) return model_path / "tokenizer.json";
  return fs::is_directory(tokenizer, ignored) ? tokenizer / "tokenizer.json" : tokenizer;
}

}  // namespace

int run_tokenize(const TokenizeOptions& options) {
  if (options.tokenizer.empty() == options.model_path.empty()) {
    throw user_error("tokenize needs either --tokenizer FILE or --model_path DIR");
  }
  if ((options.tags || options.lyrics) && !options.prompt) {
    throw user_error("tokenize takes --tags and --lyrics with --prompt; other texts stand by themselves");
  }
  if (!options.texts.empty() + !options.jsonl.empty() + options.prompt != 1) {
    throw user_error("tokenize needs one of TEXT..., --jsonl FILE, or --prompt with --tags and --lyrics");
  }
  const fs::path path = tokenizer_file(expand_home(options.tokenizer), expand_home(options.model_path));
  const Tokenizer tokenizer = open_tokenizer(path);
  for (const std::string& value : options.texts) {
    const std::string text = read_text_argument("TEXT", value, "give it as a JSON string in --jsonl");
    print_tokens(tokenizer, json(text).dump(), tokenizer.encode(text));
  }
  if (!options.jsonl.empty()) print_jsonl(tokenizer, options.jsonl);
  if (options.prompt) print_prompt(tokenizer, options, path);
  return 0;
}

void add_tokenize(CLI::App& app, Run& run) {
  const auto options = std::make_shared<TokenizeOptions>();
  Command command(app, "tokenize", "Show the token ids and pieces that the model sees of a text");
  command.option("--tokenizer", options->tokenizer, "a tokenizer.json");
  command.option(both_spellings("--model_path"), options->model_path, "a checkpoint folder: its tokenizer.json");
  command.option("--jsonl", options->jsonl, "a file with one JSON string a line; prints one JSON array of ids a line");
  command.flag("--prompt", options->prompt, "the prompt that generate makes of --tags and --lyrics");
  command.option("--tags", options->tags, "a file, or the tags themselves");
  command.option("--lyrics", options->lyrics, "a file, or the lyrics themselves");
  command.words("TEXT", options->texts, "files, or the texts themselves");
  command.runs(run, [options] { return run_tokenize(*options); });
}

}  // namespace heartmula
