// The program's command line, from its words to its exit code.
#pragma once

namespace heartmula {

/// Runs the subcommand that the words name; what goes wrong is one line on standard error (an object with --progress
/// json). Returns 0, 1 for a failure, 2 for what the user can mend, 128 + signal after one.
int run_program(int argc, char** argv);

}  // namespace heartmula
