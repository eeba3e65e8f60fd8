#include "ops/weights.h"

#include "base/error.h"
#include "tensor/tensor_check.h"

namespace heartmula {
namespace {

/// A packed matrix must be the one that is asked for; a stock tensor's shape was checked by the store.
void check_matrix(const WeightStore& store, const StoredMatrix& stored, const MatrixSource& source, bool gated) {
  if (stored.n == source.n && stored.k == source.k && stored.gated == gated) return;
  throw user_error("{}: packed matrix {} is [{}, {}]{} and not [{}, {}]{}; convert again", store.path().string(),
                   source.name, stored.n, stored.k, stored.gated ? " twice" : "", source.n, source.k,
                   gated ? " twice" : "");
}

/// Of changes that are finite numbers, and the matrix, too.
[[noreturn]] void refuse_change(const std::vector<LowRank>& changes, std::string_view tensor) {
  std::string files;
  for (const LowRank& change : changes) files += (files.empty() ? "" : ", ") + change.file->name();
  throw user_error("{}: merged into {} it makes values too large to be numbers; was it trained on another model?",
                   files, tensor);
}

/// Refuses rows with values that are no numbers, as they are read.
MatrixSource checked(const MatrixSource& source, const WeightStore& store) {
  MatrixSource result = source;
  result.read_row = [&store, read_row = source.read_row, tensors = source.tensors, k = source.k](int64_t output,
                                                                                                 float* row) {
    read_row(output, row);
    if (!all_finite({row, static_cast<size_t>(k)})) {
      refuse_not_finite(fmt::format("{}", fmt::join(tensors, ", ")), store.file_of(tensors.front()));
    }
  };
  return result;
}

/// The same matrix out of a packed one of another layout or dtype.
MatrixSource unpacked(const StoredMatrix& stored, const MatrixSource& source,
                      StoredMatrix::Half half = StoredMatrix::Half::kGate) {
  MatrixSource result = source;
  result.read_row = [&stored, half](int64_t output, float* row) { stored.read_row(output, row, half); };
  return result;
}

}  // namespace

std::vector<float> WeightLoader::values(const std::string& name) const {
  const StoredTensor& tensor = store_.get(name);
  std::vector<float> result(static_cast<size_t>(tensor.elements()));
  convert_to_f32(result.data(), tensor.data.data(), tensor.dtype, 0, tensor.elements());
  store_.release(tensor);
  if (!all_finite(result)) refuse_not_finite(name, store_.file_of(name));
  return result;
}

Tensor WeightLoader::upload(const std::vector<float>& values, int64_t rows) const {
  Tensor result = ops_.allocate(DType::kF32, rows, static_cast<int64_t>(values.size()) / rows);
  ops_.upload(result, values);
  return result;
}

Tensor WeightLoader::vector(const std::string& name) const {
  return upload(values(name), 1);
}

Tensor WeightLoader::table(const std::string& name, int64_t rows) const {
  return upload(values(name), rows);
}

MatrixSource WeightLoader::stacked(const std::vector<std::string>& names) const {
  MatrixSource source;
  source.name = names.front();
  source.tensors = names;
  source.k = store_.shape(names.front())[1];
  struct Part {
    const StoredTensor* tensor = nullptr;
    std::shared_ptr<const RowChanges> changes;  // null for none
  };
  std::vector<Part> parts;
  for (const std::string& name : names) {
    source.n += store_.shape(name)[0];
    parts.push_back({store_.find(name), nullptr});
    const std::vector<LowRank>& changes = store_.changes(name);
    if (!changes.empty()) parts.back().changes = std::make_shared<RowChanges>(changes);
  }
  source.read_row = [parts, k = source.k, this](int64_t output, float* row) {
    for (const auto& [tensor, changes] : parts) {
      if (output < tensor->shape[0]) {
        convert_to_f32(row, tensor->data.data(), tensor->dtype, output * k, k);
        if (changes != nullptr) {
          const std::span<const float> values(row, static_cast<size_t>(k));
          const bool were_finite = all_finite(values);
          changes->add_to(output, row, k);
          if (were_finite && !all_finite(values)) refuse_change(store_.changes(tensor->name), tensor->name);
        }
        return;
      }
      output -= tensor->shape[0];
    }
  };
  return source;
}

void WeightLoader::release(const std::vector<std::string>& names) const {
  for (const std::string& name : names) store_.release(store_.get(name));
}

Matrix WeightLoader::pack(const MatrixSource& source) const {
  const StoredMatrix* stored = store_.find_matrix(source.name);
  if (stored == nullptr) {
    for (const std::string& name : source.tensors) store_.get(name);  // or it is missing
    Matrix result = ops_.pack(checked(source, store_), dtype_);
    release(source.tensors);
    return result;
  }
  check_matrix(store_, *stored, source, false);
  if (stored->layout == ops_.packed_layout(dtype_)) return ops_.adopt(*stored);
  Matrix result = ops_.pack(unpacked(*stored, source), dtype_);
  store_.release(*stored);
  return result;
}

Matrix WeightLoader::matrix(const std::vector<std::string>& names) const {
  return pack(stacked(names));
}

Matrix WeightLoader::gate_up(const std::string& gate, const std::string& up) const {
  const MatrixSource gate_source = stacked({gate});
  const MatrixSource up_source = stacked({up});
  const StoredMatrix* stored = store_.find_matrix(gate);
  if (stored == nullptr) {
    Matrix result = ops_.pack_gate_up(checked(gate_source, store_), checked(up_source, store_), dtype_);
    release({gate, up});
    return result;
  }
  check_matrix(store_, *stored, gate_source, true);
  if (stored->layout == ops_.packed_layout(dtype_)) return ops_.adopt(*stored);
  Matrix result =
      ops_.pack_gate_up(unpacked(*stored, gate_source), unpacked(*stored, up_source, StoredMatrix::Half::kUp), dtype_);
  store_.release(*stored);
  return result;
}

Matrix WeightLoader::transposed_slice(const std::string& name, int64_t index) const {
  const std::vector<int64_t>& shape = store_.shape(name);
  const int64_t k = shape[1];
  const int64_t n = shape[2];
  const auto read_row = [tensor = store_.find(name), index, k, n](int64_t output, float* row) {
    for (int64_t i = 0; i < k; ++i) {
      row[i] = load_as_f32(tensor->data.data(), tensor->dtype, (index * k + i) * n + output);
    }
  };
  return pack({n, k, read_row, name + "." + std::to_string(index), {name}});
}

Matrix WeightLoader::conv(const std::string& name, float scale) const {
  const std::vector<int64_t>& shape = store_.shape(name);
  const int64_t channels = shape[1];
  const int64_t taps = shape[2];
  const auto read_row = [tensor = store_.find(name), channels, taps, scale](int64_t output, float* row) {
    std::vector<float> stored(static_cast<size_t>(channels * taps));
    convert_to_f32(stored.data(), tensor->data.data(), tensor->dtype, output * channels * taps, channels * taps);
    for (int64_t tap = 0; tap < taps; ++tap) {
      for (int64_t channel = 0; channel < channels; ++channel) {
        row[tap * channels + channel] = scale * stored[static_cast<size_t>(channel * taps + tap)];
      }
    }
  };
  return pack({shape[0], channels * taps, read_row, name, {name}});
}

Table WeightLoader::rows(const std::string& name) const {
  const StoredTensor& tensor = store_.get(name);
  return {{tensor.data.data(), tensor.dtype, tensor.shape[0], tensor.shape[1], tensor.shape[1]}, dtype_};
}

}  // namespace heartmula
