// The subcommands: each adds its options to the program and sets what is to be run.
#pragma once

#include "checkpoint/settings.h"
#include "cli/command.h"

namespace heartmula {

void add_devices(CLI::App& app, Run& run);
void add_doctor(CLI::App& app, Run& run);
void add_generate(CLI::App& app, Run& run);
void add_abx(CLI::App& app, Run& run);
void add_compare(CLI::App& app, Run& run);
void add_steps(CLI::App& app, Run& run);
void add_drafts(CLI::App& app, Run& run);
void add_dump(CLI::App& app, Run& run);
void add_convert(CLI::App& app, Run& run);
void add_decode(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_lint(CLI::App& app, Run& run);
void add_serve(CLI::App& app, Run& run);
void add_schema(CLI::App& app, Run& run);
void add_tokenize(CLI::App& app, Run& run);
void add_verify(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);
void add_first_logits(CLI::App& app, Run& run);
void add_plan(CLI::App& app, Run& run);

/// Help of flags that several commands have.
constexpr const char* kThreadsHelp = "Threads; by default one for each core, or as many as decode fastest";
constexpr const char* kCompareHelp = "JSON of a run of bench: print both and their ratios";
constexpr const char* kCpusHelp = "Pin the threads: 0-3,8 puts thread i on the i-th of these cpus; fastest";

/// "--device" of a command whose settings are not in the table.
void add_device(CLI::App& command, DeviceWish& device);

}  // namespace heartmula
