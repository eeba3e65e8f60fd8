// heartmula steps: how many steps the codec needs.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/input.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/setting_flags.h"
#include "measure/solver_steps.h"

namespace heartmula {
namespace {

struct StepsFlags {
  StepsOptions steps;
  SettingFlags flags;
  std::string picture;
  bool json = false;
};

}  // namespace

void add_steps(CLI::App& app, Run& run) {
  Command command(app, "steps", "Measure how near ways of solving the codec's flow come to a fine solution");
  auto options = std::make_shared<StepsFlags>();
  StepsOptions& steps = options->steps;
  command.words("codes", steps.codes, "Codes files of songs, as from --save_codes");
  options->flags.add_to(command.app(), kSteps);
  command.words("--try", steps.tries,
                "A way of solving, \"solver=ab2 steps=6 guidance_steps=0,2,4\"; may be given several times (a list of "
                "usual ones; of a student, its numbers of steps)");
  command.option("--against", steps.against, "The codec that solves finely, for a student: its teacher");
  command.option(both_spellings("--passage_ms"), steps.passage_ms, "How much of each song, from its beginning")
      .within(400, 640'000)
      .show_default();
  command.option(both_spellings("--fine_steps"), steps.fine_steps, "Steps of the fine solution (AB2)")
      .within(2, 1000)
      .show_default();
  command.option("--seed", steps.seed, "Of the noise").within(0, int64_t{1} << 40).show_default();
  command.option("--picture", options->picture, "Draw distance against work here, as SVG");
  command.option("--abx", steps.abx,
                 "Write the passages as the reference and as the recommended way solve them here, for `heartmula abx`");
  command.flag("--json", options->json, "For programs");
  command.runs(run, [options] {
    watch_signals();
    if (options->steps.codes.empty()) throw user_error("codes: name the codes files of some songs");
    Request request;
    options->flags.apply(request);
    options->steps.checkpoint = request.checkpoint;
    options->steps.machine = request.machine;
    if (!options->picture.empty()) check_writable(expand_home(options->picture));
    const auto note = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
    const nlohmann::json json = measure_solver_steps(options->steps, note, &interrupt_token());
    if (!options->picture.empty()) write_file(expand_home(options->picture), draw_solver_steps(json));
    print_out(options->json ? json.dump(2) + "\n" : describe_solver_steps(json));
    return 0;
  });
}

}  // namespace heartmula
