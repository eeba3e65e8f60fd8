#include "bench/doctor.h"

#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <hwy/base.h>
#include <hwy/highway.h>
#include <sndfile.h>
#include <spdlog/version.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <taglib.h>
#include <unicode/uversion.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/affinity.h"
#include "base/cpu_info.h"
#include "base/cpu_topology.h"
#include "base/error.h"
#include "base/system_files.h"
#include "bench/devices.h"
#include "bench/measurement.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/inspect.h"
#include "checkpoint/models.h"
#include "cpu/isa.h"
#include "cpu/machine_probe.h"
#include "text/gen_config.h"
#include "text/tokenizer.h"

namespace heartmula::bench {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kMemorySamples = 3;
constexpr uint64_t kMemoryShare = 4;  // no more than this part of what is available is read

template <typename T>
json or_null(const std::optional<T>& value) {
  return value ? json(*value) : json();
}

/// Numbers that are 0 where the system does not say.
json or_null(uint64_t value) {
  return value == 0 ? json() : json(value);
}

/// Calls look(); its Error becomes a problem, which is returned.
std::optional<std::string> problem_of(const std::function<void()>& look, json& problems) {
  try {
    look();
  } catch (const Error& error) {
    const json problem = error.what();
    if (std::ranges::find(problems, problem) == problems.end()) problems.push_back(problem);
    return error.what();
  }
  return std::nullopt;
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

std::string architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "unknown";
#endif
}

json program(json& problems) {
  json result = {{"version", HEARTMULA_VERSION},
                 {"build_type", HEARTMULA_BUILD_TYPE},
                 {"compiler", compiler()},
                 {"architecture", architecture()}};
  for (const char* variable : {"HEARTMULA_ISA", "HEARTMULA_THREADS"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr) result["environment"][variable] = value;
  }
#if !defined(NDEBUG)
  problems.push_back("this build checks itself and is many times slower: build with `scripts/build release`");
#else
  static_cast<void>(problems);
#endif
  return result;
}

/// "Debian GNU/Linux 12 (bookworm)" of PRETTY_NAME="..."
std::optional<std::string> distribution(const fs::path& root) {
  std::ifstream file(root / "etc/os-release");
  for (std::string line; std::getline(file, line);) {
    constexpr std::string_view kKey = "PRETTY_NAME=";
    if (!line.starts_with(kKey)) continue;
    line.erase(0, kKey.size());
    std::erase(line, '"');
    return line;
  }
  return std::nullopt;
}

json system(const fs::path& root) {
  utsname name{};
  const bool known = ::uname(&name) == 0;
  return {{"kernel", known ? json(fmt::format("{} {}", name.sysname, name.release)) : json()},
          {"distribution", or_null(distribution(root))},
          {"libc", fmt::format("glibc {}", gnu_get_libc_version())}};
}

json processor(const fs::path& root, json& problems) {
  const CpuTopology topology = detail::cpu_topology(root, affinity());
  const std::string model = detail::cpu_model_name(root);
  json result = {{"model", model == "unknown" ? json() : json(model)},
                 {"instruction_sets", available_isas()},
                 {"instruction_set", json()},
                 {"cores", core_count(topology)},
                 {"cpus", topology.cpus.size()},
                 {"cpus_present", topology.present.size()},
                 {"cpu_quota", or_null(static_cast<uint64_t>(topology.quota))},
                 {"cache_bytes", or_null(static_cast<uint64_t>(topology.cache_bytes))}};
  std::map<int64_t, int, std::greater<>> cpus_of_speed;
  for (const Cpu& cpu : topology.cpus) ++cpus_of_speed[std::lround(cpu.speed * 100)];
  for (const auto& [percent, count] : cpus_of_speed) {
    result["speeds"].push_back({{"cpus", count}, {"percent_of_fastest", percent}});
  }
  problem_of([&] { result["instruction_set"] = cpu::choose_isa({}).name; }, problems);
  return result;
}

/// "madvise" of "always [madvise] never"
std::optional<std::string> huge_pages(const fs::path& root) {
  const std::optional<std::string> line = detail::first_line(root / "sys/kernel/mm/transparent_hugepage/enabled");
  if (!line) return std::nullopt;
  const size_t begin = line->find('[');
  const size_t end = line->find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return std::nullopt;
  return line->substr(begin + 1, end - begin - 1);
}

json memory(const Examination& examination, json& problems) {
  const MemoryInfo info = detail::memory_info(examination.root);
  rlimit limit{};
  const bool limit_known = ::getrlimit(RLIMIT_MEMLOCK, &limit) == 0;
  const bool unlimited = limit_known && limit.rlim_cur == RLIM_INFINITY;
  const std::optional<std::string> pages = huge_pages(examination.root);
  json result = {{"total_bytes", or_null(info.total_bytes)},
                 {"available_bytes", or_null(info.available_bytes)},
                 {"huge_pages", or_null(pages)},
                 {"lock_unlimited", limit_known ? json(unlimited) : json()},
                 {"lock_limit_bytes", limit_known && !unlimited ? json(limit.rlim_cur) : json()},
                 {"read_bytes_per_second", json()}};
  if (pages == "never") {
    problems.push_back(
        "huge pages are off, which costs speed: `echo madvise > "
        "/sys/kernel/mm/transparent_hugepage/enabled` as root");
  }
  if (!examination.measure_memory) return result;
  int64_t bytes = MachineProbe::kBufferBytes;
  if (info.available_bytes) bytes = std::min(bytes, static_cast<int64_t>(*info.available_bytes / kMemoryShare));
  problem_of(
      [&] {
        MachineProbe probe({.measure_streams = true, .isa = {}}, bytes);
        Samples rates;
        for (int i = 0; i < kMemorySamples; ++i) rates.values.push_back(probe.read_bytes_per_second());
        result["read_bytes_per_second"] = rates.median();
        result["read_threads"] = probe.threads();
      },
      problems);
  return result;
}

json free_bytes(const fs::path& folder) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  return error ? json() : json(space.available);
}

json disk(json& problems) {
  std::error_code error;
  const fs::path temporary = fs::temp_directory_path(error);
  if (error) problems.push_back("TMPDIR is no folder: unset it, or make one and name that");
  return {{"working_folder_free_bytes", free_bytes(".")},
          {"temporary_folder_free_bytes", error ? json() : free_bytes(temporary)}};
}

json libraries() {
  const std::string sndfile = ::sf_version_string();  // "libsndfile-1.2.0"
  UVersionInfo icu{};
  u_getVersion(icu);
  return {{"libsndfile", sndfile.substr(sndfile.find('-') + 1)},
          {"TagLib", fmt::format("{}.{}.{}", TAGLIB_MAJOR_VERSION, TAGLIB_MINOR_VERSION, TAGLIB_PATCH_VERSION)},
          {"ICU", fmt::format("{}.{}", icu[0], icu[1])},
          {"Highway", fmt::format("{}.{}.{}", HWY_MAJOR, HWY_MINOR, HWY_PATCH)},
          {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
          {"spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH)},
          {"nlohmann-json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                                        NLOHMANN_JSON_VERSION_PATCH)}};
}

/// Whatever of the checkpoint can be found, although another part is missing.
CheckpointPaths paths_of(const CheckpointSettings& settings, json& problems) {
  CheckpointPaths paths;
  if (!problem_of([&] { paths = find_checkpoint(settings, CheckpointParts::kAll); }, problems)) return paths;
  json known = json::array();  // of which the first problem has told already
  if (!problem_of([&] { paths = find_checkpoint(settings, CheckpointParts::kModels); }, known)) return paths;
  problem_of([&] { paths = find_checkpoint(settings, CheckpointParts::kCodec); }, known);
  return paths;
}

json part(const char* kind, const fs::path& path, const std::function<std::string()>& look, json& problems) {
  std::string what;
  const std::optional<std::string> problem = problem_of([&] { what = look(); }, problems);
  return {{"part", kind}, {"name", folder_name(path)}, {"what", what}, {"complete", !problem.has_value()}};
}

std::string look_at_model(const fs::path& folder, const char* expected) {
  const json model = inspect_folder(folder);
  if (model["model"] != expected) {
    throw user_error("{}: is a {}, not a {}", folder.string(), model["model"].get<std::string>(), expected);
  }
  std::string dtypes;
  for (const auto& [dtype, count] : model["dtypes"].items()) dtypes += (dtypes.empty() ? "" : ", ") + dtype;
  return fmt::format("{} parameters, {:.3f} GB, {}{}", model["parameters"].get<int64_t>(),
                     model["bytes"].get<double>() * 1e-9, dtypes, model.contains("packed") ? ", packed" : "");
}

json checkpoint(const CheckpointSettings& settings, json& problems) {
  const size_t before = problems.size();
  const CheckpointPaths paths = paths_of(settings, problems);
  json parts = json::array();
  if (!paths.mula.empty()) {
    parts.push_back(part(
        "language model", paths.mula, [&] { return look_at_model(paths.mula, "HeartMuLa"); }, problems));
  }
  if (!paths.codec.empty()) {
    parts.push_back(part(
        "codec", paths.codec, [&] { return look_at_model(paths.codec, "HeartCodec"); }, problems));
  }
  if (!paths.tokenizer.empty()) {
    const auto tokens = [&] { return fmt::format("{} tokens", Tokenizer::open(paths.tokenizer).vocabulary_size()); };
    parts.push_back(part("tokenizer", paths.tokenizer, tokens, problems));
    const bool has_lm = !parts.empty() && parts[0]["part"] == "language model" && parts[0]["complete"] == true;
    const auto ids = [&] {
      const GenConfig gen = GenConfig::open(paths.gen_config);
      if (has_lm) check_ids(gen, read_lm_config(paths.mula / "config.json"), paths.gen_config.string());
      return fmt::format("ends at code {}", gen.audio_eos_id);
    };
    parts.push_back(part("settings", paths.gen_config, ids, problems));
  }
  return {{"parts", parts}, {"notes", paths.notes}, {"complete", problems.size() == before}};
}

std::string amount(const json& bytes) {
  if (bytes.is_null()) return "unknown";
  const double count = bytes.get<double>();
  return count < 1e9 ? fmt::format("{:.0f} MB", count * 1e-6) : fmt::format("{:.1f} GB", count * 1e-9);
}

std::string text(const json& value) {
  return value.is_null() ? "unknown" : value.get<std::string>();
}

std::string describe_cores(const json& cpu) {
  std::string line = fmt::format("{} of {} cpus on {} cores", cpu["cpus"].get<int64_t>(),
                                 cpu["cpus_present"].get<int64_t>(), cpu["cores"].get<int64_t>());
  if (cpu["speeds"].size() > 1) {
    for (const json& speed : cpu["speeds"]) {
      line += fmt::format(", {} at {} %", speed["cpus"].get<int>(), speed["percent_of_fastest"].get<int>());
    }
  }
  if (!cpu["cpu_quota"].is_null()) line += fmt::format(", limited to the time of {}", cpu["cpu_quota"].get<int>());
  if (!cpu["cache_bytes"].is_null()) line += fmt::format(", {:.0f} MB cache", cpu["cache_bytes"].get<double>() * 1e-6);
  return line;
}

std::string describe_memory(const json& memory) {
  std::string line = fmt::format("{}, {} available", amount(memory["total_bytes"]), amount(memory["available_bytes"]));
  if (memory["read_bytes_per_second"].is_null()) return line;
  return line + fmt::format(", read at {:.1f} GB/s by {} thread{}",
                            memory["read_bytes_per_second"].get<double>() * 1e-9, memory["read_threads"].get<int>(),
                            memory["read_threads"] == 1 ? "" : "s");
}

}  // namespace

json examine(const Examination& examination) {
  json problems = json::array();
  json report = {{"program", program(problems)},
                 {"system", system(examination.root)},
                 {"cpu", processor(examination.root, problems)},
                 {"memory", memory(examination, problems)},
                 {"cuda", list_cuda_devices(find_cuda_devices(), {})},
                 {"disk", disk(problems)},
                 {"libraries", libraries()}};
  const CheckpointSettings& c = examination.checkpoint;
  if (!c.model_path.empty() || !c.mula_path.empty() || !c.codec_path.empty() || !c.tokenizer.empty()) {
    report["checkpoint"] = checkpoint(c, problems);
  }
  report["problems"] = problems;
  return report;
}

std::string describe_examination(const json& report) {
  std::string result;
  const auto line = [&result](std::string_view name, const std::string& what) {
    result += fmt::format("{:<16} {}\n", name, what);
  };
  const json& program = report["program"];
  line("heartmula", fmt::format("{}, {}, {}, {}", text(program["version"]), text(program["build_type"]),
                                text(program["architecture"]), text(program["compiler"])));
  if (program.contains("environment")) {
    for (const auto& [name, value] : program["environment"].items()) line("environment", name + "=" + text(value));
  }
  const json& system = report["system"];
  line("system", fmt::format("{}, {}, {}", text(system["kernel"]), text(system["distribution"]), text(system["libc"])));
  const json& cpu = report["cpu"];
  line("cpu", text(cpu["model"]));
  line("instructions", fmt::format("{} of {}", text(cpu["instruction_set"]),
                                   fmt::join(cpu["instruction_sets"].get<std::vector<std::string>>(), ", ")));
  line("cores", describe_cores(cpu));
  const json& memory = report["memory"];
  line("memory", describe_memory(memory));
  for (const json& card : report["cuda"]["devices"]) {
    line(fmt::format("cuda:{}", card["index"].get<int>()), describe_card(card));
  }
  if (!report["cuda"]["problem"].is_null()) line("cuda", text(report["cuda"]["problem"]));
  line("huge pages", text(memory["huge_pages"]));
  line("locked memory", memory["lock_unlimited"] == true ? "no limit" : amount(memory["lock_limit_bytes"]));
  line("free disk", fmt::format("{} here, {} for temporary files", amount(report["disk"]["working_folder_free_bytes"]),
                                amount(report["disk"]["temporary_folder_free_bytes"])));
  std::string libraries;
  for (const auto& [name, version] : report["libraries"].items()) {
    libraries += fmt::format("{}{} {}", libraries.empty() ? "" : ", ", name, text(version));
  }
  line("libraries", libraries);
  if (report.contains("checkpoint")) {
    const json& checkpoint = report["checkpoint"];
    line("checkpoint", checkpoint["complete"] == true ? "complete" : "not complete");
    for (const json& part : checkpoint["parts"]) {
      line(fmt::format("  {}", text(part["part"])),
           fmt::format("{}: {}", text(part["name"]), part["complete"] == true ? text(part["what"]) : "broken"));
    }
    for (const json& note : checkpoint["notes"]) line("  note", text(note));
  }
  for (const json& problem : report["problems"]) line("problem", text(problem));
  if (report["problems"].empty()) line("problems", "none");
  return result;
}

}  // namespace heartmula::bench
