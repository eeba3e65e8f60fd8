#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace heartmula::bench {
namespace {

using nlohmann::json;

constexpr double kGiga = 1e9;

json spread(const Samples& samples, double unit) {
  return {{"median", samples.median() / unit},
          {"min", samples.min() / unit},
          {"max", samples.max() / unit},
          {"samples", samples.values.size()}};
}

json stages_json(const std::vector<Stage>& stages, const DeviceLimits& limits);

json stage_json(const Stage& stage, const DeviceLimits& limits) {
  json result = {{"name", stage.name},
                 {"dtype", stage.dtype},
                 {"what", stage.what},
                 {"seconds", stage.seconds.median()},
                 {"seconds_min", stage.seconds.min()},
                 {"seconds_max", stage.seconds.max()},
                 {"samples", stage.seconds.values.size()}};
  if (stage.work.bytes > 0 || stage.work.flop > 0) {
    result["bytes"] = stage.work.bytes;
    result["flop"] = stage.work.flop;
  }
  const double limit = stage.limit(limits);
  if (limit > 0) {
    result["limit_seconds"] = limit;
    result["fraction"] = limit / stage.seconds.median();
  }
  if (stage.music_seconds > 0) {
    result["music_seconds"] = stage.music_seconds;
    result["real_time_factor"] = stage.seconds.median() / stage.music_seconds;
  }
  if (!stage.parts.empty()) result["parts"] = stages_json(stage.parts, limits);
  return result;
}

json stages_json(const std::vector<Stage>& stages, const DeviceLimits& limits) {
  json list = json::array();
  for (const Stage& stage : stages) list.push_back(stage_json(stage, limits));
  return list;
}

std::string seconds_text(double seconds) {
  return seconds < 1 ? fmt::format("{:.2f} ms", seconds * 1e3) : fmt::format("{:.3f} s", seconds);
}

std::string line(const json& stage, const std::string& indent) {
  std::string text =
      fmt::format("  {:<18} {:<9} {:>11}", indent + stage.at("name").get<std::string>(),
                  indent.empty() ? stage.at("dtype").get<std::string>() : "", seconds_text(stage.at("seconds")));
  if (stage.contains("limit_seconds")) {
    text += fmt::format(" {:>11} {:>6.1f} %", seconds_text(stage.at("limit_seconds")),
                        100 * stage.at("fraction").get<double>());
  } else {
    text += fmt::format(" {:>11} {:>8}", "", "");
  }
  if (stage.at("samples") > 1) {
    const double seconds = stage.at("seconds");
    text += fmt::format("  {:+.0f} {:+.0f} %", 100 * (stage.at("seconds_min").get<double>() / seconds - 1),
                        100 * (stage.at("seconds_max").get<double>() / seconds - 1));
  }
  if (indent.empty()) text = fmt::format("{:<76} {}", text, stage.at("what").get<std::string>());
  return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
}

/// "AMD EPYC, avx2, 2 threads: reads 20.0 GB/s"
std::string described(const json& machine) {
  std::string text = fmt::format("{}, {}", machine.at("cpu").get<std::string>(), machine.at("isa").get<std::string>());
  const std::string device = machine.value("device", "cpu");
  if (device == "cpu") text += fmt::format(", {} threads", machine.at("threads").get<int>());
  if (device != "cpu" && device != machine.at("isa").get<std::string>()) text += ", " + device;
  return text + fmt::format(": reads {:.1f} GB/s", machine.at("read_gb_s").get<double>());
}

}  // namespace

json to_json(const Result& result) {
  const Machine& m = result.machine;
  json machine = {{"cpu", m.cpu()}, {"isa", m.isa()}, {"threads", m.threads()}, {"device", m.device()}};
  const auto add = [&machine](const char* name, const Samples& samples) {
    if (samples.values.empty()) return;
    machine[name] = samples.median() / kGiga;
    machine["spread"][name] = spread(samples, kGiga);
  };
  add("read_gb_s", m.read_bytes_s());
  add("f32_gflop_s", m.f32_flop_s());
  add("bf16_gflop_s", m.bf16_flop_s());
  return {{"machine", machine},
          {"stages", stages_json(result.stages, m.limits())},
          {"peak_memory_bytes", result.peak_memory_bytes},
          {"version", HEARTMULA_VERSION}};
}

json to_json(const Prediction& prediction) {
  const MachineDescription& m = prediction.machine;
  json memory = json::array();
  int64_t peak = 0;
  for (const Prediction::Memory& one : prediction.memory) {
    memory.push_back(to_json(one.plan));
    memory.back()["dtype"] = one.dtype;
    memory.back()["host_peak_bytes"] = one.plan.peak();
    memory.back()["peak_bytes"] = one.peak;
    peak = std::max(peak, one.peak);
  }
  return {{"machine",
           {{"cpu", m.name},
            {"isa", m.isa},
            {"threads", m.threads},
            {"device", m.is_card() ? "cuda" : "cpu"},
            {"read_gb_s", m.limits.read_bytes_s / kGiga},
            {"f32_gflop_s", m.limits.f32_flop_s / kGiga},
            {"bf16_gflop_s", m.limits.bf16_flop_s / kGiga},
            {"memory_gb", m.memory_bytes / kGiga},
            {"source", m.source}}},
          {"stages", stages_json(prediction.stages, m.limits)},
          {"memory", memory},
          {"peak_memory_bytes", peak},
          {"predicted", true},
          {"version", HEARTMULA_VERSION}};
}

std::string to_table(const json& result) {
  const json& m = result.at("machine");
  std::string text = described(m);
  if (m.contains("f32_gflop_s")) {
    text += fmt::format(", computes {:.0f} GFLOP/s in f32, {:.0f} in bf16", m.at("f32_gflop_s").get<double>(),
                        m.at("bf16_gflop_s").get<double>());
  }
  text += '\n';
  const bool predicted = result.contains("predicted");
  if (predicted) text = fmt::format("predicted, not measured ({})\n", m.at("source").get<std::string>()) + text;
  text += fmt::format("  {:<18} {:<9} {:>11} {:>11} {:>8}  {}\n", "stage", "weights",
                      predicted ? "predicted" : "median", "limit", "reached", predicted ? "" : "spread");
  for (const json& stage : result.at("stages")) {
    text += line(stage, "");
    if (!stage.contains("parts")) continue;
    for (const json& part : stage.at("parts")) text += line(part, "  ");
  }
  for (const json& stage : result.at("stages")) {
    if (stage.at("name") != "song") continue;
    text += fmt::format("a song of {:.0f} s ({}): real-time factor {:.3f}", stage.at("music_seconds").get<double>(),
                        stage.at("dtype").get<std::string>(), stage.at("real_time_factor").get<double>());
    if (stage.contains("limit_seconds")) {
      text += fmt::format(", its limit here {:.3f}",
                          stage.at("limit_seconds").get<double>() / stage.at("music_seconds").get<double>());
    }
    text += '\n';
  }
  if (!predicted) {
    return text + fmt::format("peak memory {:.2f} GB\n", result.at("peak_memory_bytes").get<double>() / kGiga);
  }
  for (const json& plan : result.at("memory")) {
    const double peak = plan.at("peak_bytes").get<double>() / kGiga;
    const double memory = m.at("memory_gb");
    text += fmt::format("peak memory {:.2f} GB ({}, {}){}\n", peak, plan.at("dtype").get<std::string>(),
                        plan.at("lazy_load").get<bool>() ? "one model at a time" : "both models at once",
                        peak > memory ? fmt::format(": more than the {:.0f} GB there are", memory) : "");
  }
  return text;
}

std::string to_comparison(const json& old, const json& result, const std::string& old_name) {
  try {
    std::string text = fmt::format("before ({}): {}\nnow: {}\n", old_name, described(old.at("machine")),
                                   described(result.at("machine")));
    text += fmt::format("  {:<18} {:<9} {:>11} {:>11} {:>7}  reached before, now\n", "stage", "weights", "before",
                        "now", "ratio");
    for (const json& stage : result.at("stages")) {
      for (const json& before : old.at("stages")) {
        if (before.at("name") != stage.at("name") || before.at("dtype") != stage.at("dtype") ||
            before.at("what") != stage.at("what")) {
          continue;
        }
        const double seconds = stage.at("seconds");
        const double old_seconds = before.at("seconds");
        text += fmt::format("  {:<18} {:<9} {:>11} {:>11} {:>7.3f}", stage.at("name").get<std::string>(),
                            stage.at("dtype").get<std::string>(), seconds_text(old_seconds), seconds_text(seconds),
                            seconds / old_seconds);
        if (stage.contains("fraction") && before.contains("fraction")) {
          text += fmt::format("  {:.1f} %, {:.1f} %", 100 * before.at("fraction").get<double>(),
                              100 * stage.at("fraction").get<double>());
        }
        text += '\n';
      }
    }
    return text;
  } catch (const json::exception&) {
    throw user_error("{}: is not the JSON of heartmula bench", old_name);
  }
}

}  // namespace heartmula::bench
