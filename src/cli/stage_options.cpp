#include "cli/stage_options.h"

#include <cstdio>

#include "base/error.h"
#include "checkpoint/settings.h"
#include "cli/commands.h"
#include "decode/draft_settings.h"

namespace heartmula {

void StageOptions::add_to(Command& command) {
  flags_.add_to(command.app(), kStages);
  command.option("--synthetic", choice_.models.synthetic,
                 "Random weights in memory instead: 3B, 7B, or a folder with a checkpoint's config.json files");
  command.option(both_spellings("--mula_dtype"), mula_dtypes_, "Weights of the language model: bf16, fp32, or both")
      .show_default();
  command.option(both_spellings("--codec_dtype"), codec_dtypes_, "Weights of the codec, likewise").show_default();
  command.option("--songs", choice_.songs, "Songs at once in a frame").within(1, 64).show_default();
  command.option("--drafter", drafters_, "Stage drafted: oracle:RIGHT, of whose codes this part is right");
  command.option(both_spellings("--draft_model"), choice_.draft_model,
                 "What the oracle computes with and pays for: 3B (random weights) or a drafter file; none by default");
  command.option(both_spellings("--draft_frames"), choice_.drafts, "Frames that it drafts in a step")
      .within(0, 16)
      .show_default();
  command.option("--context", choice_.context, "Positions before a frame").within(1, 8000).show_default();
  command.option("--prompt", choice_.prompt, "Positions of the prefill").within(2, 8000).show_default();
}

bench::StageChoice StageOptions::resolve() const {
  bench::StageChoice choice = choice_;
  Request request;
  flags_.apply(request);
  choice.models.checkpoint = request.checkpoint;
  check_settings(request);
  check_codec_settings(request.codec);
  choice.codec = request.codec;
  choice.mula_dtypes = parse("--mula_dtype", mula_dtypes_);
  for (const std::string& text : drafters_) {
    const DraftSettings drafter = DraftSettings::parse("--drafter", text);
    if (drafter.kind != DrafterKind::kOracle) {
      throw user_error("--drafter {}: with synthetic frames nothing can be learned, so only oracle:RIGHT has figures",
                       text);
    }
    choice.right.push_back(drafter.right);
  }
  choice.codec_dtypes = parse("--codec_dtype", codec_dtypes_);
  return choice;
}

std::vector<DType> StageOptions::parse(const char* flag, const std::vector<std::string>& names) {
  std::vector<DType> dtypes;
  for (const std::string& name : names) dtypes.push_back(parse_weight_dtype(flag, name));
  return dtypes;
}

void add_device(CLI::App& command, DeviceWish& device) {
  add_parsed(
      command, "--device", [&device](const std::string& word) { device = parse_device("--device", word); },
      "cpu, cuda, cuda:N, or auto: a card if there is one");
}

void print_comparison(const std::string& text, bool json) {
  if (json) {
    std::fputs(text.c_str(), stderr);
  } else {
    print_out(text);
  }
}

}  // namespace heartmula
