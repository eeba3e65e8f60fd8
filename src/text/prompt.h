// From tags and lyrics to the prompt's text column.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/gen_config.h"
#include "text/tokenizer.h"

namespace heartmula {

struct Prompt {
  std::vector<int32_t> text_ids;  ///< [positions]: tags, one slot for the reference embedding, lyrics
  int64_t reference_index = 0;    ///< the slot; the model replaces the embedding of its id
  std::vector<float> muq_embed;   ///< the style vector that it projects to there; empty: zeros
};

/// Both texts are valid UTF-8, in any case; empty lyrics make an instrumental prompt.
Prompt make_prompt(const Tokenizer& tokenizer, const GenConfig& config, std::string_view tags, std::string_view lyrics);

}  // namespace heartmula
