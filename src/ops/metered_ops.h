// Watches the operations of another Ops: what each must do at least, and how long it took.
#pragma once

#include <chrono>
#include <memory>

#include "ops/ops.h"

namespace heartmula {

/// One call of an operation. Multiply and add count as two operations; element-wise arithmetic is not counted.
struct OpRecord {
  const char* name = "";
  int64_t rows = 0;
  int64_t n = 0;  // columns of the output, before a gate
  int64_t k = 0;  // length of each output's sum, where it has one
  double flop = 0;
  double stored_bytes = 0;      // weights, keys and values, rows of tables: what comes from memory
  double activation_bytes = 0;  // inputs and outputs, which may be in a cache
  DType arithmetic = DType::kF32;
};

class OpListener {
 public:
  using Clock = std::chrono::steady_clock;
  virtual ~OpListener() = default;
  /// On the thread that called the operation, after it.
  virtual void finished(const OpRecord& record, Clock::time_point begin, Clock::time_point end) = 0;
};

/// Sums up the work of one device, and passes on what it hears. Not for two threads at once.
class WorkTotals final : public OpListener {
 public:
  explicit WorkTotals(OpListener* next = nullptr) : next_(next) {}

  void finished(const OpRecord& record, Clock::time_point begin, Clock::time_point end) override {
    stored_bytes_ += record.stored_bytes;
    flop_ += record.flop;
    if (next_ != nullptr) next_->finished(record, begin, end);
  }
  double stored_bytes() const { return stored_bytes_; }
  double flop() const { return flop_; }

 private:
  OpListener* next_;
  double stored_bytes_ = 0;
  double flop_ = 0;
};

/// The same operations as `inner`; `listener` hears of those that compute. It must outlive the result.
std::unique_ptr<Ops> make_metered_ops(std::unique_ptr<Ops> inner, OpListener& listener);

}  // namespace heartmula
