#include "bench/devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "base/cpu_info.h"
#include "base/cpu_topology.h"
#include "base/error.h"
#include "cpu/isa.h"

namespace heartmula::bench {
namespace {

using nlohmann::json;

/// Compute capabilities (major * 10 + minor) on which the whole of the kernels has run: the table in docs/cuda.md.
constexpr std::initializer_list<int> kTried = {90};

json or_null(const std::string& text) {
  return text.empty() ? json() : json(text);
}

json card_json(const CudaDevice& card, const MeasureRead& measure) {
  json result = {{"index", card.index},
                 {"name", card.name},
                 {"compute_capability", fmt::format("{}.{}", card.major, card.minor)},
                 {"multiprocessors", card.multiprocessors},
                 {"memory_bytes", card.memory_bytes},
                 {"free_bytes", card.free_bytes},
                 {"shares_memory", card.shares_memory},
                 {"read_bytes_per_second", json()},
                 {"tried", std::ranges::find(kTried, card.major * 10 + card.minor) != kTried.end()},
                 {"usable", card.problem.empty()},
                 {"problem", or_null(card.problem)}};
  if (!card.problem.empty() || !measure) return result;
  try {
    result["read_bytes_per_second"] = measure(card.index);
  } catch (const Error& error) {
    result["usable"] = false;
    result["problem"] = error.what();
  }
  return result;
}

std::string gigabytes(const json& bytes) {
  return fmt::format("{:.1f}", bytes.get<double>() * 1e-9);
}

}  // namespace

json list_cuda_devices(const CudaDevices& found, const MeasureRead& measure) {
  json cards = json::array();
  for (const CudaDevice& card : found.devices) cards.push_back(card_json(card, measure));
  return {{"built", found.built},
          {"driver", or_null(found.driver)},
          {"runtime", or_null(found.runtime)},
          {"problem", or_null(found.problem)},
          {"devices", cards}};
}

json list_devices(const FindCudaDevices& find, const MeasureRead& measure) {
  json cpu = {{"model", cpu_info().model_name}, {"instruction_set", json()}, {"cores", core_count(cpu_topology())}};
  try {
    cpu["instruction_set"] = cpu::choose_isa({}).name;
  } catch (const Error& error) {  // HEARTMULA_ISA names one that is not here
    cpu["problem"] = error.what();
  }
  return {{"cpu", cpu}, {"cuda", list_cuda_devices(find(), measure)}};
}

std::string describe_card(const json& card) {
  std::string text = card["name"].get<std::string>();
  if (!card["problem"].is_null())
    return fmt::format("{}: cannot be used: {}", text, card["problem"].get<std::string>());
  text += fmt::format(", compute capability {}, {} multiprocessors, {} of {} GB free{}",
                      card["compute_capability"].get<std::string>(), card["multiprocessors"].get<int>(),
                      gigabytes(card["free_bytes"]), gigabytes(card["memory_bytes"]),
                      card["shares_memory"] == true ? " (the machine's memory)" : "");
  if (!card["read_bytes_per_second"].is_null()) {
    text += fmt::format(", read at {:.0f} GB/s", card["read_bytes_per_second"].get<double>() * 1e-9);
  }
  if (card["tried"] == false) {
    text +=
        "; nobody has run this program on such a card yet: `heartmula verify` with a golden case shows whether it "
        "computes rightly";
  }
  return text;
}

std::string describe_devices(const json& devices) {
  std::string text;
  const auto line = [&text](const std::string& name, const std::string& what) {
    text += fmt::format("{:<9} {}\n", name, what);
  };
  const json& cpu = devices["cpu"];
  line("cpu", cpu.contains("problem") ? cpu["problem"].get<std::string>()
                                      : fmt::format("{}, {}, {} core{}", cpu["model"].get<std::string>(),
                                                    cpu["instruction_set"].get<std::string>(), cpu["cores"].get<int>(),
                                                    cpu["cores"] == 1 ? "" : "s"));
  const json& cuda = devices["cuda"];
  for (const json& card : cuda["devices"]) {
    line(fmt::format("cuda:{}", card["index"].get<int>()), describe_card(card));
  }
  if (!cuda["problem"].is_null()) line("cuda", cuda["problem"].get<std::string>());
  if (!cuda["driver"].is_null() && !cuda["runtime"].is_null()) {
    line("driver", fmt::format("knows CUDA {}; this program was built with {}", cuda["driver"].get<std::string>(),
                               cuda["runtime"].get<std::string>()));
  }
  return text;
}

}  // namespace heartmula::bench
