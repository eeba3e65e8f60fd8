// heartmula schema: what a request may say, for programs.
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "song/settings.h"

namespace heartmula {

void add_schema(CLI::App& app, Run& run) {
  Command command(app, "schema", "Print the JSON schema of a song's request");
  command.runs(run, [] {
    print_out(request_schema().dump(2) + "\n");
    return 0;
  });
}

}  // namespace heartmula
