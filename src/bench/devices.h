// What can compute here, and why a card cannot (`heartmula devices`).
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "checkpoint/device_choice.h"

namespace heartmula::bench {

/// Bytes a second that a card reads; may throw.
using MeasureRead = std::function<double(int device)>;

/// {"cpu": {model, instruction_set, cores}, "cuda": {built, driver, runtime, problem, devices: [{index, name,
/// compute_capability, multiprocessors, memory_bytes, free_bytes, shares_memory, read_bytes_per_second, tried, usable,
/// problem}]}}; null is what is not known. `measure` may be empty.
nlohmann::json list_devices(const FindCudaDevices& find = find_cuda_devices,
                            const MeasureRead& measure = measure_cuda_read);
/// The part "cuda" alone.
nlohmann::json list_cuda_devices(const CudaDevices& found, const MeasureRead& measure);

/// For people, a line for each device; the last ones say what is missing and what to do.
std::string describe_devices(const nlohmann::json& devices);
/// One card, without its name on the command line.
std::string describe_card(const nlohmann::json& card);

}  // namespace heartmula::bench
