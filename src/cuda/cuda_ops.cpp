#include "cuda/cuda_ops.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "cuda/device_state.h"
#include "cuda/kernels/attend_all.h"
#include "cuda/kernels/attention.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/embed.h"
#include "cuda/kernels/few_product.h"
#include "cuda/kernels/norm.h"
#include "cuda/kernels/sample.h"
#include "cuda/packing.h"
#include "cuda/products.h"
#include "ops/table.h"
#include "sampling/portable_log.h"

namespace heartmula {
namespace cuda {
namespace {

/// Enough blocks for every multiprocessor in each kernel, and 0.3 GB of activations.
constexpr int64_t kTileRows = int64_t{96} * 1440;

/// Elements from one row of a matrix to the next: rows begin at multiples of 128 bytes.
int64_t row_stride(DType dtype, int64_t cols) {
  const int64_t line = 128 / static_cast<int64_t>(dtype_size(dtype));
  return (cols + line - 1) / line * line;
}

struct CudaKvCache final : KvCache {
  std::shared_ptr<void> memory;
  CacheView view;
  int64_t bytes() const override {
    const KvShape& s = view.shape;
    const int64_t positions = view.places != nullptr ? s.blocks * kKvBlock : s.streams * s.capacity;
    return 2 * positions * position_bytes();
  }
  /// Of keys, or of values.
  int64_t position_bytes() const {
    return view.shape.kv_heads * view.shape.head_dim * static_cast<int64_t>(dtype_size(view.shape.dtype));
  }
};

struct CudaKvTable final : KvTable {
  Tensor places;  // [streams, blocks], I32
};

struct CudaRows final : Rows {
  std::shared_ptr<void> memory;
  AttentionRows view;
  bool apart = false;  // each of a stream of its own, and of one position
};

struct CudaProgram final : Program {
  explicit CudaProgram(cudaGraphExec_t e) : exec(e) {}
  ~CudaProgram() override { static_cast<void>(cudaGraphExecDestroy(exec)); }
  CudaProgram(const CudaProgram&) = delete;
  CudaProgram& operator=(const CudaProgram&) = delete;
  cudaGraphExec_t exec;
};

struct CudaSampler final : CodeSampler {
  SamplingRule rule;
  DeviceNoise noise;
  std::shared_ptr<void> tape;
};

class CudaOps final : public Ops {
 public:
  using Ops::append_kv;
  using Ops::attend;

  explicit CudaOps(const CudaOptions& options)
      : state_(options), products_(state_), packer_(state_.stream()), few_(options.rows == CudaOptions::Rows::kFew) {}
  ~CudaOps() override { static_cast<void>(cudaStreamSynchronize(state_.stream())); }
  CudaOps(const CudaOps&) = delete;
  CudaOps& operator=(const CudaOps&) = delete;

  std::string description() const override { return state_.description(); }
  int threads() const override { return 1; }
  std::vector<int64_t> chunks_by_thread() const override { return {}; }
  void use_threads(int) override {}
  int64_t tile_rows() const override { return kTileRows; }
  void set_cancel_token(const CancelToken* token) override {
    cancel_ = token;
    packer_.set_cancel_token(token);
  }

  // ---- memory
  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override {
    const int64_t stride = row_stride(dtype, cols);
    const size_t bytes = static_cast<size_t>(rows * stride) * dtype_size(dtype);
    std::shared_ptr<void> memory = zeroed(bytes);
    return Tensor(std::move(memory), dtype, rows, cols, stride);
  }
  void upload(View out, std::span<const float> values) override {
    check_cancelled();
    if (out.dtype == DType::kF32) {
      upload_rows(out, values.data());
      return;
    }
    std::vector<uint16_t> rounded(values.size());
    for (size_t i = 0; i < values.size(); ++i) rounded[i] = f32_to_bf16(values[i]);
    upload_rows(out, rounded.data());
  }
  void upload(View out, std::span<const int32_t> values) override { upload_rows(out, values.data()); }
  void download(std::span<int32_t> values, ConstView x) override { download_rows(values.data(), x); }
  void download(std::span<float> values, ConstView x) override {
    if (x.dtype == DType::kF32) {
      download_rows(values.data(), x);
      return;
    }
    std::vector<uint16_t> rounded(values.size());
    download_rows(rounded.data(), x);
    for (size_t i = 0; i < values.size(); ++i) values[i] = bf16_to_f32(rounded[i]);
  }
  Matrix pack(const MatrixSource& source, DType dtype) override { return packed(source, {}, dtype); }
  Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up, DType dtype) override {
    return packed(gate, up, dtype);
  }
  PackedLayout packed_layout(DType dtype) const override { return few_ ? few_layout(dtype) : many_layout(dtype); }
  Matrix adopt(const StoredMatrix&) override { throw failure("packed files of this GPU's layout are not made yet"); }
  std::span<const std::byte> packed_bytes(const Matrix&) const override {
    throw user_error("checkpoints are packed for CPUs only: convert without a GPU");
  }
  std::unique_ptr<KvTable> make_kv_table(int64_t streams, int64_t blocks) override {
    auto table = std::make_unique<CudaKvTable>();
    table->places = allocate(DType::kI32, streams, blocks);
    return table;
  }
  void set_kv_places(KvTable& table, int64_t stream, int64_t first, std::span<const int32_t> places) override {
    const View row = static_cast<CudaKvTable&>(table).places.slice_rows(stream, 1);
    upload(row.slice_cols(first, std::ssize(places)), places);
  }
  int64_t kv_block_bytes(const KvCache& cache) const override {
    return 2 * kKvBlock * static_cast<const CudaKvCache&>(cache).position_bytes();
  }
  void download_kv(std::span<std::byte> bytes, const KvCache& cache, int64_t place) override {
    const auto& view = static_cast<const CudaKvCache&>(cache).view;
    const size_t half = bytes.size() / 2;
    const size_t at = static_cast<size_t>(place) * half;
    copy_block(bytes.data(), static_cast<const std::byte*>(view.keys) + at, half, cudaMemcpyDeviceToHost);
    copy_block(bytes.data() + half, static_cast<const std::byte*>(view.values) + at, half, cudaMemcpyDeviceToHost);
    state_.synchronize("copying from the GPU");
  }
  void upload_kv(KvCache& cache, int64_t place, std::span<const std::byte> bytes) override {
    const auto& view = static_cast<CudaKvCache&>(cache).view;
    const size_t half = bytes.size() / 2;
    const size_t at = static_cast<size_t>(place) * half;
    copy_block(static_cast<std::byte*>(view.keys) + at, bytes.data(), half, cudaMemcpyHostToDevice);
    copy_block(static_cast<std::byte*>(view.values) + at, bytes.data() + half, half, cudaMemcpyHostToDevice);
    state_.synchronize("copying to the GPU");
  }
  std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape, const KvTable* table) override {
    auto cache = std::make_unique<CudaKvCache>();
    cache->view.shape = shape;
    if (table != nullptr) {
      const ConstView places = static_cast<const CudaKvTable&>(*table).places;
      cache->view.places = static_cast<const int32_t*>(places.data);
      cache->view.blocks_of_stream = places.stride;
    }
    const auto bytes = static_cast<size_t>(cache->bytes());
    cache->memory = zeroed(bytes);
    cache->view.keys = cache->memory.get();
    cache->view.values = static_cast<std::byte*>(cache->memory.get()) + bytes / 2;
    return cache;
  }
  Table place(const Table& table) override {
    const ConstView& rows = table.rows;
    const size_t bytes = static_cast<size_t>(rows.rows * rows.stride) * dtype_size(rows.dtype);
    std::shared_ptr<void> memory = allocate_device(bytes);
    check(cudaMemcpyAsync(memory.get(), rows.data, bytes, cudaMemcpyHostToDevice, state_.stream()), "copying a table");
    state_.synchronize("copying a table");
    return {rows, table.round_to, std::move(memory)};
  }
  std::unique_ptr<Rows> make_rows(int64_t most) override {
    auto rows = std::make_unique<CudaRows>();
    rows->memory = allocate_device(static_cast<size_t>(most) * sizeof(Row));
    rows->view.rows = static_cast<const Row*>(rows->memory.get());
    return rows;
  }
  void set_rows(Rows& rows, std::span<const Row> values) override {
    auto& r = static_cast<CudaRows&>(rows);
    r.view.count = static_cast<int64_t>(values.size());
    r.view.most_repeats = 1;
    r.apart = true;
    for (size_t i = 0; i < values.size(); ++i) {
      r.view.most_repeats = std::max<int64_t>(r.view.most_repeats, values[i].repeat);
      for (size_t j = 0; r.apart && j < i; ++j) r.apart = values[i].stream != values[j].stream;
    }
    r.apart = r.apart && r.view.most_repeats == 1;
    check(cudaMemcpyAsync(r.memory.get(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice, state_.stream()),
          "copying rows");
    state_.synchronize("copying rows");
  }
  void advance(Rows& rows) override {
    auto& r = static_cast<CudaRows&>(rows);
    cuda::advance(state_.stream(), static_cast<Row*>(r.memory.get()), r.view.count);
  }

  // ---- programs
  std::unique_ptr<Program> record(std::function<void()> work) override {
    return std::make_unique<CudaProgram>(state_.record(work));
  }
  void start(Program& program) override {
    check_cancelled();
    check(cudaGraphLaunch(static_cast<CudaProgram&>(program).exec, state_.stream()), "starting a frame");
  }
  bool works_ahead() const override { return true; }
  Tensor make_mailbox(int64_t rows, int64_t cols) override {
    // Behind the rows, a flag for each: the number of its post, plus one.
    const size_t bytes = static_cast<size_t>(rows * (cols + 1)) * sizeof(int32_t);
    std::shared_ptr<void> memory = allocate_pinned(bytes);
    std::memset(memory.get(), 0, bytes);
    return Tensor(std::move(memory), DType::kI32, rows, cols, cols);
  }
  void post(View mailbox, ConstView values, ConstView number) override {
    cuda::post(state_.stream(), mailbox, flags_of(mailbox), values, number);
  }
  void collect(std::span<int32_t> values, ConstView mailbox, int32_t number) override {
    const int64_t row = number % mailbox.rows;
    volatile int32_t* flag = flags_of(mailbox) + row;
    for (int64_t turns = 0; *flag != number + 1; ++turns) {
      check_cancelled();
      if (turns % 256 != 0) continue;
      const cudaError_t status = cudaStreamQuery(state_.stream());
      if (status == cudaSuccess && *flag != number + 1) throw failure("the GPU ended without frame {}", number);
      if (status != cudaErrorNotReady) check(status, "making a frame");
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    const ConstView codes = mailbox.slice_rows(row, 1);
    std::copy_n(static_cast<const int32_t*>(codes.data), values.size(), values.data());
    *flag = 0;
  }

  // ---- products
  void linear(View out, ConstView x, const Matrix& weight, ConstView bias) override {
    products_.run(out, {.x = x}, weight, {.bias = floats_of(bias)});
  }
  void linear(View out, const Normed& x, const Matrix& weight) override { products_.run_normed(out, x, weight, {}); }
  void linear_add(View out, ConstView x, const Matrix& weight) override {
    products_.run(out, {.x = x}, weight, {.add = true});
  }
  void linear_add_scaled(View out, ConstView x, const Matrix& weight, ConstView gain) override {
    products_.run(out, {.x = x}, weight, {.gain = floats_of(gain), .add = true});
  }
  void linear_silu_gate(View out, ConstView x, const Matrix& gate_up) override {
    products_.run(out, {.x = x}, gate_up, {.gate = true});
  }
  void linear_silu_gate(View out, const Normed& x, const Matrix& gate_up) override {
    products_.run_normed(out, x, gate_up, {.gate = true});
  }
  void conv1d(View out, ConstView x, const Matrix& weight, int64_t taps, int64_t dilation,
              const ConvEpilogue& epilogue) override {
    check_cancelled();
    GemmEpilogue e{.bias = floats_of(epilogue.bias), .add = epilogue.add};
    if (epilogue.prelu != nullptr) {
      e.has_prelu = true;
      e.prelu = *epilogue.prelu;
    }
    products_.run(out, {x, taps, dilation}, weight, e);
  }
  void residual_unit(View out, View copy, ConstView x, const ResidualUnit& unit) override {
    check_cancelled();
    products_.run_residual_unit(out, copy, x, unit);
  }

  // ---- norms
  void rms_norm(View out, ConstView x, ConstView gain, float eps) override {
    cuda::rms_norm(state_.stream(), out, x, gain, {}, {}, eps);
  }
  void rms_norm_modulated(View out, ConstView x, ConstView gain, ConstView scale, ConstView shift, float eps) override {
    cuda::rms_norm(state_.stream(), out, x, gain, scale, shift, eps);
  }
  void layer_norm_modulated(View out, ConstView x, ConstView scale, ConstView shift, float eps) override {
    cuda::layer_norm(state_.stream(), out, x, scale, shift, eps);
  }

  // ---- attention
  void append_kv(KvCache& cache, ConstView keys, ConstView values, const Rope& rope, const Rows& rows) override {
    cuda::append_kv(state_.stream(), static_cast<CudaKvCache&>(cache).view, keys, values, rope,
                    static_cast<const CudaRows&>(rows).view);
  }
  void attend(View out, ConstView queries, const Rope& rope, const KvCache& cache, const Rows& rows) override {
    attend_rows(out, queries, {}, {}, rope, cache, static_cast<const CudaRows&>(rows).view);
  }
  void append_and_attend(View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
                         KvCache& cache, const Rows& rows) override {
    const auto& r = static_cast<const CudaRows&>(rows);
    if (r.apart) {
      attend_rows(out, queries, keys, values, rope, cache, r.view);
    } else {
      Ops::append_and_attend(out, queries, keys, values, rope, cache, rows);
    }
  }
  void attend_all(View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope, int64_t heads,
                  int64_t windows) override {
    check_cancelled();
    const int64_t bytes =
        attend_all_scratch_bytes(out.dtype, keys.rows / windows, heads, queries.cols / heads, windows);
    cuda::attend_all(state_.stream(), out, queries, keys, values, rope.cos, rope.sin, heads, windows,
                     state_.scratch(DeviceState::Scratch::kAttention, bytes));
  }

  // ---- element by element
  void embed_sum(View out, const Table& table, std::span<const int32_t> ids, int64_t per_row) override {
    // The host gathers: rows of the text's table are read once a song, and the table stays in its file.
    const auto width = static_cast<size_t>(out.cols);
    std::vector<float> sums(static_cast<size_t>(out.rows) * width, 0.0F);
    std::vector<float> entry(width);
    for (size_t i = 0; i < ids.size(); ++i) {
      add_row(std::span(sums).subspan(i / static_cast<size_t>(per_row) * width, width), table, ids[i], entry);
    }
    upload(out, sums);
  }
  void embed_codes(View out, const Table& table, ConstView ids, int64_t first, int64_t step) override {
    ConstView placed = table.rows;
    placed.data = table.placed.get();
    embed(state_.stream(), out, placed, table.round_to, ids, first, step);
  }
  std::unique_ptr<CodeSampler> make_sampler(const SamplingRule& rule, const SamplingNoise& noise) override {
    auto sampler = std::make_unique<CudaSampler>();
    sampler->rule = rule;
    if (const auto* philox = dynamic_cast<const PhiloxNoise*>(&noise)) {
      sampler->noise.seed = philox->seed();
      return sampler;
    }
    const auto& tape = dynamic_cast<const TapeNoise&>(noise);
    std::vector<double> logarithms(tape.draws().size());
    for (size_t i = 0; i < logarithms.size(); ++i) logarithms[i] = portable_log(tape.draws()[i]);
    const size_t bytes = logarithms.size() * sizeof(double);
    sampler->tape = allocate_device(bytes);
    check(cudaMemcpyAsync(sampler->tape.get(), logarithms.data(), bytes, cudaMemcpyHostToDevice, state_.stream()),
          "copying noise");
    state_.synchronize("copying noise");
    sampler->noise.tape = static_cast<const double*>(sampler->tape.get());
    sampler->noise.tape_draws = static_cast<int64_t>(logarithms.size()) / tape.vocabulary();
    sampler->noise.codebooks = tape.codebooks();
    return sampler;
  }
  void sample(std::span<const SongSample> songs, uint32_t codebook) override {
    std::vector<SongDraw> draws;
    for (const SongSample& song : songs) {
      const auto& s = static_cast<const CudaSampler&>(*song.sampler);
      draws.push_back({song.logits, song.frame, song.codes, s.rule, s.noise});
    }
    cuda::sample(state_.stream(), draws, codebook);
  }
  void increment(View counters) override { cuda::increment(state_.stream(), counters); }
  void clear(View out) override { cuda::clear(state_.stream(), out); }
  void copy(View out, ConstView x) override { cuda::copy(state_.stream(), out, x); }
  void combine(View out, float a, ConstView x, float b, ConstView y) override {
    cuda::combine(state_.stream(), out, a, x, b, y);
  }
  void guide(View out, ConstView x, ConstView y, float guidance) override {
    cuda::guide(state_.stream(), out, x, y, guidance);
  }
  void silu(View out, ConstView x) override { cuda::silu(state_.stream(), out, x); }
  void round_levels(View out, ConstView x, float levels) override {
    cuda::round_levels(state_.stream(), out, x, levels);
  }
  void diagonal_sum(View out, ConstView x, ConstView bias) override {
    cuda::diagonal_sum(state_.stream(), out, x, bias);
  }

 private:
  static int32_t* flags_of(ConstView mailbox) {
    return static_cast<int32_t*>(const_cast<void*>(mailbox.data)) + mailbox.rows * mailbox.stride;
  }

  void check_cancelled() const {
    if (cancel_ != nullptr && cancel_->cancelled()) throw Error(ErrorKind::kCancelled, "cancelled");
  }

  std::shared_ptr<void> zeroed(size_t bytes) {
    std::shared_ptr<void> memory = allocate_device(std::max<size_t>(bytes, 1));
    check(cudaMemsetAsync(memory.get(), 0, bytes, state_.stream()), "clearing memory");
    return memory;
  }

  void copy_block(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    check(cudaMemcpyAsync(to, from, bytes, kind, state_.stream()), "copying keys and values");
  }
  void upload_rows(View out, const void* values) {
    const size_t row_bytes = static_cast<size_t>(out.cols) * dtype_size(out.dtype);
    check(cudaMemcpy2DAsync(out.data, static_cast<size_t>(out.stride) * dtype_size(out.dtype), values, row_bytes,
                            row_bytes, static_cast<size_t>(out.rows), cudaMemcpyHostToDevice, state_.stream()),
          "copying to the GPU");
    state_.synchronize("copying to the GPU");
  }
  void download_rows(void* values, ConstView x) {
    check_cancelled();
    const size_t row_bytes = static_cast<size_t>(x.cols) * dtype_size(x.dtype);
    check(cudaMemcpy2DAsync(values, row_bytes, x.data, static_cast<size_t>(x.stride) * dtype_size(x.dtype), row_bytes,
                            static_cast<size_t>(x.rows), cudaMemcpyDeviceToHost, state_.stream()),
          "copying from the GPU");
    state_.synchronize("copying from the GPU");
    check_cancelled();
  }

  Matrix packed(const MatrixSource& source, const MatrixSource& up, DType dtype) {
    const std::shared_ptr<DeviceMatrix> matrix =
        few_ ? packer_.pack_few(source, up, dtype) : packer_.pack_many(source, up, dtype);
    products_.prepare(*matrix, source.n + up.n);
    return Matrix(matrix, dtype, source.n, source.k, packed_layout(dtype).bytes(source.n, source.k, up.n > 0));
  }

  void attend_rows(View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
                   const KvCache& cache, const AttentionRows& rows) {
    const CacheView& view = static_cast<const CudaKvCache&>(cache).view;
    const int64_t heads = queries.cols / view.shape.head_dim;
    const int64_t counters = rows.count * heads;
    const int64_t floats = attention_workspace_floats(view.shape, rows.count, heads);
    auto* workspace = static_cast<float*>(state_.scratch(DeviceState::Scratch::kAttention, floats * 4));
    auto* counter_memory = static_cast<int32_t*>(state_.zeroed_scratch(counters * 4));
    cuda::attend(state_.stream(), out, queries, keys, values, rope, view, rows, workspace, counter_memory,
                 static_cast<int>(state_.properties().sharedMemPerBlockOptin));
  }

  DeviceState state_;
  Products products_;
  Packer packer_;
  bool few_;
  const CancelToken* cancel_ = nullptr;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Ops> make_cuda_ops(const CudaOptions& options) {
  return std::make_unique<cuda::CudaOps>(options);
}

}  // namespace heartmula
