// heartmula: the program. One file a subcommand.
#include "cli/program.h"

int main(int argc, char** argv) {
  return heartmula::run_program(argc, argv);
}
