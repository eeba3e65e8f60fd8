// heartmula plan: what a machine that is only described would take for a song.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "base/input.h"
#include "base/json_fields.h"
#include "bench/report.h"
#include "cli/commands.h"
#include "cli/stage_options.h"

namespace heartmula {
namespace {

struct PlanFlags {
  StageOptions stage;
  std::string machine;
  int64_t max_audio_length_ms = 180'000;
  bool lazy_load = false;
  bool json = false;
  std::string compare;
};

/// A name alone is that of a description in the folder machines.
std::filesystem::path machine_file(const std::string& machine) {
  const std::filesystem::path path = expand_home(machine);
  const std::filesystem::path known = std::filesystem::path("machines") / (machine + ".json");
  std::error_code ignored;
  return !std::filesystem::exists(path, ignored) && std::filesystem::exists(known, ignored) ? known : path;
}

}  // namespace

void add_plan(CLI::App& app, Run& run) {
  Command command(app, "plan", "Predict time and memory of a song on a machine that you describe");
  auto options = std::make_shared<PlanFlags>();
  command
      .option("--machine", options->machine, "Its description, machines/NAME.json: a file, or the NAME of one of those")
      .required();
  options->stage.add_to(command);
  command.option(both_spellings("--max_audio_length_ms"), options->max_audio_length_ms, "Length of the song")
      .within(kFrameMs, int64_t{640'000})
      .show_default();
  command.option(both_spellings("--lazy_load"), options->lazy_load, "One model in memory at a time").show_default();
  command.flag("--json", options->json, "For programs");
  command.option("--compare", options->compare, kCompareHelp);
  command.runs(run, [options] {
    bench::PlanOptions plan;
    static_cast<bench::StageChoice&>(plan) = options->stage.resolve();
    if (!plan.models.names_checkpoint() && plan.models.synthetic.empty()) plan.models.synthetic = "3B";
    plan.frames = options->max_audio_length_ms / kFrameMs;
    plan.lazy_load = options->lazy_load;
    std::optional<nlohmann::json> measured;
    if (!options->compare.empty()) measured = read_json_object(expand_home(options->compare));
    const auto machine = bench::MachineDescription::read(machine_file(options->machine));
    const nlohmann::json prediction = bench::to_json(bench::predict(machine, plan));
    print_out(options->json ? prediction.dump(2) + "\n" : bench::to_table(prediction));
    if (measured) print_comparison(bench::to_comparison(*measured, prediction, options->compare), options->json);
    return 0;
  });
}

}  // namespace heartmula
