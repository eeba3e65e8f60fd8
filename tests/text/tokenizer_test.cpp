#include "text/tokenizer.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/testing.h"

namespace heartmula {
namespace {

using Ids = std::vector<int32_t>;
using Json = nlohmann::json;

struct Added {
  const char* content;
  int id;
  bool normalized = false;
};

/// The tokenizer of tiny1, whose vocabulary ends at 521, with other added tokens.
Tokenizer with_added(const std::vector<Added>& tokens) {
  Json json = Json::parse(read_file(HEARTMULA_TEST_DATA "/tiny1/tokenizer.json"));
  json["added_tokens"] = Json::array();
  for (const Added& token : tokens) {
    json["added_tokens"].push_back({{"content", token.content}, {"id", token.id}, {"normalized", token.normalized}});
  }
  json["post_processor"] = nullptr;
  return Tokenizer::parse(json.dump(), "tokenizer.json");
}

// The ids are what Hugging Face's tokenizers 0.23.3 gives for the same files.
TEST(Tokenizer, numbers_added_tokens_itself_whatever_the_file_says) {
  const Ids expected = {64, 522, 523, 65};
  EXPECT_EQ(with_added({{"<x>", 522}, {"<y>", 523}}).encode("a<x><y>b"), expected);
  EXPECT_EQ(with_added({{"<x>", 600}, {"<y>", 700}}).encode("a<x><y>b"), expected) << "beyond the end";
  EXPECT_EQ(with_added({{"<x>", 5}, {"a", 999}, {"<y>", 7}}).encode("a<x><y>b"), expected) << "inside";
  EXPECT_EQ(with_added({{"<x>", 523}, {"<y>", 522}}).encode("a<x><y>b"), expected) << "swapped";
  EXPECT_EQ(with_added({{"<x>", 522}, {"<x>", 523}, {"<y>", 523}}).encode("a<x><y>b"), expected) << "twice";
  EXPECT_EQ(with_added({{"<x>", 522, true}, {"<y>", 527}, {"<z>", 528, true}}).encode("<z>a<x><y>b"),
            (Ids{524, 64, 522, 523, 65}));
}

TEST(Tokenizer, knows_its_added_tokens_by_the_ids_that_they_have) {
  const Tokenizer tokenizer = with_added({{"<x>", 600}, {"<y>", 700}});
  EXPECT_EQ(tokenizer.vocabulary_size(), 524);
  EXPECT_EQ(tokenizer.piece(523), "<y>");
  error_of(ErrorKind::kUser, [&] { tokenizer.piece(600); });
}

}  // namespace
}  // namespace heartmula
