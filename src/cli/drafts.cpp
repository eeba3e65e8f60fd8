// heartmula drafts: how guessable songs are, and how often drafters are right.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/setting_flags.h"
#include "measure/draft_statistics.h"

namespace heartmula {
namespace {

struct DraftsFlags {
  DraftStatisticsOptions drafts;
  SettingFlags flags;
  std::string drafter = {};
  bool json = false;
};

}  // namespace

void add_drafts(CLI::App& app, Run& run) {
  Command command(app, "drafts", "Measure how guessable songs are, and how often each drafter would be right");
  auto options = std::make_shared<DraftsFlags>();
  DraftStatisticsOptions& drafts = options->drafts;
  command.words("codes", drafts.codes, "Codes files of songs, as from --save_codes");
  options->flags.add_to(command.app(), kDrafts);
  command.option("--drafter", options->drafter, "A drafter file that is asked, too; by default the checkpoint's own");
  command.option("--frames", drafts.frames, "Of each song, from its beginning (all)").within(1, int64_t{1} << 30);
  command.flag("--json", options->json, "For programs");
  command.runs(run, [options] {
    watch_signals();
    if (options->drafts.codes.empty()) throw user_error("codes: name the codes files of some songs");
    Request request;
    options->flags.apply(request);
    options->drafts.checkpoint = request.checkpoint;
    if (!options->drafter.empty()) request.machine.drafter = options->drafter;
    options->drafts.machine = request.machine;
    const auto note = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
    const nlohmann::json json = measure_draft_statistics(options->drafts, note, &interrupt_token());
    print_out(options->json ? json.dump(2) + "\n" : describe_draft_statistics(json));
    return 0;
  });
}

}  // namespace heartmula
