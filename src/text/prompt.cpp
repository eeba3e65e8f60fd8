#include "text/prompt.h"

#include <string>

#include "text/unicode.h"

namespace heartmula {
namespace {

constexpr std::string_view kTagBegin = "<tag>";
constexpr std::string_view kTagEnd = "</tag>";

/// As the reference does: a line break after "</tag>" is not stripped, so a second "</tag>" follows it.
std::string wrap_tags(std::string tags) {
  if (!tags.starts_with(kTagBegin)) tags.insert(0, kTagBegin);
  if (!tags.ends_with(kTagEnd)) tags.append(kTagEnd);
  return tags;
}

/// The reference fails on a text without ids; here it becomes [BOS, EOS].
std::vector<int32_t> framed_ids(const Tokenizer& tokenizer, const GenConfig& config, std::string_view text) {
  std::vector<int32_t> ids = tokenizer.encode(text);
  if (ids.empty() || ids.front() != config.text_bos_id) ids.insert(ids.begin(), config.text_bos_id);
  if (ids.back() != config.text_eos_id) ids.push_back(config.text_eos_id);
  return ids;
}

}  // namespace

Prompt make_prompt(const Tokenizer& tokenizer, const GenConfig& config, std::string_view tags,
                   std::string_view lyrics) {
  check_utf8("tags", tags);
  check_utf8("lyrics", lyrics);
  const std::vector<int32_t> lyrics_ids = framed_ids(tokenizer, config, lower_case(lyrics));
  Prompt prompt;
  prompt.text_ids = framed_ids(tokenizer, config, wrap_tags(lower_case(tags)));
  prompt.reference_index = static_cast<int64_t>(prompt.text_ids.size());
  prompt.text_ids.push_back(0);
  prompt.text_ids.insert(prompt.text_ids.end(), lyrics_ids.begin(), lyrics_ids.end());
  return prompt;
}

}  // namespace heartmula
