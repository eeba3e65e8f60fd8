#include "cpu/cpu_ops.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "cpu/attention.h"
#include "cpu/products.h"
#include "cpu/residual_unit.h"
#include "cpu/stream_threads.h"
#include "ops/table.h"

namespace heartmula {
namespace cpu {
namespace {

constexpr int64_t kTileRows = 1440;  // while they are in the cache
constexpr int64_t kSampleCost = 16;  // of a logit, against what for_each counts

struct CpuRows final : Rows {
  std::vector<Row> rows;
};

struct CpuProgram final : Program {
  std::function<void()> work;
};

struct CpuSampler final : CodeSampler {
  CpuSampler(const SamplingRule& r, const SamplingNoise& n) : rule(r), noise(n) {}
  SamplingRule rule;
  const SamplingNoise& noise;
};

std::span<const Row> rows_of(const Rows& rows) {
  return static_cast<const CpuRows&>(rows).rows;
}

int32_t& integer_of(View x) {
  return *static_cast<int32_t*>(x.data);
}
int32_t integer_of(ConstView x) {
  return *static_cast<const int32_t*>(x.data);
}

class CpuOps final : public Ops {
 public:
  using Ops::append_kv;
  using Ops::attend;
  using Ops::linear;
  using Ops::linear_silu_gate;

  explicit CpuOps(const CpuOptions& options)
      : device_(options), sampling_(static_cast<size_t>(device_.choice.threads)) {
    find_stream_threads(device_, options);
  }

  std::string description() const override {
    const CpuChoice& choice = device_.choice;
    std::string text =
        fmt::format("cpu ({}, {} {}", device_.isa.name, choice.threads, choice.threads == 1 ? "thread" : "threads");
    if (choice.pinned) {
      std::vector<int> cpus(choice.cpus.begin(), choice.cpus.begin() + choice.threads);
      std::sort(cpus.begin(), cpus.end());
      text += " on " + cpu_list_text(cpus);
    }
    if (device_.stream_threads < choice.threads) text += fmt::format(", decoding with {}", device_.stream_threads);
    return text + ")";
  }
  int threads() const override { return device_.pool.threads(); }
  void use_threads(int count) override {
    device_.limit = std::clamp(count, 1, threads());
    device_.pool.use_threads(count);
  }
  std::vector<int64_t> chunks_by_thread() const override { return device_.pool.chunks_by_worker(); }
  int64_t tile_rows() const override { return kTileRows; }
  void set_cancel_token(const CancelToken* token) override { device_.pool.set_cancel_token(token); }

  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override {
    const int64_t stride = row_stride(dtype, cols);
    const size_t bytes = static_cast<size_t>(rows * stride) * dtype_size(dtype);
    std::shared_ptr<void> storage = allocate_aligned(bytes);
    std::memset(storage.get(), 0, bytes);
    return Tensor(std::move(storage), dtype, rows, cols, stride);
  }
  void upload(View out, std::span<const float> values) override {
    copy(out, ConstView(values.data(), DType::kF32, out.rows, out.cols, out.cols));
  }
  void download(std::span<float> values, ConstView x) override {
    copy(View{values.data(), DType::kF32, x.rows, x.cols, x.cols}, x);
  }
  Matrix pack(const MatrixSource& source, DType dtype) override { return cpu::pack(device_, source, dtype); }
  Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up, DType dtype) override {
    return cpu::pack_gate_up(device_, gate, up, dtype);
  }
  PackedLayout packed_layout(DType dtype) const override { return cpu::packed_layout(device_.kernels, dtype); }
  Matrix adopt(const StoredMatrix& stored) override { return cpu::adopt(device_, stored); }
  std::span<const std::byte> packed_bytes(const Matrix& matrix) const override {
    const auto& packed = static_cast<const PackedMatrix&>(matrix.storage());
    return {static_cast<const std::byte*>(packed.words.get()), static_cast<size_t>(matrix.bytes())};
  }
  std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape, const KvTable* table) override {
    return std::make_unique<CpuKvCache>(device_.kernels, shape, static_cast<const CpuKvTable*>(table));
  }
  std::unique_ptr<KvTable> make_kv_table(int64_t streams, int64_t blocks) override {
    return std::make_unique<CpuKvTable>(streams, blocks);
  }
  void set_kv_places(KvTable& table, int64_t stream, int64_t first, std::span<const int32_t> places) override {
    auto& t = static_cast<CpuKvTable&>(table);
    std::ranges::copy(places, t.places.begin() + stream * t.blocks_of_stream + first);
  }
  int64_t kv_block_bytes(const KvCache& cache) const override {
    return static_cast<const CpuKvCache&>(cache).block_bytes();
  }
  void download_kv(std::span<std::byte> bytes, const KvCache& cache, int64_t place) override {
    std::memcpy(bytes.data(), static_cast<const CpuKvCache&>(cache).block(place), bytes.size());
  }
  void upload_kv(KvCache& cache, int64_t place, std::span<const std::byte> bytes) override {
    std::memcpy(static_cast<CpuKvCache&>(cache).block(place), bytes.data(), bytes.size());
  }
  void upload(View out, std::span<const int32_t> values) override {
    for (int64_t row = 0; row < out.rows; ++row) {
      std::copy_n(values.data() + row * out.cols, out.cols, static_cast<int32_t*>(out.slice_rows(row, 1).data));
    }
  }
  void download(std::span<int32_t> values, ConstView x) override { copy_integers(values, x); }
  Table place(const Table& table) override { return table; }
  std::unique_ptr<Rows> make_rows(int64_t most) override {
    auto rows = std::make_unique<CpuRows>();
    rows->rows.reserve(static_cast<size_t>(most));
    return rows;
  }
  void set_rows(Rows& rows, std::span<const Row> values) override {
    static_cast<CpuRows&>(rows).rows.assign(values.begin(), values.end());
  }
  void advance(Rows& rows) override {
    for (Row& row : static_cast<CpuRows&>(rows).rows) ++row.position;
  }

  std::unique_ptr<Program> record(std::function<void()> work) override {
    auto program = std::make_unique<CpuProgram>();
    program->work = std::move(work);
    return program;
  }
  void start(Program& program) override { static_cast<CpuProgram&>(program).work(); }
  bool works_ahead() const override { return false; }
  Tensor make_mailbox(int64_t rows, int64_t cols) override { return allocate(DType::kI32, rows, cols); }
  void post(View mailbox, ConstView values, ConstView number) override {
    const View row = mailbox.slice_rows(integer_of(number) % mailbox.rows, 1);
    copy_integers({static_cast<int32_t*>(row.data), static_cast<size_t>(values.rows * values.cols)}, values);
  }
  void collect(std::span<int32_t> values, ConstView mailbox, int32_t number) override {
    const ConstView row = mailbox.slice_rows(number % mailbox.rows, 1);
    std::copy_n(static_cast<const int32_t*>(row.data), values.size(), values.data());
  }

  void linear(View out, ConstView x, const Matrix& weight, ConstView bias) override {
    product(out, x, weight, {.bias = floats_of(bias)});
  }
  void linear_add(View out, ConstView x, const Matrix& weight) override { product(out, x, weight, {.add = true}); }
  void linear_add_scaled(View out, ConstView x, const Matrix& weight, ConstView gain) override {
    product(out, x, weight, {.gain = floats_of(gain), .add = true});
  }
  void linear_silu_gate(View out, ConstView x, const Matrix& gate_up) override { product(out, x, gate_up, {}); }
  void conv1d(View out, ConstView x, const Matrix& weight, int64_t taps, int64_t dilation,
              const ConvEpilogue& epilogue) override {
    run_product(device_,
                {.taps = taps,
                 .channels = weight.k() / taps,
                 .dilation = dilation,
                 .bias = floats_of(epilogue.bias),
                 .prelu = epilogue.prelu,
                 .add = epilogue.add},
                out, x, weight);
  }
  void residual_unit(View out, View copy, ConstView x, const ResidualUnit& unit) override {
    run_residual_unit(device_, out, copy, x, unit);
  }

  void rms_norm(View out, ConstView x, ConstView gain, float eps) override {
    rms_norm_modulated(out, x, gain, {}, {}, eps);
  }
  void rms_norm_modulated(View out, ConstView x, ConstView gain, ConstView scale, ConstView shift, float eps) override {
    device_.for_each(out.rows, 2 * out.cols, [&](int64_t row, int) {
      device_.kernels.rms_norm(row_of(out, row), row_of(x, row), floats_of(gain), floats_of(scale), floats_of(shift),
                               eps, out.cols);
    });
  }
  void layer_norm_modulated(View out, ConstView x, ConstView scale, ConstView shift, float eps) override {
    device_.for_each(out.rows, 3 * out.cols, [&](int64_t row, int) {
      device_.kernels.layer_norm(row_of(out, row), row_of(x, row), floats_of(scale), floats_of(shift), eps, out.cols);
    });
  }

  void append_kv(KvCache& cache, ConstView keys, ConstView values, const Rope& rope, const Rows& rows) override {
    cpu::append_kv(device_, static_cast<CpuKvCache&>(cache), keys, values, rope, rows_of(rows));
  }
  void attend(View out, ConstView queries, const Rope& rope, const KvCache& cache, const Rows& rows) override {
    cpu::attend(device_, out, queries, rope, static_cast<const CpuKvCache&>(cache), rows_of(rows));
  }
  void attend_all(View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope, int64_t heads,
                  int64_t windows) override {
    const int64_t query_rows = queries.rows / windows;
    const int64_t key_rows = keys.rows / windows;
    for (int64_t window = 0; window < windows; ++window) {
      const int64_t first_query = window * query_rows;
      const int64_t first_key = window * key_rows;
      cpu::attend_all(device_, out.slice_rows(first_query, query_rows), queries.slice_rows(first_query, query_rows),
                      keys.slice_rows(first_key, key_rows), values.slice_rows(first_key, key_rows), rope, heads);
    }
  }

  void embed_sum(View out, const Table& table, std::span<const int32_t> ids, int64_t per_row) override {
    embed(out, table, per_row, [&](int64_t row, int64_t i) { return ids[static_cast<size_t>(row * per_row + i)]; });
  }
  void embed_codes(View out, const Table& table, ConstView ids, int64_t first, int64_t step) override {
    embed(out, table, ids.cols, [&](int64_t row, int64_t i) {
      return static_cast<int32_t>(first + i * step) + static_cast<const int32_t*>(ids.data)[row * ids.stride + i];
    });
  }
  std::unique_ptr<CodeSampler> make_sampler(const SamplingRule& rule, const SamplingNoise& noise) override {
    return std::make_unique<CpuSampler>(rule, noise);
  }
  void sample(std::span<const SongSample> songs, uint32_t codebook) override {
    if (songs.empty()) return;
    const int64_t vocabulary = songs.front().logits.cols;
    for (SamplingScratch& scratch : sampling_) scratch.reserve(vocabulary);
    device_.for_each(static_cast<int64_t>(songs.size()), kSampleCost * vocabulary, [&](int64_t song, int worker) {
      const SongSample& s = songs[static_cast<size_t>(song)];
      const auto& sampler = static_cast<const CpuSampler&>(*s.sampler);
      const int32_t frame = integer_of(s.frame);
      const int32_t code = sample_code(sampler.rule.settings, sampler.noise, s.logits, static_cast<uint32_t>(frame),
                                       codebook, sampler.rule.allowed(frame), sampling_[static_cast<size_t>(worker)]);
      for (int64_t row = 0; row < s.codes.rows; ++row) integer_of(s.codes.slice_rows(row, 1)) = code;
    });
  }
  void increment(View counters) override {
    for (int64_t row = 0; row < counters.rows; ++row) ++integer_of(counters.slice_rows(row, 1));
  }
  void clear(View out) override {
    const size_t row_bytes = static_cast<size_t>(out.cols) * dtype_size(out.dtype);
    device_.for_each(out.rows, out.cols, [&](int64_t row, int) { std::memset(row_of(out, row).data, 0, row_bytes); });
  }
  void copy(View out, ConstView x) override {
    device_.for_each(out.rows, out.cols,
                     [&](int64_t row, int) { device_.kernels.copy(row_of(out, row), row_of(x, row), out.cols); });
  }
  void combine(View out, float a, ConstView x, float b, ConstView y) override {
    device_.for_each(out.rows, out.cols, [&](int64_t row, int) {
      device_.kernels.combine(row_of(out, row), a, row_of(x, row), b, row_of(y, row), out.cols);
    });
  }
  void guide(View out, ConstView x, ConstView y, float guidance) override {
    device_.for_each(out.rows, out.cols, [&](int64_t row, int) {
      device_.kernels.guide(row_of(out, row), row_of(x, row), row_of(y, row), guidance, out.cols);
    });
  }
  void silu(View out, ConstView x) override {
    device_.for_each(out.rows, 4 * out.cols,
                     [&](int64_t row, int) { device_.kernels.silu(row_of(out, row), row_of(x, row), out.cols); });
  }
  void round_levels(View out, ConstView x, float levels) override {
    device_.for_each(out.rows, out.cols, [&](int64_t row, int) {
      device_.kernels.round_levels(row_of(out, row), row_of(x, row), levels, out.cols);
    });
  }
  void diagonal_sum(View out, ConstView x, ConstView bias) override {
    const float* diagonal = floats_of(x);
    auto* sums = static_cast<float*>(out.data);
    const float start = bias.data != nullptr ? *floats_of(bias) : 0.0F;
    device_.for_each(out.cols, x.cols, [&](int64_t t, int) {
      float sum = 0.0F;
      for (int64_t j = 0; j < x.cols; ++j) sum += diagonal[(t + j) * x.stride + j];
      sums[t] = sum + start;
    });
  }

 private:
  void product(View out, ConstView x, const Matrix& weight, Product epilogue) {
    epilogue.channels = weight.k();
    run_product(device_, epilogue, out, x, weight);
  }

  /// out[r] = sum of table[id_of(r, i)], i < per_row; an id of -1 contributes nothing.
  template <typename IdOf>
  void embed(View out, const Table& table, int64_t per_row, const IdOf& id_of) {
    const int64_t width = out.cols;
    device_.reserve_scratch(static_cast<size_t>(2 * width) * sizeof(float));
    device_.for_each(out.rows, 4 * width * per_row, [&](int64_t row, int worker) {
      auto* scratch = static_cast<float*>(device_.scratch(worker));
      const std::span<float> sum(scratch, static_cast<size_t>(width));
      const std::span<float> entry(scratch + width, static_cast<size_t>(width));
      std::ranges::fill(sum, 0.0F);
      for (int64_t i = 0; i < per_row; ++i) add_row(sum, table, id_of(row, i), entry);
      device_.kernels.copy(row_of(out, row), {scratch}, width);
    });
  }

  static void copy_integers(std::span<int32_t> values, ConstView x) {
    for (int64_t row = 0; row < x.rows; ++row) {
      std::copy_n(static_cast<const int32_t*>(x.slice_rows(row, 1).data), x.cols, values.data() + row * x.cols);
    }
  }

  Device device_;
  std::vector<SamplingScratch> sampling_;  // of each worker
};

}  // namespace
}  // namespace cpu

std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options) {
  return std::make_unique<cpu::CpuOps>(options);
}

}  // namespace heartmula
