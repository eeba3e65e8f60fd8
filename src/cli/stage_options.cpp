#include "cli/stage_options.h"

#include <CLI/CLI.hpp>

#include "checkpoint/settings.h"
#include "cli/commands.h"

namespace heartmula {

void StageOptions::add_to(CLI::App& command) {
  const auto list = CLI::MultiOptionPolicy::TakeAll;
  flags_.add_to(command, kStages);
  command.add_option("--synthetic", choice_.models.synthetic,
                     "Random weights in memory instead: 3B, 7B, or a folder with a checkpoint's config.json files");
  command
      .add_option(both_spellings("--mula_dtype"), mula_dtypes_, "Weights of the language model: bf16, fp32, or both")
      ->delimiter(',')
      ->multi_option_policy(list)
      ->capture_default_str();
  command.add_option(both_spellings("--codec_dtype"), codec_dtypes_, "Weights of the codec, likewise")
      ->delimiter(',')
      ->multi_option_policy(list)
      ->capture_default_str();
  command.add_option("--songs", choice_.songs, "Songs at once in a frame")
      ->delimiter(',')
      ->multi_option_policy(list)
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command.add_option("--context", choice_.context, "Positions before a frame")
      ->check(CLI::Range(1, 8000))
      ->capture_default_str();
  command.add_option("--prompt", choice_.prompt, "Positions of the prefill")
      ->check(CLI::Range(2, 8000))
      ->capture_default_str();
}

bench::StageChoice StageOptions::resolve() const {
  bench::StageChoice choice = choice_;
  Request request;
  flags_.apply(request);
  choice.models.checkpoint = request.checkpoint;
  check_codec_settings(request.codec);
  choice.codec = request.codec;
  choice.mula_dtypes = parse("--mula_dtype", mula_dtypes_);
  choice.codec_dtypes = parse("--codec_dtype", codec_dtypes_);
  return choice;
}

std::vector<DType> StageOptions::parse(const char* flag, const std::vector<std::string>& names) {
  std::vector<DType> dtypes;
  for (const std::string& name : names) dtypes.push_back(parse_weight_dtype(flag, name));
  return dtypes;
}

void add_device(CLI::App& command, DeviceWish& device) {
  command.add_option_function<std::string>(
      "--device", [&device](const std::string& word) { device = parse_device("--device", word); },
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
