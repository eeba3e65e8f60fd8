// What every device on the host's side does with a table's rows.
#pragma once

#include <span>

#include "ops/ops.h"

namespace heartmula {

/// sum [width] += row `id` of the table, rounded as it says; nothing for an id of -1. `entry` [width] is scratch.
void add_row(std::span<float> sum, const Table& table, int32_t id, std::span<float> entry);

}  // namespace heartmula
