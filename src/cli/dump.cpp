// heartmula dump: what drafters learn from.
#include <cstdio>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/setting_flags.h"
#include "measure/draft_dump.h"

namespace heartmula {
namespace {

struct DumpFlags {
  DraftDumpOptions dump;
  SettingFlags flags;
};

}  // namespace

void add_dump(CLI::App& app, Run& run) {
  Command command(app, "dump", "Write what drafters learn from: hidden states and likely codes of songs");
  auto options = std::make_shared<DumpFlags>();
  command.words("codes", options->dump.codes, "Codes files of songs, as from --save_codes");
  options->flags.add_to(command.app(), kDrafts);
  command.option("--out", options->dump.folder, "Folder for a file of each song; what is there already stays");
  command.runs(run, [options] {
    watch_signals();
    DraftDumpOptions& dump = options->dump;
    if (dump.codes.empty()) throw user_error("codes: name the codes files of some songs");
    if (dump.folder.empty()) throw user_error("--out: name a folder");
    Request request;
    options->flags.apply(request);
    request.machine.drafter = "none";
    dump.checkpoint = request.checkpoint;
    dump.machine = request.machine;
    const auto note = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
    dump_drafts(dump, note, &interrupt_token());
    return 0;
  });
}

}  // namespace heartmula
