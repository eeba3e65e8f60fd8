#include "cli/testing.h"

namespace heartmula {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

json inspected(const fs::path& path) {
  return json::parse(succeeds({"inspect", "--json", path}).out);
}

std::string described(const fs::path& path) {
  return succeeds({"inspect", path}).out;
}

TEST(Inspect, a_checkpoint_shows_both_models_and_the_tokenizer) {
  const json checkpoint = inspected(kTinyCheckpoint);
  EXPECT_EQ(checkpoint["kind"], "checkpoint");
  EXPECT_EQ(checkpoint["gen_config"], json_of(fs::path(kTinyCheckpoint) / "gen_config.json"));
  EXPECT_GT(checkpoint["tokenizer"]["vocabulary"], 500);
  ASSERT_EQ(checkpoint["models"].size(), 2u);
  EXPECT_THAT(described(kTinyCheckpoint),
              AllOf(HasSubstr("HeartMuLa in"), HasSubstr("HeartCodec in"), HasSubstr("tokenizer")));
}

TEST(Inspect, a_language_model_shows_its_config_and_what_it_weighs) {
  const fs::path folder = fs::path(kTinyCheckpoint) / kLmFolder;
  const json model = inspected(folder);
  EXPECT_EQ(model, inspected(kTinyCheckpoint)["models"][0].patch(
                       json::array({{{"op", "add"}, {"path", "/kind"}, {"value", "model"}}})));
  EXPECT_EQ(model["model"], "HeartMuLa");
  const json config = json_of(folder / "config.json");
  for (const char* part : {"backbone", "decoder"}) {
    for (const auto& item : config[part].items()) {
      EXPECT_NEAR(model[part][item.key()].get<double>(), item.value().get<double>(), 1e-9) << part << " " << item.key();
    }
  }
  EXPECT_EQ(model["text_vocab_size"], config["text_vocab_size"]);
  EXPECT_EQ(model["files"], 1);
  EXPECT_EQ(model["bytes"], 4 * model["parameters"].get<int64_t>());  // all of it is F32
  EXPECT_EQ(model["dtypes"], json({{"F32", model["tensors"]}}));
  EXPECT_THAT(described(folder), AllOf(HasSubstr("backbone: 3 layers of 64, 4 query and 2 key/value heads of 16"),
                                       HasSubstr(std::to_string(model["parameters"].get<int64_t>()) + " parameters")));
}

TEST(Inspect, a_codec_shows_its_config_and_what_decoding_does_not_need) {
  const fs::path folder = fs::path(kTinyCheckpoint) / kCodecFolder;
  const json model = inspected(folder);
  EXPECT_EQ(model["model"], "HeartCodec");
  const json config = json_of(folder / "config.json");
  for (const char* field : {"codebook_size", "codebook_dim", "dim", "num_attention_heads", "attention_head_dim",
                            "num_layers", "num_layers_2", "latent_hidden_dim", "init_channel", "upsample_factors"}) {
    EXPECT_EQ(model[field], config[field]) << field;
  }
  for (const json& name : model["unused_tensors"]) {
    const auto text = name.get<std::string>();
    EXPECT_TRUE(text.find("encoder") != std::string::npos || text.find("embed_avg") != std::string::npos ||
                text.find("cluster_size") != std::string::npos || text.find("initted") != std::string::npos ||
                text.find("project_in") != std::string::npos || text.find("zero_cond") != std::string::npos)
        << text;
  }
}

TEST(Inspect, a_safetensors_file_shows_every_tensor) {
  const fs::path file = fs::path(kTinyCheckpoint) / kLmFolder / "model.safetensors";
  const json shown = inspected(file);
  EXPECT_EQ(shown["kind"], "safetensors");
  EXPECT_EQ(static_cast<int64_t>(shown["tensors"].size()), inspected(file.parent_path())["tensors"]);
  const std::string text = described(file);
  for (const json& tensor : shown["tensors"]) EXPECT_THAT(text, HasSubstr(tensor["name"].get<std::string>()));
}

TEST(Inspect, codes_show_their_length_and_their_request) {
  const TemporaryFolder folder;
  const fs::path codes = folder / "codes";
  succeeds(generate(folder / "song.wav", {"--save_codes", codes, "--model_path", endless_checkpoint()}));
  const json shown = inspected(codes);
  EXPECT_EQ(shown["kind"], "codes");
  EXPECT_EQ(shown["frames"], 11);
  EXPECT_DOUBLE_EQ(shown["duration_s"], 0.88);
  EXPECT_EQ(shown["request"], json_of(folder / "song.wav.json")["request"]);
  EXPECT_THAT(described(codes), AllOf(HasSubstr("11 frames, 0.88 s"), HasSubstr("\"seed\": 1")));
}

TEST(Inspect, a_name_that_is_no_utf8_is_shown_all_the_same) {
  const TemporaryFolder folder;
  const fs::path strange = folder / "ck\xffpt";
  fs::create_symlink(kTinyCheckpoint, strange);
  EXPECT_EQ(inspected(strange)["kind"], "checkpoint");
  EXPECT_THAT(described(strange), HasSubstr("ck\\xffpt"));
  fs::create_symlink(fs::path(kTinyCheckpoint) / kLmFolder / "model.safetensors", folder / "w\xff");
  EXPECT_EQ(inspected(folder / "w\xff")["kind"], "safetensors");
}

TEST(Inspect, what_is_broken_is_refused_by_name) {
  const TemporaryFolder folder;
  const fs::path weights = fs::path(kTinyCheckpoint) / kLmFolder / "model.safetensors";
  const std::string whole = contents(weights);
  const auto refuses = [&](const fs::path& path) {
    for (const Arguments& flags : {Arguments{}, Arguments{"--json"}}) {
      EXPECT_THAT(refused(Arguments{"inspect", path} + flags, 2), HasSubstr(path.string()));
    }
  };
  refuses("/no/such/path");
  refuses("/dev/null");
  refuses(folder.path());
  refuses(folder.write("empty", ""));
  refuses(folder.write("text", "these are no weights"));
  refuses(folder.write("cut", whole.substr(0, whole.size() - 1)));
  refuses(folder.write("header", whole.substr(0, 100)));
  refuses(folder.write("huge", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10)));
  refuses(folder.write("longer", whole + "x"));
  folder.write("model/config.json", "{}");
  refuses(folder / "model");
}

TEST(Inspect, a_folder_is_taken_as_generate_takes_it) {
  const TemporaryFolder folder;
  const fs::path checkpoint = copy_of_checkpoint(folder);
  fs::copy(checkpoint / kLmFolder, checkpoint / (kLmFolder + "-happy-new-year"));
  const json several = inspected(checkpoint);
  EXPECT_EQ(several["models"][0]["path"], (checkpoint / kLmFolder).string());
  ASSERT_EQ(several["notes"].size(), 1u);
  EXPECT_THAT(described(checkpoint), HasSubstr("--version 3B-happy-new-year"));
  fs::remove_all(checkpoint / (kLmFolder + "-happy-new-year"));
  fs::rename(checkpoint / kLmFolder, checkpoint / "HeartMuLa-RL-oss-7B-20270101");
  EXPECT_EQ(inspected(checkpoint)["models"][0]["path"], (checkpoint / "HeartMuLa-RL-oss-7B-20270101").string());
}

TEST(Inspect, a_checkpoint_with_a_broken_part_is_refused) {
  const auto refused_when = [](const auto& spoil) {
    const TemporaryFolder folder;
    const fs::path checkpoint = copy_of_checkpoint(folder);
    spoil(checkpoint);
    return refused({"inspect", checkpoint}, 2);
  };
  EXPECT_THAT(refused_when([](const fs::path& c) { fs::remove(c / "tokenizer.json"); }), HasSubstr("tokenizer.json"));
  EXPECT_THAT(refused_when([](const fs::path& c) { std::ofstream(c / "tokenizer.json") << "{}"; }),
              HasSubstr("tokenizer.json"));
  EXPECT_THAT(refused_when([](const fs::path& c) { fs::remove_all(c / kCodecFolder); }), HasSubstr(kCodecFolder));
  EXPECT_THAT(refused_when([](const fs::path& c) {
                edit_json(c / kCodecFolder / "config.json", [](json& config) { config["codebook_size"] = 65; });
              }),
              AllOf(HasSubstr("codebook"), HasSubstr("65")));
}

}  // namespace
}  // namespace heartmula
