// Cache and attention, cut into chunks for the threads: by key head, by rows, and by blocks of keys.
#pragma once

#include <span>

#include "cpu/kv_cache.h"

namespace heartmula::cpu {

void append_kv(Device& device, CpuKvCache& cache, ConstView keys, ConstView values, const Rope& rope,
               std::span<const Row> rows);
void attend(Device& device, View out, ConstView queries, const Rope& rope, const CpuKvCache& cache,
            std::span<const Row> rows);
void attend_all(Device& device, View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
                int64_t heads);

}  // namespace heartmula::cpu
