// heartmula bench: the machine's limits and how near each stage comes to them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/input.h"
#include "base/json_fields.h"
#include "bench/open_stage.h"
#include "bench/report.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/stage_options.h"

namespace heartmula {
namespace {

struct Options {
  StageOptions stage;
  bench::Options run;
  bool json = false;
  std::string compare;
};

}  // namespace

void add_bench(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("bench", "Measure each stage beside the limits of this machine");
  auto options = std::make_shared<Options>();
  bench::Options& o = options->run;
  options->stage.add_to(*command);
  command
      ->add_option("--stage", o.stages,
                   fmt::format("Stages, of {}; by default all", fmt::join(bench::kStageNames, ", ")))
      ->delimiter(',')
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_device(*command, o.device);
  command->add_option("--threads", o.threads, kThreadsHelp)->check(CLI::Range(0, 1024));
  command->add_option("--cpus", o.cpus, kCpusHelp);
  command->add_option("--repeats", o.repeats, "Samples of a stage; long stages take a third of them")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_flag("--json", options->json, "For programs");
  command->add_option("--compare", options->compare, kCompareHelp);
  command->callback([options, &run] {
    run = [options] {
      watch_signals();
      static_cast<bench::StageChoice&>(options->run) = options->stage.resolve();
      options->run.program = "/proc/self/exe";
      std::optional<nlohmann::json> old;
      if (!options->compare.empty()) old = read_json_object(expand_home(options->compare));
      const auto note = [](const std::string& text) { fmt::print(stderr, "measuring {}\n", text); };
      const nlohmann::json result = bench::to_json(bench::run(options->run, note, &interrupt_token()));
      print_out(options->json ? result.dump(2) + "\n" : bench::to_table(result));
      if (old) print_comparison(bench::to_comparison(*old, result, options->compare), options->json);
      return 0;
    };
  });
}

// What stage `open` starts; hidden, for it is of no use alone.
void add_first_logits(CLI::App& app, Run& run) {
  CLI::App* command = app.add_subcommand("first-logits", "Open packed weights and compute the first logits")->group("");
  struct FirstLogitsOptions {
    StageOptions stage;
    bench::FirstLogits work;
  };
  auto options = std::make_shared<FirstLogitsOptions>();
  options->stage.add_to(*command);
  command->add_option("--weights", options->work.folder)->required();
  command->add_option("--threads", options->work.threads);
  command->add_option("--cpus", options->work.cpus);
  command->add_option("--repeats", options->work.repeats);
  command->callback([options, &run] {
    run = [options] {
      const bench::StageChoice stage = options->stage.resolve();
      options->work.models = stage.models;
      options->work.dtype = stage.mula_dtypes.front();
      options->work.context = stage.context;
      print_out(bench::run_first_logits(options->work).dump() + "\n");
      return 0;
    };
  });
}

}  // namespace heartmula
