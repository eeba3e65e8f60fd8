// One model on its way into a packed file: its own loader says which matrices it wants, and they go to the disk
// instead.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "tensor/weight_store.h"

namespace heartmula {

class PackedWriter {
 public:
  /// Loads the model of `store` on the device that it is given: HeartMula::load or HeartCodec::load.
  using Load = std::function<void(Ops& device)>;

  /// Finds out what the file will hold; reads no weights. `device` packs, `expected` are the tensors that the model
  /// needs; all must outlive the writer. `fingerprint` is that of the stock checkpoint, or empty.
  PackedWriter(Ops& device, const WeightStore& store, const std::vector<ExpectedTensor>& expected, DType dtype,
               const std::string& fingerprint, Load load);

  /// Size of the file.
  int64_t bytes() const;
  /// Writes the file; never holds more than one matrix. `written` is told how many bytes have gone to the disk since it
  /// was last called. Throws Error(kCancelled) when `cancel` is raised.
  void write(const std::filesystem::path& path, const std::function<void(int64_t bytes)>& written,
             const CancelToken* cancel) const;

 private:
  Ops& device_;
  const WeightStore& store_;
  Load load_;
  std::vector<PackedIndex::Matrix> matrices_;  // in the order in which the model asks for them
  std::vector<std::string> kept_;              // tensors that are in no matrix
  std::vector<TensorEntry> entries_;           // matrices with gaps before them, then what is kept
  std::vector<std::byte> header_;
};

}  // namespace heartmula
