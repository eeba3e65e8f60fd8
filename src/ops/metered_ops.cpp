#include "ops/metered_ops.h"

#include <algorithm>
#include <vector>

namespace heartmula {
namespace {

double bytes_of(ConstView x) {
  return static_cast<double>(x.rows) * static_cast<double>(x.cols) * static_cast<double>(dtype_size(x.dtype));
}

OpRecord product(const char* name, ConstView out, ConstView x, const Matrix& weight) {
  const double outputs = static_cast<double>(out.rows) * static_cast<double>(weight.n());
  return {.name = name,
          .rows = out.rows,
          .n = weight.n(),
          .k = weight.k(),
          .flop = 2.0 * outputs * static_cast<double>(weight.k()),
          .stored_bytes = static_cast<double>(weight.n()) * static_cast<double>(weight.k()) *
                          static_cast<double>(dtype_size(weight.dtype())),
          .activation_bytes = bytes_of(x) + bytes_of(out),
          .arithmetic = weight.dtype()};
}

OpRecord gated(ConstView out, ConstView x, const Matrix& gate_up) {
  OpRecord record = product("linear_silu_gate", out, x, gate_up);
  record.n = 2 * gate_up.n();
  record.flop *= 2;
  record.stored_bytes *= 2;
  return record;
}

OpRecord elementwise(const char* name, ConstView out, ConstView x, ConstView y = {}) {
  return {.name = name, .rows = out.rows, .n = out.cols, .activation_bytes = bytes_of(out) + bytes_of(x) + bytes_of(y)};
}

class MeteredCache final : public KvCache {
 public:
  MeteredCache(std::unique_ptr<KvCache> inner, const KvShape& shape) : inner_(std::move(inner)), shape_(shape) {}
  int64_t bytes() const override { return inner_->bytes(); }
  KvCache& inner() const { return *inner_; }
  const KvShape& shape() const { return shape_; }
  /// Of keys and values of one position.
  double position_bytes() const {
    return 2.0 * static_cast<double>(shape_.kv_heads * shape_.head_dim) * static_cast<double>(dtype_size(shape_.dtype));
  }

 private:
  std::unique_ptr<KvCache> inner_;
  KvShape shape_;
};

class MeteredRows final : public Rows {
 public:
  MeteredRows(std::unique_ptr<Rows> inner, int64_t most) : inner_(std::move(inner)) {
    rows_.reserve(static_cast<size_t>(most));
  }
  Rows& inner() const { return *inner_; }
  std::span<const Row> rows() const { return rows_; }
  void set(std::span<const Row> rows) { rows_.assign(rows.begin(), rows.end()); }
  void advance() {
    for (Row& row : rows_) ++row.position;
  }

 private:
  std::unique_ptr<Rows> inner_;
  std::vector<Row> rows_;
};

/// What it does each time that it is started; nothing if it calls the operations themselves, which tell of it.
class MeteredProgram final : public Program {
 public:
  MeteredProgram(std::unique_ptr<Program> inner, const OpRecord& work) : inner_(std::move(inner)), work_(work) {}
  Program& inner() const { return *inner_; }
  const OpRecord& work() const { return work_; }

 private:
  std::unique_ptr<Program> inner_;
  OpRecord work_;
};

class MeteredOps final : public Ops {
 public:
  using Ops::append_kv;
  using Ops::attend;

  MeteredOps(std::unique_ptr<Ops> inner, OpListener& listener) : inner_(std::move(inner)), listener_(listener) {}

  std::string description() const override { return inner_->description(); }
  int threads() const override { return inner_->threads(); }
  std::vector<int64_t> chunks_by_thread() const override { return inner_->chunks_by_thread(); }
  void use_threads(int count) override { inner_->use_threads(count); }
  int64_t tile_rows() const override { return inner_->tile_rows(); }
  void set_cancel_token(const CancelToken* token) override { inner_->set_cancel_token(token); }

  Tensor allocate(DType dtype, int64_t rows, int64_t cols) override { return inner_->allocate(dtype, rows, cols); }
  void upload(View out, std::span<const float> values) override { inner_->upload(out, values); }
  void download(std::span<float> values, ConstView x) override {
    timed(elementwise("download", x, x), [&] { inner_->download(values, x); });
  }
  void download(std::span<int32_t> values, ConstView x) override {
    timed(elementwise("download", x, x), [&] { inner_->download(values, x); });
  }
  Matrix pack(const MatrixSource& source, DType dtype) override { return inner_->pack(source, dtype); }
  Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up, DType dtype) override {
    return inner_->pack_gate_up(gate, up, dtype);
  }
  PackedLayout packed_layout(DType dtype) const override { return inner_->packed_layout(dtype); }
  Matrix adopt(const StoredMatrix& stored) override { return inner_->adopt(stored); }
  std::span<const std::byte> packed_bytes(const Matrix& matrix) const override { return inner_->packed_bytes(matrix); }
  std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape, const KvTable* table) override {
    return std::make_unique<MeteredCache>(inner_->make_kv_cache(shape, table), shape);
  }
  std::unique_ptr<KvTable> make_kv_table(int64_t streams, int64_t blocks) override {
    return inner_->make_kv_table(streams, blocks);
  }
  void set_kv_places(KvTable& table, int64_t stream, int64_t first, std::span<const int32_t> places) override {
    inner_->set_kv_places(table, stream, first, places);
  }
  int64_t kv_block_bytes(const KvCache& cache) const override {
    return inner_->kv_block_bytes(static_cast<const MeteredCache&>(cache).inner());
  }
  void download_kv(std::span<std::byte> bytes, const KvCache& cache, int64_t place) override {
    inner_->download_kv(bytes, static_cast<const MeteredCache&>(cache).inner(), place);
  }
  void upload_kv(KvCache& cache, int64_t place, std::span<const std::byte> bytes) override {
    inner_->upload_kv(static_cast<const MeteredCache&>(cache).inner(), place, bytes);
  }
  void upload(View out, std::span<const int32_t> values) override { inner_->upload(out, values); }
  Table place(const Table& table) override { return inner_->place(table); }
  std::unique_ptr<Rows> make_rows(int64_t most) override {
    return std::make_unique<MeteredRows>(inner_->make_rows(most), most);
  }
  void set_rows(Rows& rows, std::span<const Row> values) override {
    auto& metered = static_cast<MeteredRows&>(rows);
    metered.set(values);
    inner_->set_rows(metered.inner(), values);
  }
  void advance(Rows& rows) override {
    auto& metered = static_cast<MeteredRows&>(rows);
    metered.advance();
    inner_->advance(metered.inner());
  }
  std::unique_ptr<Program> record(std::function<void()> work) override {
    recorded_ = {.name = "program"};
    std::unique_ptr<Program> program = inner_->record(std::move(work));
    return std::make_unique<MeteredProgram>(std::move(program), recorded_);
  }
  void start(Program& program) override {
    auto& metered = static_cast<MeteredProgram&>(program);
    if (metered.work().stored_bytes > 0) {
      timed(metered.work(), [&] { inner_->start(metered.inner()); });
    } else {
      inner_->start(metered.inner());
    }
  }
  bool works_ahead() const override { return inner_->works_ahead(); }
  Tensor make_mailbox(int64_t rows, int64_t cols) override { return inner_->make_mailbox(rows, cols); }
  void post(View mailbox, ConstView values, ConstView number) override { inner_->post(mailbox, values, number); }
  void collect(std::span<int32_t> values, ConstView mailbox, int32_t number) override {
    inner_->collect(values, mailbox, number);
  }

  void linear(View out, ConstView x, const Matrix& weight, ConstView bias) override {
    timed(product("linear", out, x, weight), [&] { inner_->linear(out, x, weight, bias); });
  }
  void linear(View out, const Normed& x, const Matrix& weight) override {
    timed(product("linear", out, x.x, weight), [&] { inner_->linear(out, x, weight); });
  }
  void linear_add(View out, ConstView x, const Matrix& weight) override {
    timed(product("linear_add", out, x, weight), [&] { inner_->linear_add(out, x, weight); });
  }
  void linear_add_scaled(View out, ConstView x, const Matrix& weight, ConstView gain) override {
    timed(product("linear_add_scaled", out, x, weight), [&] { inner_->linear_add_scaled(out, x, weight, gain); });
  }
  void linear_silu_gate(View out, ConstView x, const Matrix& gate_up) override {
    timed(gated(out, x, gate_up), [&] { inner_->linear_silu_gate(out, x, gate_up); });
  }
  void linear_silu_gate(View out, const Normed& x, const Matrix& gate_up) override {
    timed(gated(out, x.x, gate_up), [&] { inner_->linear_silu_gate(out, x, gate_up); });
  }
  void conv1d(View out, ConstView x, const Matrix& weight, int64_t taps, int64_t dilation,
              const ConvEpilogue& epilogue) override {
    timed(product("conv1d", out, x, weight), [&] { inner_->conv1d(out, x, weight, taps, dilation, epilogue); });
  }
  void residual_unit(View out, View copy, ConstView x, const ResidualUnit& unit) override {
    OpRecord record = product("residual_unit", out, x, unit.conv1);
    const OpRecord second = product("", out, out, unit.conv2);
    record.flop += second.flop;
    record.stored_bytes += second.stored_bytes;
    record.activation_bytes += bytes_of(out) + bytes_of(copy);
    timed(record, [&] { inner_->residual_unit(out, copy, x, unit); });
  }

  void rms_norm(View out, ConstView x, ConstView gain, float eps) override {
    timed(elementwise("rms_norm", out, x), [&] { inner_->rms_norm(out, x, gain, eps); });
  }
  void rms_norm_modulated(View out, ConstView x, ConstView gain, ConstView scale, ConstView shift, float eps) override {
    timed(elementwise("rms_norm", out, x), [&] { inner_->rms_norm_modulated(out, x, gain, scale, shift, eps); });
  }
  void layer_norm_modulated(View out, ConstView x, ConstView scale, ConstView shift, float eps) override {
    timed(elementwise("layer_norm", out, x), [&] { inner_->layer_norm_modulated(out, x, scale, shift, eps); });
  }

  void append_kv(KvCache& cache, ConstView keys, ConstView values, const Rope& rope, const Rows& rows) override {
    const auto& metered = static_cast<const MeteredCache&>(cache);
    const auto& metered_rows = static_cast<const MeteredRows&>(rows);
    OpRecord record = elementwise("append_kv", keys, keys, values);
    record.stored_bytes = appended_bytes(metered, metered_rows);
    timed(record, [&] { inner_->append_kv(metered.inner(), keys, values, rope, metered_rows.inner()); });
  }
  void attend(View out, ConstView queries, const Rope& rope, const KvCache& cache, const Rows& rows) override {
    const auto& metered = static_cast<const MeteredCache&>(cache);
    const auto& metered_rows = static_cast<const MeteredRows&>(rows);
    timed(attention(out, queries, metered, metered_rows),
          [&] { inner_->attend(out, queries, rope, metered.inner(), metered_rows.inner()); });
  }
  void append_and_attend(View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
                         KvCache& cache, const Rows& rows) override {
    const auto& metered = static_cast<const MeteredCache&>(cache);
    const auto& metered_rows = static_cast<const MeteredRows&>(rows);
    OpRecord record = attention(out, queries, metered, metered_rows);
    record.stored_bytes += appended_bytes(metered, metered_rows);
    timed(record,
          [&] { inner_->append_and_attend(out, queries, keys, values, rope, metered.inner(), metered_rows.inner()); });
  }
  void attend_all(View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope, int64_t heads,
                  int64_t windows) override {
    OpRecord record = elementwise("attend_all", out, queries, keys);
    record.activation_bytes += bytes_of(values);
    record.arithmetic = out.dtype;
    const int64_t seen = keys.rows / windows;
    record.flop =
        4.0 * static_cast<double>(queries.rows) * static_cast<double>(queries.cols) * static_cast<double>(seen);
    timed(record, [&] { inner_->attend_all(out, queries, keys, values, rope, heads, windows); });
  }

  void embed_sum(View out, const Table& table, std::span<const int32_t> ids, int64_t per_row) override {
    OpRecord record = elementwise("embed_sum", out, {});
    record.stored_bytes = static_cast<double>(ids.size()) * static_cast<double>(table.rows.cols) *
                          static_cast<double>(dtype_size(table.rows.dtype));
    timed(record, [&] { inner_->embed_sum(out, table, ids, per_row); });
  }
  void embed_codes(View out, const Table& table, ConstView ids, int64_t first, int64_t step) override {
    OpRecord record = elementwise("embed_sum", out, {});
    record.stored_bytes =
        static_cast<double>(ids.rows * ids.cols * table.rows.cols) * static_cast<double>(dtype_size(table.rows.dtype));
    timed(record, [&] { inner_->embed_codes(out, table, ids, first, step); });
  }
  std::unique_ptr<CodeSampler> make_sampler(const SamplingRule& rule, const SamplingNoise& noise) override {
    return inner_->make_sampler(rule, noise);
  }
  void sample(std::span<const SongSample> songs, uint32_t codebook) override {
    OpRecord record{.name = "sample"};
    for (const SongSample& song : songs) {
      record.rows += song.logits.rows;
      record.activation_bytes += bytes_of(song.logits);
    }
    timed(record, [&] { inner_->sample(songs, codebook); });
  }
  void increment(View counters) override { inner_->increment(counters); }
  void clear(View out) override {
    timed(elementwise("clear", out, {}), [&] { inner_->clear(out); });
  }
  void copy(View out, ConstView x) override {
    timed(elementwise("copy", out, x), [&] { inner_->copy(out, x); });
  }
  void combine(View out, float a, ConstView x, float b, ConstView y) override {
    timed(elementwise("combine", out, x, y), [&] { inner_->combine(out, a, x, b, y); });
  }
  void guide(View out, ConstView x, ConstView y, float guidance) override {
    timed(elementwise("guide", out, x, y), [&] { inner_->guide(out, x, y, guidance); });
  }
  void silu(View out, ConstView x) override {
    timed(elementwise("silu", out, x), [&] { inner_->silu(out, x); });
  }
  void round_levels(View out, ConstView x, float levels) override {
    timed(elementwise("round_levels", out, x), [&] { inner_->round_levels(out, x, levels); });
  }
  void diagonal_sum(View out, ConstView x, ConstView bias) override {
    timed(elementwise("diagonal_sum", out, x), [&] { inner_->diagonal_sum(out, x, bias); });
  }

 private:
  template <typename Work>
  void timed(const OpRecord& record, const Work& work) {
    const OpListener::Clock::time_point begin = OpListener::Clock::now();
    work();
    listener_.finished(record, begin, OpListener::Clock::now());
    recorded_.stored_bytes += record.stored_bytes;
    recorded_.activation_bytes += record.activation_bytes;
    recorded_.flop += record.flop;
    if (record.flop > 0) recorded_.arithmetic = record.arithmetic;
  }

  static double appended_bytes(const MeteredCache& cache, const MeteredRows& rows) {
    double bytes = 0;
    for (const Row& row : rows.rows()) bytes += row.repeat * cache.position_bytes();
    return bytes;
  }
  OpRecord attention(ConstView out, ConstView queries, const MeteredCache& cache, const MeteredRows& rows) {
    OpRecord record = elementwise("attend", out, queries);
    record.arithmetic = cache.shape().dtype;
    longest_.clear();
    for (const Row& row : rows.rows()) {
      const int32_t visible = row.position + 1;
      record.flop += 4.0 * static_cast<double>(queries.cols) * visible;
      const auto stream = static_cast<size_t>(row.stream);
      if (longest_.size() <= stream) longest_.resize(stream + 1);
      longest_[stream] = std::max(longest_[stream], visible);
    }
    for (const int32_t visible : longest_) record.stored_bytes += visible * cache.position_bytes();
    return record;
  }

  std::unique_ptr<Ops> inner_;
  OpListener& listener_;
  OpRecord recorded_;             // of all operations since the last program was begun
  std::vector<int32_t> longest_;  // positions of each stream, whose keys and values are read once
};

}  // namespace

std::unique_ptr<Ops> make_metered_ops(std::unique_ptr<Ops> inner, OpListener& listener) {
  return std::make_unique<MeteredOps>(std::move(inner), listener);
}

}  // namespace heartmula
