// LoRA adapters as PEFT saves them: adapter_config.json and adapter_model.safetensors.
#pragma once

#include <filesystem>
#include <string>

#include "lm/config.h"
#include "tensor/weight_store.h"

namespace heartmula {

/// Makes `store`, a stock language model, one with the adapter in `folder` merged: W + scale * B A for each linear
/// layer that it names, scale = lora_alpha / r (rslora: lora_alpha / sqrt(r)). The values are read when matrices are
/// packed.
///
/// Throws Error(kUser) with the module's name where the model has none of that name or it does not fit, and for
/// whatever else PEFT can save (DoRA, biases, saved modules, embeddings), and if the store is packed.
void merge_lora(const std::filesystem::path& folder, WeightStore& store, const LmConfig& config);

/// fingerprint.h of the adapter.
std::string lora_fingerprint(const std::filesystem::path& folder);

}  // namespace heartmula
