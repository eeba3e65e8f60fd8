// Weights from their source to the device: rounded and packed by all cores of the host, a piece at a time through
// pinned memory, so that never two whole copies exist.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <memory>

#include "base/thread_pool.h"
#include "cuda/packed.h"
#include "ops/ops.h"

namespace heartmula::cuda {

/// A matrix in device memory.
struct DeviceMatrix final : Matrix::Storage {
  std::shared_ptr<void> data;
  FewLayout few;       // of the language model's
  int64_t stride = 0;  // elements from row to row of the codec's; 0 for the language model's
};

class Packer {
 public:
  /// Work is queued on `stream`.
  explicit Packer(cudaStream_t stream);
  ~Packer();

  void set_cancel_token(const CancelToken* token) { pool_.set_cancel_token(token); }
  /// `up` is empty (n = 0), or gate and up are interleaved row by row.
  std::shared_ptr<DeviceMatrix> pack_few(const MatrixSource& source, const MatrixSource& up, DType dtype);
  std::shared_ptr<DeviceMatrix> pack_many(const MatrixSource& source, const MatrixSource& up, DType dtype);

 private:
  struct Buffer {
    std::shared_ptr<void> memory;
    cudaEvent_t copied = nullptr;
  };

  /// fill(item, memory) for `items` of `bytes` each, which come to lie side by side at `destination`.
  template <typename Fill>
  void send(void* destination, int64_t items, int64_t bytes, const Fill& fill);

  cudaStream_t stream_;
  ThreadPool pool_;
  std::array<Buffer, kPackBuffers> buffers_;
  size_t next_ = 0;
  std::vector<std::vector<float>> rows_;  // of each worker
};

}  // namespace heartmula::cuda
