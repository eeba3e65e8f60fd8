// heartmula bench: the machine's limits and how near each stage comes to them.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_fields.h"
#include "bench/report.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "song/request.h"

namespace heartmula {
namespace {

struct Options {
  bench::Options run;
  std::vector<std::string> mula_dtypes = {"bf16"};
  std::vector<std::string> codec_dtypes = {"fp32"};
  bool json = false;
  std::string compare;
};

std::vector<DType> parse_dtypes(const char* flag, const std::vector<std::string>& names) {
  std::vector<DType> dtypes;
  for (const std::string& name : names) dtypes.push_back(parse_weight_dtype(flag, name));
  return dtypes;
}

}  // namespace

void add_bench(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("bench", "Measure each stage beside the limits of this machine");
  auto options = std::make_shared<Options>();
  bench::Options& o = options->run;
  const auto list = CLI::MultiOptionPolicy::TakeAll;
  command->add_option(both_spellings("--model_path"), o.models.model_path, "The checkpoint to measure");
  command->add_option("--version", o.models.version, "Size of its language model")->capture_default_str();
  command->add_option("--synthetic", o.models.synthetic,
                      "Random weights in memory instead: 3B, 7B, or a folder with a checkpoint's config.json files");
  command
      ->add_option("--stage", o.stages,
                   fmt::format("Stages, of {}; by default all", fmt::join(bench::kStageNames, ", ")))
      ->delimiter(',')
      ->multi_option_policy(list);
  command->add_option("--threads", o.threads, kThreadsHelp);
  command->add_option("--cpus", o.cpus, kCpusHelp);
  command
      ->add_option(both_spellings("--mula_dtype"), options->mula_dtypes,
                   "Weights of the language model: bf16, fp32, or both")
      ->delimiter(',')
      ->multi_option_policy(list)
      ->capture_default_str();
  command->add_option(both_spellings("--codec_dtype"), options->codec_dtypes, "Weights of the codec, likewise")
      ->delimiter(',')
      ->multi_option_policy(list)
      ->capture_default_str();
  command->add_option("--songs", o.songs, "Songs at once in a frame")
      ->delimiter(',')
      ->multi_option_policy(list)
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_option("--context", o.context, "Positions before a frame")
      ->check(CLI::Range(1, 8000))
      ->capture_default_str();
  command->add_option("--prompt", o.prompt, "Positions of the prefill")
      ->check(CLI::Range(2, 8000))
      ->capture_default_str();
  command->add_option("--repeats", o.repeats, "Samples of a stage; long stages take a third of them")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--json", options->json, "For programs");
  command->add_option("--compare", options->compare, "JSON of an earlier run: print both and their ratios");
  command->callback([options, &run] {
    run = [options] {
      watch_signals();
      options->run.mula_dtypes = parse_dtypes("--mula_dtype", options->mula_dtypes);
      options->run.codec_dtypes = parse_dtypes("--codec_dtype", options->codec_dtypes);
      std::optional<nlohmann::json> old;
      if (!options->compare.empty()) old = read_json_object(options->compare);
      const auto note = [](const std::string& text) { fmt::print(stderr, "measuring {}\n", text); };
      const nlohmann::json result = bench::to_json(bench::run(options->run, note, &interrupt_token()));
      std::string text = options->json ? result.dump(2) + "\n" : bench::to_table(result);
      if (old) text += bench::to_comparison(*old, result, options->compare);
      print_out(text);
      return 0;
    };
  });
}

}  // namespace heartmula
