// heartmula bench: the machine's limits and how near each stage comes to them.
#include <fmt/format.h>

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

struct BenchFlags {
  StageOptions stage;
  bench::Options run;
  bool json = false;
  std::string compare;
};

}  // namespace

void add_bench(CLI::App& app, Run& run) {
  Command command(app, "bench", "Measure each stage beside the limits of this machine");
  auto options = std::make_shared<BenchFlags>();
  bench::Options& o = options->run;
  options->stage.add_to(command);
  command.option("--stage", o.stages,
                 fmt::format("Stages, of {}; by default all", fmt::join(bench::kStageNames, ", ")));
  add_device(command.app(), o.device);
  command.option("--threads", o.threads, kThreadsHelp).within(0, 1024);
  command.option("--cpus", o.cpus, kCpusHelp);
  command.option("--repeats", o.repeats, "Samples of a stage; long stages take a third of them")
      .within(1, 1000)
      .show_default();
  command.flag("--json", options->json, "For programs");
  command.option("--compare", options->compare, kCompareHelp);
  command.runs(run, [options] {
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
  });
}

// What stage `open` starts; hidden, for it is of no use alone.
void add_first_logits(CLI::App& app, Run& run) {
  Command command(app, "first-logits", "Open packed weights and compute the first logits");
  command.hide();
  struct FirstLogitsOptions {
    StageOptions stage;
    bench::FirstLogits work;
  };
  auto options = std::make_shared<FirstLogitsOptions>();
  options->stage.add_to(command);
  command.option("--weights", options->work.folder).required();
  command.option("--threads", options->work.threads);
  command.option("--cpus", options->work.cpus);
  command.option("--repeats", options->work.repeats);
  command.runs(run, [options] {
    const bench::StageChoice stage = options->stage.resolve();
    options->work.models = stage.models;
    options->work.dtype = stage.mula_dtypes.front();
    options->work.context = stage.context;
    print_out(bench::run_first_logits(options->work).dump() + "\n");
    return 0;
  });
}

}  // namespace heartmula
