// The operations that model code may call: the seam between the models (lm/, codec/) and a device (cpu/, later cuda/).
//
// Output first, then inputs. Shapes are [rows, columns]; a comment gives each operation's equation. All sums are f32.
// Activations are f32, or bf16 where they feed a matrix product with bf16 weights: an operation rounds (to nearest
// even) to the dtype of the output that it is given, so `normed` in bf16 is what autocast does in the reference.
//
// Every operation gives a row of its output the same bits whatever the other rows are, however many there are, and
// for any number of threads. Shapes are validated when weights are loaded; operations assume them.
// One thread at a time calls an Ops. Every operation throws Error(kCancelled) soon after its CancelToken is raised.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "heartmula/cancel.h"
#include "sampling/sampler.h"
#include "tensor/packed.h"
#include "tensor/tensor.h"

namespace heartmula {

/// Where the values of a matrix [n outputs, k inputs] come from while it is packed.
struct MatrixSource {
  int64_t n = 0;
  int64_t k = 0;
  /// Writes row `output` as k floats. Called from several threads at once.
  std::function<void(int64_t output, float* row)> read_row;
  std::string name = {};                  // of its own in its model, the same in every run
  std::vector<std::string> tensors = {};  // the stored tensors that it is made of
};

/// A weight matrix [n, k] in the layout that the device likes best. Cheap to copy (shared).
class Matrix {
 public:
  struct Storage {
    virtual ~Storage() = default;
  };

  Matrix() = default;
  Matrix(std::shared_ptr<const Storage> storage, DType dtype, int64_t n, int64_t k, int64_t bytes)
      : storage_(std::move(storage)), dtype_(dtype), n_(n), k_(k), bytes_(bytes) {}

  const Storage& storage() const { return *storage_; }
  DType dtype() const { return dtype_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  int64_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<const Storage> storage_;
  DType dtype_ = DType::kF32;
  int64_t n_ = 0;
  int64_t k_ = 0;
  int64_t bytes_ = 0;
};

/// A table of rows that is read a few rows at a time and stays where it is (a mapped file): embeddings, codebooks.
struct Table {
  ConstView rows;                           // [entries, width], F32, BF16 or F16, in host memory
  DType round_to = DType::kF32;             // kBF16: each value is rounded to bf16 before it is used
  std::shared_ptr<const void> placed = {};  // the device's own copy, for embed_codes (Ops::place)
};

/// cos and sin of position * frequency: [positions, head_dim / 2] each, f32.
struct Rope {
  Tensor cos;
  Tensor sin;
};

/// Positions of a block: keys and values of a block's positions lie together.
inline constexpr int64_t kKvBlock = 256;

/// Where caches that all streams share (KvShape::blocks) have the blocks of each stream: one table for all layers.
class KvTable {
 public:
  virtual ~KvTable() = default;
};

/// Keys and values of one layer for several streams (rows of guidance, songs), each with its own length.
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual int64_t bytes() const = 0;
};

/// One row of a pass through a causal transformer.
struct Row {
  int32_t stream = 0;    // which of the cache's streams it belongs to
  int32_t position = 0;  // its place in that stream
  int32_t repeat = 1;    // its keys and values also stand for the next repeat - 1 positions (lm.md B6)
};

/// The rows of passes, kept where operations read them: recorded programs use them again, moved on by `advance`.
class Rows {
 public:
  virtual ~Rows() = default;
};

/// Work that was recorded once (Ops::record) and is started many times.
class Program {
 public:
  virtual ~Program() = default;
};

/// How the codes of a song are sampled, with what that needs on the device.
class CodeSampler {
 public:
  virtual ~CodeSampler() = default;
};

/// One code of a song: what it is made of, and where it goes.
struct SongSample {
  CodeSampler* sampler = nullptr;
  ConstView logits;  // [streams(), V], the rows of the song
  ConstView frame;   // [1, 1], I32: number of the frame in its song
  View codes;        // [rows, 1], I32: gets the code in every row, or -1 if the logits are not numbers
};

/// RMSNorm of x on its way into a product: x / sqrt(mean(x^2) + eps) * gain, rounded to the weights' dtype.
struct Normed {
  ConstView x;     // [rows, D], f32
  ConstView gain;  // [1, D]
  float eps = 0;
  View memory;  // [rows, D] in the weights' dtype, for devices that do it in two steps; undefined afterwards
};

struct KvShape {
  int64_t streams = 0;
  int64_t capacity = 0;  // positions
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  DType dtype = DType::kF32;
  int64_t blocks = 0;  // of all streams together, where a table says whose they are
};

/// What a convolution does after its sum: out = prelu(sum + bias), or out += prelu(sum + bias).
struct ConvEpilogue {
  ConstView bias;                // [1, cols of the product], or empty
  const float* prelu = nullptr;  // the slope for negative values, or none
  bool add = false;              // add to what is in `out`
};

/// A residual unit of two convolutions, the second with one tap; both have as many outputs as their input has columns.
struct ResidualUnit {
  Matrix conv1;
  Tensor bias1;  // [1, n]
  float slope1 = 0;
  Matrix conv2;
  Tensor bias2;  // [1, n]
  float slope2 = 0;
  int64_t taps = 1;  // of conv1
  int64_t dilation = 1;
};

class Ops {
 public:
  virtual ~Ops() = default;

  /// For messages and for the summary, for example "cpu (avx2, 2 threads)".
  virtual std::string description() const = 0;
  /// Threads that it has, the caller included.
  virtual int threads() const = 0;
  /// How many pieces of work each of them has done so far.
  virtual std::vector<int64_t> chunks_by_thread() const = 0;
  /// From the next operation on this many take part, at least one and at most all: to share a machine. Never changes a
  /// result. May be called from any thread.
  virtual void use_threads(int count) = 0;
  /// Rows of 64 to 1024 columns that it works through best at a time, where they pass through several operations.
  virtual int64_t tile_rows() const = 0;
  /// Looked at between the pieces of every operation; null for none. Must outlive the calls.
  virtual void set_cancel_token(const CancelToken* token) = 0;

  // ---- memory
  /// A zeroed matrix whose rows start at aligned addresses.
  virtual Tensor allocate(DType dtype, int64_t rows, int64_t cols) = 0;
  /// Host to device; `values` has rows * cols floats, rounded to out's dtype.
  virtual void upload(View out, std::span<const float> values) = 0;
  /// Device to host; the one way by which model code may look at data.
  virtual void download(std::span<float> values, ConstView x) = 0;
  /// Packs the rows of `source`, rounded to `dtype` (f32 or bf16), in parallel.
  virtual Matrix pack(const MatrixSource& source, DType dtype) = 0;
  /// Like pack, of gate and up [n, k] each, for linear_silu_gate.
  virtual Matrix pack_gate_up(const MatrixSource& gate, const MatrixSource& up, DType dtype) = 0;
  /// How matrices of `dtype` are packed here.
  virtual PackedLayout packed_layout(DType dtype) const = 0;
  /// A matrix that lies in a mapped file in this device's layout and is used where it lies.
  virtual Matrix adopt(const StoredMatrix& stored) = 0;
  /// A packed matrix as a packed checkpoint stores it.
  virtual std::span<const std::byte> packed_bytes(const Matrix& matrix) const = 0;
  /// Each stream has room for shape.capacity positions; with a table, which must outlive the cache, only for those
  /// whose blocks it names. Zeroed.
  virtual std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape, const KvTable* table = nullptr) = 0;
  /// Of `streams` streams of at most `blocks` blocks each.
  virtual std::unique_ptr<KvTable> make_kv_table(int64_t streams, int64_t blocks) = 0;
  /// The blocks of a stream from its block `first` on lie at `places` (0 to KvShape::blocks - 1).
  virtual void set_kv_places(KvTable& table, int64_t stream, int64_t first, std::span<const int32_t> places) = 0;
  /// Bytes of a block, and the block at a place of a cache with a table, to and from the host.
  virtual int64_t kv_block_bytes(const KvCache& cache) const = 0;
  virtual void download_kv(std::span<std::byte> bytes, const KvCache& cache, int64_t place) = 0;
  virtual void upload_kv(KvCache& cache, int64_t place, std::span<const std::byte> bytes) = 0;
  /// Like upload and download, of integers (I32).
  virtual void upload(View out, std::span<const int32_t> values) = 0;
  virtual void download(std::span<int32_t> values, ConstView x) = 0;
  /// A table that embed_codes can read.
  virtual Table place(const Table& table) = 0;
  /// Room for at most `most` rows.
  virtual std::unique_ptr<Rows> make_rows(int64_t most) = 0;
  virtual void set_rows(Rows& rows, std::span<const Row> values) = 0;
  /// position += 1 in every row.
  virtual void advance(Rows& rows) = 0;

  // ---- programs: what does not change from frame to frame, with its decisions left to the device
  /// `work` may only call operations (below), advance and increment, and none of `upload`, `download`, `set_rows`. What
  /// it captures must outlive the program.
  virtual std::unique_ptr<Program> record(std::function<void()> work) = 0;
  /// Starts it after everything before; returns at once where works_ahead().
  virtual void start(Program& program) = 0;
  /// Whether programs run beside the host, so that the next may be started before the last one's results are read.
  virtual bool works_ahead() const = 0;
  /// Memory of `rows` rows that the host reads while the device works on; written by `post`.
  virtual Tensor make_mailbox(int64_t rows, int64_t cols) = 0;
  /// mailbox[number mod rows] = values, of which the mailbox's row holds one row after another; number [1, 1], I32.
  virtual void post(View mailbox, ConstView values, ConstView number) = 0;
  /// Waits for the post with this number and reads it. No later one may have taken its row.
  virtual void collect(std::span<int32_t> values, ConstView mailbox, int32_t number) = 0;

  // ---- products; x has the weights' dtype, [rows, k]
  /// out = x W^T (+ bias [1, n])                                         [rows, n]
  virtual void linear(View out, ConstView x, const Matrix& weight, ConstView bias = {}) = 0;
  /// out = norm(x) W^T                                                   [rows, n]
  virtual void linear(View out, const Normed& x, const Matrix& weight) {
    rms_norm(x.memory, x.x, x.gain, x.eps);
    linear(out, x.memory, weight);
  }
  /// out += x W^T                                                        [rows, n], f32
  virtual void linear_add(View out, ConstView x, const Matrix& weight) = 0;
  /// out += gain * (x W^T), gain [1, n]                                  [rows, n], f32
  virtual void linear_add_scaled(View out, ConstView x, const Matrix& weight, ConstView gain) = 0;
  /// out = silu(x G^T) * (x U^T), weight from pack_gate_up               [rows, n]
  virtual void linear_silu_gate(View out, ConstView x, const Matrix& gate_up) = 0;
  /// The same of norm(x).
  virtual void linear_silu_gate(View out, const Normed& x, const Matrix& gate_up) {
    rms_norm(x.memory, x.x, x.gain, x.eps);
    linear_silu_gate(out, x.memory, gate_up);
  }
  /// out[t] = epilogue(sum over j < taps of W_j x[t + j * dilation]), W = [n, taps * channels] with the taps outermost.
  /// x has out.rows + (taps - 1) * dilation rows: what stands before and after the signal is up to the caller.
  virtual void conv1d(View out, ConstView x, const Matrix& weight, int64_t taps, int64_t dilation,
                      const ConvEpilogue& epilogue) = 0;
  /// out += prelu(conv2(prelu(conv1(x)))), f32, with conv1 as in conv1d and its result rounded to the weights' dtype;
  /// then copy = out in its own dtype, unless it is empty.
  virtual void residual_unit(View out, View copy, ConstView x, const ResidualUnit& unit) = 0;

  // ---- norms, row by row
  /// out = x / sqrt(mean(x^2) + eps) * gain, gain [1, D]
  virtual void rms_norm(View out, ConstView x, ConstView gain, float eps) = 0;
  /// out = x / sqrt(mean(x^2) + eps) * gain * (1 + scale) + shift, all [1, D]
  virtual void rms_norm_modulated(View out, ConstView x, ConstView gain, ConstView scale, ConstView shift,
                                  float eps) = 0;
  /// out = (x - mean(x)) / sqrt(var(x) + eps) * (1 + scale) + shift, both [1, D]
  virtual void layer_norm_modulated(View out, ConstView x, ConstView scale, ConstView shift, float eps) = 0;

  // ---- attention; queries, keys and values f32, hd even
  // Queries and keys are rotated by their positions, in interleaved pairs of each head: y0 = x0 cos - x1 sin,
  // y1 = x1 cos + x0 sin.
  /// Rotates the keys and stores keys and values [rows, kv_heads * hd] where `rows` says, rounded to the cache's dtype.
  virtual void append_kv(KvCache& cache, ConstView keys, ConstView values, const Rope& rope, const Rows& rows) = 0;
  /// Causal attention of each query row, rotated and rounded to the cache's dtype, over positions 0..position of its
  /// stream, which are in the cache: out = softmax(q k / sqrt(hd)) v, query head h with key head
  /// h / (heads / kv_heads).                                              [rows, heads * hd]
  virtual void attend(View out, ConstView queries, const Rope& rope, const KvCache& cache, const Rows& rows) = 0;
  /// Both for rows that are used once.
  void append_kv(KvCache& cache, ConstView keys, ConstView values, const Rope& rope, std::span<const Row> rows) {
    append_kv(cache, keys, values, rope, *placed(rows));
  }
  void attend(View out, ConstView queries, const Rope& rope, const KvCache& cache, std::span<const Row> rows) {
    attend(out, queries, rope, cache, *placed(rows));
  }
  /// append_kv, then attend.
  virtual void append_and_attend(View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
                                 KvCache& cache, const Rows& rows) {
    append_kv(cache, keys, values, rope, rows);
    attend(out, queries, rope, cache, rows);
  }
  /// The same without cache or mask, of `windows` windows below each other, each of rows / windows positions: row r
  /// stands at position r mod (rows / windows) and attends to all rows of its window; queries, keys and values are
  /// rounded to out's dtype.                                              all [rows, heads * hd]
  virtual void attend_all(View out, ConstView queries, ConstView keys, ConstView values, const Rope& rope,
                          int64_t heads, int64_t windows) = 0;

  // ---- element by element
  /// out[r] = sum of table[ids[r * per_row + i]], i < per_row, in that order; an id of -1 contributes nothing.
  virtual void embed_sum(View out, const Table& table, std::span<const int32_t> ids, int64_t per_row) = 0;
  /// The same with ids [rows, per_row] (I32) on the device, those of column i counted from entry first + i * step:
  /// out[r] = sum of table[first + i * step + ids[r, i]].
  virtual void embed_codes(View out, const Table& table, ConstView ids, int64_t first, int64_t step) = 0;
  /// The code of each song by its settings, keyed by (frame, codebook) of the song.
  virtual void sample(std::span<const SongSample> songs, uint32_t codebook) = 0;
  /// `noise` must outlive the result.
  virtual std::unique_ptr<CodeSampler> make_sampler(const SamplingRule& rule, const SamplingNoise& noise) = 0;
  /// counters += 1, I32 [rows, 1]
  virtual void increment(View counters) = 0;
  /// out = 0
  virtual void clear(View out) = 0;
  /// out = x, in out's dtype
  virtual void copy(View out, ConstView x) = 0;
  /// out = a * x + b * y
  virtual void combine(View out, float a, ConstView x, float b, ConstView y) = 0;
  /// out = y + guidance * (x - y)
  virtual void guide(View out, ConstView x, ConstView y, float guidance) = 0;
  /// out = x / (1 + exp(-x))
  virtual void silu(View out, ConstView x) = 0;
  /// out = round_half_even(levels * x) / levels
  virtual void round_levels(View out, ConstView x, float levels) = 0;
  /// out[t] = sum over j < taps of x[t + j, j] + bias               out [1, rows], x [rows + taps - 1, taps], f32
  virtual void diagonal_sum(View out, ConstView x, ConstView bias) = 0;

 private:
  std::unique_ptr<Rows> placed(std::span<const Row> rows) {
    std::unique_ptr<Rows> result = make_rows(static_cast<int64_t>(rows.size()));
    set_rows(*result, rows);
    return result;
  }
};

}  // namespace heartmula
