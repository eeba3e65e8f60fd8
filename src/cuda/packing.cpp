#include "cuda/packing.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "cuda/runtime.h"

namespace heartmula::cuda {
namespace {

int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Output `output` of a matrix, or of two whose rows alternate.
void read_output(const MatrixSource& source, const MatrixSource& up, int64_t output, float* row) {
  if (up.n == 0) {
    source.read_row(output, row);
  } else {
    (output % 2 == 0 ? source : up).read_row(output / 2, row);
  }
}

}  // namespace

Packer::Packer(cudaStream_t stream)
    : stream_(stream), pool_(static_cast<int>(std::max(1U, std::thread::hardware_concurrency()))) {
  for (Buffer& buffer : buffers_) check(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming), "an event");
  rows_.resize(static_cast<size_t>(pool_.threads()));
}

Packer::~Packer() {
  for (const Buffer& buffer : buffers_) {
    static_cast<void>(cudaEventSynchronize(buffer.copied));
    static_cast<void>(cudaEventDestroy(buffer.copied));
  }
}

template <typename Fill>
void Packer::send(void* destination, int64_t items, int64_t bytes, const Fill& fill) {
  const int64_t at_once = std::max<int64_t>(1, kPackBufferBytes / bytes);
  for (int64_t first = 0; first < items; first += at_once) {
    const int64_t count = std::min(at_once, items - first);
    Buffer& buffer = buffers_[next_];
    next_ = (next_ + 1) % buffers_.size();
    check(cudaEventSynchronize(buffer.copied), "copying weights");
    // One item may be larger than a buffer.
    if (buffer.memory == nullptr || bytes > kPackBufferBytes) {
      buffer.memory = allocate_pinned(static_cast<size_t>(std::max(kPackBufferBytes, bytes)));
    }
    auto* memory = static_cast<std::byte*>(buffer.memory.get());
    pool_.parallel_for(count, [&](int64_t item, int worker) { fill(first + item, memory + item * bytes, worker); });
    check(cudaMemcpyAsync(static_cast<std::byte*>(destination) + first * bytes, memory,
                          static_cast<size_t>(count * bytes), cudaMemcpyHostToDevice, stream_),
          "copying weights");
    check(cudaEventRecord(buffer.copied, stream_), "copying weights");
  }
}

std::shared_ptr<DeviceMatrix> Packer::pack_few(const MatrixSource& source, const MatrixSource& up, DType dtype) {
  auto matrix = std::make_shared<DeviceMatrix>();
  matrix->few = {dtype, source.n + up.n, source.k};
  const FewLayout& layout = matrix->few;
  matrix->data = allocate_device(static_cast<size_t>(layout.bytes()));
  const int64_t bytes = layout.unit_elements() * static_cast<int64_t>(dtype_size(dtype));
  send(matrix->data.get(), layout.units(), bytes, [&](int64_t unit, std::byte* memory, int worker) {
    std::vector<float>& values = rows_[static_cast<size_t>(worker)];
    values.resize(static_cast<size_t>(layout.unit() * layout.k));
    std::vector<const float*> rows(static_cast<size_t>(layout.unit()), nullptr);
    for (int64_t i = 0; i < layout.unit() && unit * layout.unit() + i < layout.n; ++i) {
      float* row = values.data() + i * layout.k;
      read_output(source, up, unit * layout.unit() + i, row);
      rows[static_cast<size_t>(i)] = row;
    }
    layout.pack_unit({memory, static_cast<size_t>(bytes)}, rows);
  });
  return matrix;
}

std::shared_ptr<DeviceMatrix> Packer::pack_many(const MatrixSource& source, const MatrixSource& up, DType dtype) {
  auto matrix = std::make_shared<DeviceMatrix>();
  const int64_t together = many_layout(dtype).k_per_group;
  const auto element = static_cast<int64_t>(dtype_size(dtype));
  matrix->stride = divide_up(source.k, together) * together;
  const int64_t n = source.n + up.n;
  const int64_t bytes = matrix->stride * element;
  matrix->data = allocate_device(static_cast<size_t>(n * bytes));
  send(matrix->data.get(), n, bytes, [&](int64_t output, std::byte* memory, int worker) {
    std::vector<float>& row = rows_[static_cast<size_t>(worker)];
    row.resize(static_cast<size_t>(matrix->stride));
    read_output(source, up, output, row.data());
    std::fill(row.begin() + source.k, row.end(), 0.0F);
    if (dtype == DType::kF32) {
      std::memcpy(memory, row.data(), static_cast<size_t>(bytes));
    } else {
      auto* halves = reinterpret_cast<uint16_t*>(memory);
      for (int64_t i = 0; i < matrix->stride; ++i) halves[i] = f32_to_bf16(row[static_cast<size_t>(i)]);
    }
  });
  return matrix;
}

}  // namespace heartmula::cuda
