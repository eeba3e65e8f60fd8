#include "bench/measurement.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/cpu_info.h"

namespace heartmula::bench {

double Samples::median() const {
  if (values.empty()) return 0;
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double Samples::min() const {
  return values.empty() ? 0 : *std::min_element(values.begin(), values.end());
}

double Samples::max() const {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

void Machine::sample() {
  if (!probe_) {
    read_bytes_s_.values.push_back(DeviceLimits::measure_card(card_.index).read_bytes_s);
    return;
  }
  read_bytes_s_.values.push_back(probe_->read_bytes_per_second());
  f32_flop_s_.values.push_back(probe_->f32_flop_per_second());
  bf16_flop_s_.values.push_back(probe_->bf16_flop_per_second());
}

std::string Machine::device() const {
  return Device{.is_cuda = probe_ == nullptr, .index = card_.index}.name();
}

std::string Machine::cpu() const {
  return probe_ ? cpu_info().model_name : card_.name;
}

std::string Machine::isa() const {
  return probe_ ? probe_->isa() : fmt::format("sm_{}{}", card_.major, card_.minor);
}

DeviceLimits Machine::limits() const {
  return {
      .read_bytes_s = read_bytes_s_.median(), .f32_flop_s = f32_flop_s_.median(), .bf16_flop_s = bf16_flop_s_.median()};
}

double Stage::limit(const DeviceLimits& limits) const {
  if (limit_seconds > 0) return limit_seconds;
  return limits.seconds(work.bytes, work.flop, arithmetic);
}

Stage stage_of(std::string name, DType dtype, std::string what) {
  Stage stage;
  stage.name = std::move(name);
  stage.dtype = short_name(dtype);
  stage.arithmetic = dtype;
  stage.what = std::move(what);
  return stage;
}

std::string short_name(DType dtype) {
  return dtype == DType::kBF16 ? "bf16" : "f32";
}

Work& Work::operator+=(const Work& more) {
  bytes += more.bytes;
  flop += more.flop;
  operations += more.operations;
  return *this;
}

}  // namespace heartmula::bench
