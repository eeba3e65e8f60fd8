#include "checkpoint/packed_writer.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/loading_ops.h"

namespace heartmula {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 20;

/// Shows each matrix that a model asks for, and how to make it.
class MatrixTap final : public LoadingOps {
 public:
  using Sink = std::function<void(const PackedIndex::Matrix& matrix, const std::vector<std::string>& tensors,
                                  const std::function<Matrix()>& make)>;
  MatrixTap(Ops& device, Sink sink) : LoadingOps(device), device_(device), sink_(std::move(sink)) {}

  Matrix pack(const MatrixSource& source, DType dtype) override {
    sink_({source.name, source.n, source.k, false}, source.tensors, [&] { return device_.pack(source, dtype); });
    return {};
  }
  Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up, DType dtype) override {
    sink_({gate.name, gate.n, gate.k, true}, tensors_of(gate, up),
          [&] { return device_.pack_gate_up(gate, up, dtype); });
    return {};
  }
  Matrix adopt(const StoredMatrix& stored) override {
    sink_({stored.name, stored.n, stored.k, stored.gated}, {}, [&] { return device_.adopt(stored); });
    return {};
  }

 private:
  Ops& device_;
  Sink sink_;
};

/// Values as f32 or bf16.
void write_values(AtomicFile& file, std::span<const float> values, DType dtype) {
  if (dtype == DType::kF32) {
    file.write(std::as_bytes(values));
    return;
  }
  std::vector<uint16_t> rounded(values.size());
  std::transform(values.begin(), values.end(), rounded.begin(), f32_to_bf16);
  file.write(std::as_bytes(std::span(rounded)));
}

void check_cancelled(const CancelToken* cancel) {
  if (cancel != nullptr && cancel->cancelled()) throw Error(ErrorKind::kCancelled, "cancelled");
}

}  // namespace

PackedWriter::PackedWriter(Ops& device, const WeightStore& store, const std::vector<ExpectedTensor>& expected,
                           DType dtype, const std::string& fingerprint, Load load)
    : device_(device), store_(store), load_(std::move(load)) {
  std::map<std::string, std::vector<int64_t>> replaced;
  if (store.packed() != nullptr) replaced.insert(store.packed()->replaced.begin(), store.packed()->replaced.end());
  MatrixTap tap(device, [&](const PackedIndex::Matrix& matrix, const std::vector<std::string>& tensors,
                            const std::function<Matrix()>&) {
    matrices_.push_back(matrix);
    for (const std::string& name : tensors) replaced.emplace(name, store.shape(name));
  });
  load_(tap);

  const PackedLayout layout = device.packed_layout(dtype);
  int64_t end = 0;
  for (const PackedIndex::Matrix& matrix : matrices_) {
    const int64_t beyond = end % static_cast<int64_t>(kPackedAlignment);
    if (beyond != 0) {
      entries_.push_back(PackedIndex::gap(entries_.size(), static_cast<int64_t>(kPackedAlignment) - beyond));
      end += entries_.back().bytes();
    }
    entries_.push_back(PackedIndex::entry(layout, matrix));
    end += entries_.back().bytes();
  }
  for (const ExpectedTensor& tensor : expected) {
    if (replaced.contains(tensor.name)) continue;
    kept_.push_back(tensor.name);
    entries_.push_back({tensor.name, tensor.is_table ? dtype : DType::kF32, tensor.shape});
  }
  const std::string made_by = fmt::format("heartmula {} on {}", HEARTMULA_VERSION, device.description());
  header_ = encode_safetensors_header(
      entries_, PackedIndex::metadata(layout, made_by, matrices_, replaced, fingerprint), kPackedAlignment);
}

int64_t PackedWriter::bytes() const {
  int64_t bytes = static_cast<int64_t>(header_.size());
  for (const TensorEntry& entry : entries_) bytes += entry.bytes();
  return bytes;
}

void PackedWriter::write(const std::filesystem::path& path, const std::function<void(int64_t bytes)>& written,
                         const CancelToken* cancel) const {
  AtomicFile file(path);
  file.write(header_);
  written(static_cast<int64_t>(header_.size()));

  auto entry = entries_.begin();
  MatrixTap tap(device_,
                [&](const PackedIndex::Matrix&, const std::vector<std::string>&, const std::function<Matrix()>& make) {
                  check_cancelled(cancel);
                  if (PackedIndex::is_gap(entry->name)) {
                    file.write(std::vector<std::byte>(static_cast<size_t>(entry->bytes())));
                    written((entry++)->bytes());
                  }
                  const Matrix matrix = make();
                  file.write(device_.packed_bytes(matrix));
                  written((entry++)->bytes());
                });
  load_(tap);

  std::vector<float> values;
  for (const std::string& name : kept_) {
    const StoredTensor& tensor = store_.get(name);
    for (int64_t first = 0; first < tensor.elements(); first += kChunkElements) {
      check_cancelled(cancel);
      const int64_t count = std::min(kChunkElements, tensor.elements() - first);
      values.resize(static_cast<size_t>(count));
      convert_to_f32(values.data(), tensor.data.data(), tensor.dtype, first, count);
      write_values(file, values, entry->dtype);
      written(count * static_cast<int64_t>(dtype_size(entry->dtype)));
    }
    store_.release(tensor);
    ++entry;
  }
  file.commit(true);
}

}  // namespace heartmula
