// Two convolutions in one operation, by threads that keep what stands between them in their caches.
#pragma once

#include "cpu/device.h"
#include "ops/ops.h"

namespace heartmula::cpu {

/// Ops::residual_unit
void run_residual_unit(Device& device, View out, View copy, ConstView x, const ResidualUnit& unit);

}  // namespace heartmula::cpu
