// heartmula compare: how far one song is from another.
#include "measure/compare.h"

#include <nlohmann/json.hpp>

#include "base/input.h"
#include "cli/commands.h"

namespace heartmula {

void add_compare(CLI::App& app, Run& run) {
  struct Options {
    std::string a;
    std::string b;
    bool json = false;
  };
  Command command(app, "compare", "Measure how far one audio or codes file is from another");
  auto options = std::make_shared<Options>();
  command.option("A", options->a, "The reference: an audio file, or codes as from --save_codes").required();
  command.option("B", options->b, "Another of the same kind").required();
  command.flag("--json", options->json, "For programs");
  command.runs(run, [options] {
    const nlohmann::json json = compare_files(expand_home(options->a), expand_home(options->b));
    constexpr auto kReplace = nlohmann::json::error_handler_t::replace;  // a file name may be no UTF-8
    print_out(options->json ? json.dump(2, ' ', false, kReplace) + "\n" : describe_comparison(json));
    return 0;
  });
}

}  // namespace heartmula
