// heartmula tokenize: what the model sees of a text.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace heartmula {

struct TokenizeOptions {
  std::string tokenizer;   ///< a tokenizer.json
  std::string model_path;  ///< or a checkpoint folder that has one
  std::string jsonl;       ///< a file with one JSON string a line, answered by one JSON array of ids a line
  std::vector<std::string> texts;
  bool prompt = false;  ///< the prompt that `generate` makes of the next two
  std::optional<std::string> tags;
  std::optional<std::string> lyrics;
};

/// Writes to the standard output; returns the exit code.
int run_tokenize(const TokenizeOptions& options);

}  // namespace heartmula
