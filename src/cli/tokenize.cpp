#include "cli/tokenize.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "text/tokenizer.h"

namespace heartmula {
namespace {

using nlohmann::json;

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    throw failure("standard output: {}", std::strerror(errno));
  }
}

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

void print_readable(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer.encode(text);
  print(fmt::format("{}: {} token{}\n", json(text).dump(), ids.size(), ids.size() == 1 ? "" : "s"));
  for (const int32_t id : ids) print(fmt::format("{:>8}  {}\n", id, shown(tokenizer.piece(id))));
}

void print_jsonl(const Tokenizer& tokenizer, const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) throw user_error("{}: is a folder, not a file", path);
  std::ifstream lines(path, std::ios::binary);
  if (!lines) throw user_error("{}: {}", path, std::strerror(errno));
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    const json text = json::parse(line, nullptr, false);
    if (!text.is_string()) throw user_error("{}: line {} is no JSON string", path, number);
    print(json(tokenizer.encode(text.get_ref<const std::string&>())).dump() + "\n");
  }
  if (lines.bad()) throw failure("{}: cannot be read: {}", path, std::strerror(errno));
}

}  // namespace

int run_tokenize(const TokenizeOptions& options) {
  if (options.tokenizer.empty() == options.model_path.empty()) {
    throw user_error("tokenize needs either --tokenizer FILE or --model_path DIR");
  }
  if (options.texts.empty() == options.jsonl.empty()) throw user_error("tokenize needs either TEXT... or --jsonl FILE");
  const std::filesystem::path path = options.tokenizer.empty()
                                         ? std::filesystem::path(options.model_path) / "tokenizer.json"
                                         : std::filesystem::path(options.tokenizer);
  const Tokenizer tokenizer = Tokenizer::open(path);
  for (const std::string& text : options.texts) print_readable(tokenizer, text);
  if (!options.jsonl.empty()) print_jsonl(tokenizer, options.jsonl);
  if (std::fflush(stdout) != 0) throw failure("standard output: {}", std::strerror(errno));
  return 0;
}

void add_tokenize(CLI::App& app, Run& run) {
  const auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand("tokenize", "Show the token ids and pieces that the model sees of a text");
  command->add_option("--tokenizer", options->tokenizer, "a tokenizer.json");
  command->add_option(both_spellings("--model_path"), options->model_path, "a checkpoint folder: its tokenizer.json");
  command->add_option("--jsonl", options->jsonl,
                      "a file with one JSON string a line; prints one JSON array of ids a line");
  command->add_option("TEXT", options->texts, "texts to tokenize")->take_all();
  command->callback([options, &run] { run = [options] { return run_tokenize(*options); }; });
}

}  // namespace heartmula
