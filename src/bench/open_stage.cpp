#include "bench/open_stage.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/packed_writer.h"
#include "cpu/cpu_ops.h"
#include "lm/session.h"

extern char** environ;

namespace heartmula::bench {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kPrompt = 50;

/// The same for all processes.
double steady_seconds() {
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

std::vector<std::string> arguments_of(const fs::path& program, const FirstLogits& work) {
  std::vector<std::string> arguments = {program.string(), "first-logits", "--weights", work.folder.string()};
  const auto add = [&](const char* flag, const std::string& value) {
    if (value.empty()) return;
    arguments.emplace_back(flag);
    arguments.push_back(value);
  };
  add("--synthetic", work.models.synthetic);
  add("--model_path", work.models.checkpoint.model_path);
  add("--version", work.models.checkpoint.version);
  add("--mula_path", work.models.checkpoint.mula_path);
  add("--codec_path", work.models.checkpoint.codec_path);
  add("--mula_dtype", short_name(work.dtype));
  if (work.threads > 0) add("--threads", std::to_string(work.threads));
  add("--cpus", work.cpus);
  add("--context", std::to_string(work.context));
  add("--repeats", std::to_string(work.repeats));
  return arguments;
}

/// What the program prints. Throws Error(kFailure) if it cannot be started or fails; its messages go to this process's.
std::string output_of(std::vector<std::string> arguments) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw failure("a pipe: {}", std::generic_category().message(errno));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int error = ::posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string text;
  if (error == 0) {
    std::array<char, 4096> piece{};
    ssize_t count = 0;
    while ((count = ::read(ends[0], piece.data(), piece.size())) != 0) {
      if (count > 0) text.append(piece.data(), static_cast<size_t>(count));
      if (count < 0 && errno != EINTR) break;
    }
  }
  ::close(ends[0]);
  if (error != 0) throw failure("{}: {}", arguments[0], std::generic_category().message(error));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) throw failure("{} {} failed", arguments[0], arguments[1]);
  return text;
}

/// So that the next process reads it from the disk. What has been written is there already.
void forget(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
}

}  // namespace

nlohmann::json run_first_logits(const FirstLogits& work) {
  const LmConfig config = ModelSource(work.models).lm_config();
  const WeightStore store = WeightStore::open(work.folder);
  WorkMeter meter;
  const std::unique_ptr<Ops> ops = make_metered_ops(
      make_cpu_ops({.threads = work.threads, .cpus = work.cpus, .measure_streams = true, .isa = {}}), meter);
  const HeartMula model = HeartMula::load(*ops, store, config, work.dtype);
  LmSession session(*ops, model, kRowsOfSong, kPrompt + 1);
  const Clock::time_point begin = Clock::now();
  session.prefill(std::vector<int32_t>(kPrompt, 1), kPrompt / 2, {});
  session.first_logits();
  const double prefill_seconds = seconds_since(begin);
  const double logits_at = steady_seconds();
  const Stage frame = measure_frame(*ops, meter, model, 1, work.context, work.repeats);
  return {{"logits_at", logits_at}, {"prefill_seconds", prefill_seconds}, {"frame_seconds", frame.seconds.values}};
}

Stage measure_open(const fs::path& program, const fs::path& scratch, Ops& ops, ModelSource& source, FirstLogits work,
                   const Note& note, const CancelToken* cancel) {
  AtomicFolder folder(scratch);  // never committed, so it goes
  work.folder = folder.temporary_path();
  const fs::path file = work.folder / "model.safetensors";
  const PackedWriter writer(
      ops, source.lm_store(), HeartMula::expected_tensors(source.lm_config()), work.dtype, "",
      [&](Ops& device) { HeartMula::load(device, source.lm_store(), source.lm_config(), work.dtype); });
  const auto gigabytes = static_cast<double>(writer.bytes()) * 1e-9;
  std::error_code unknown;
  const auto room = static_cast<int64_t>(fs::space(work.folder, unknown).available);
  if (!unknown && room < writer.bytes()) {
    throw failure("{}: stage open writes {:.1f} GB, but {:.1f} GB are free there; set TMPDIR, or leave it out",
                  scratch.parent_path().string(), gigabytes, static_cast<double>(room) * 1e-9);
  }
  note(fmt::format("open: writing {:.1f} GB", gigabytes));
  writer.write(
      file, [](int64_t) {}, cancel);
  forget(file);

  Stage stage =
      stage_of("open", work.dtype, fmt::format("process start to first logits of {} positions, warm", kPrompt));
  Stage cold = stage_of("cold", work.dtype, "");
  Stage prefill = stage_of("prefill", work.dtype, "");
  Stage frame = stage_of("frame, mapped", work.dtype, "");
  for (int64_t i = 0; i <= work.repeats; ++i) {
    note(i == 0 ? "open: cold" : "open: warm");
    const double begin = steady_seconds();
    const nlohmann::json result = nlohmann::json::parse(output_of(arguments_of(program, work)));
    (i == 0 ? cold : stage).seconds.values.push_back(result.at("logits_at").get<double>() - begin);
    if (i == 0) continue;
    prefill.seconds.values.push_back(result.at("prefill_seconds"));
    for (const double seconds : result.at("frame_seconds")) frame.seconds.values.push_back(seconds);
  }
  stage.parts = {cold, prefill, frame};
  return stage;
}

}  // namespace heartmula::bench
