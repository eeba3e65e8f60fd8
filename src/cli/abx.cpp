// heartmula abx: a web page for a blind listening test.
#include "measure/abx.h"

#include <fmt/format.h>

#include "base/input.h"
#include "base/message.h"
#include "cli/commands.h"

namespace heartmula {

void add_abx(CLI::App& app, Run& run) {
  struct Options {
    std::string folder;
    std::string output = "abx.html";
    int trials = 16;
  };
  Command command(app, "abx", "Make a web page for a blind listening test of two systems");
  auto options = std::make_shared<Options>();
  command.option("DIR", options->folder, "Holds two folders, with pieces of the same names").required();
  command.option("--output", options->output, "The page (abx.html)");
  command.option("--trials", options->trials, "How many times to choose (16)");
  command.runs(run, [options] {
    const AbxPage page = write_abx_page(expand_home(options->folder), expand_home(options->output), options->trials);
    print_out(fmt::format("{}: {} trials with {} {} of {} and {}, {:.1f} MB of audio; open it in a browser\n",
                          escaped(options->output), options->trials, page.pieces.size(),
                          page.pieces.size() == 1 ? "piece" : "pieces", escaped(page.systems[0]),
                          escaped(page.systems[1]), static_cast<double>(page.audio_bytes) * 1e-6));
    return 0;
  });
}

}  // namespace heartmula
