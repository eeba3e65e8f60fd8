#include "cuda/cublas_lt.h"

#include <dlfcn.h>

#include <array>
#include <cstdlib>
#include <map>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "cuda/libraries.h"
#include "cuda/runtime.h"

namespace heartmula::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr int64_t kAlignment = 16;
/// The rows that algorithms are chosen for: a window of 744 frames, with and without guidance.
constexpr uint64_t kTypicalRows = 1488;

// What is used of cuBLASLt's interface, as its documentation gives it.
using Handle = void*;
using Descriptor = void*;  // of a product, a matrix or a preference
using Status = int;
constexpr Status kSuccess = 0;
constexpr int kComputeF32 = 68;
constexpr int kTypeF32 = 0;
constexpr int kTypeBF16 = 14;
constexpr int32_t kTransposed = 1;
constexpr int kTransA = 3;  // attributes of a product
constexpr int kEpilogue = 7;
constexpr int kBiasPointer = 8;
constexpr uint32_t kEpilogueBias = 4;
constexpr int kWorkspaceLimit = 1;  // attributes of a preference
constexpr int kReductionSchemes = 3;

struct Algorithm {
  std::array<uint64_t, 8> data;
};
struct Choice {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  std::array<int, 4> reserved;
};

bool is_aligned(const void* data, int64_t stride, DType dtype) {
  return reinterpret_cast<uintptr_t>(data) % kAlignment == 0 &&
         stride * static_cast<int64_t>(dtype_size(dtype)) % kAlignment == 0;
}

int type_of(DType dtype) {
  return dtype == DType::kBF16 ? kTypeBF16 : kTypeF32;
}

}  // namespace

/// The library's functions and its handle.
struct CublasLt::Library {
  explicit Library(void* opened) : file(opened) {}
  ~Library() {
    if (handle != nullptr) destroy(handle);
    dlclose(file);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  /// False if it lacks a function or does not start.
  bool start() {
    return find(create, "cublasLtCreate") && find(destroy, "cublasLtDestroy") && find(version, "cublasLtGetVersion") &&
           find(product_create, "cublasLtMatmulDescCreate") && find(product_destroy, "cublasLtMatmulDescDestroy") &&
           find(product_set, "cublasLtMatmulDescSetAttribute") && find(matrix_create, "cublasLtMatrixLayoutCreate") &&
           find(matrix_destroy, "cublasLtMatrixLayoutDestroy") &&
           find(preference_create, "cublasLtMatmulPreferenceCreate") &&
           find(preference_destroy, "cublasLtMatmulPreferenceDestroy") &&
           find(preference_set, "cublasLtMatmulPreferenceSetAttribute") &&
           find(choose, "cublasLtMatmulAlgoGetHeuristic") && find(multiply, "cublasLtMatmul") &&
           create(&handle) == kSuccess;
  }

  template <typename Function>
  bool find(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(dlsym(file, name));
    return function != nullptr;
  }

  void* file;
  Handle handle = nullptr;
  Status (*create)(Handle*) = nullptr;
  Status (*destroy)(Handle) = nullptr;
  size_t (*version)() = nullptr;
  Status (*product_create)(Descriptor*, int compute_type, int scale_type) = nullptr;
  Status (*product_destroy)(Descriptor) = nullptr;
  Status (*product_set)(Descriptor, int attribute, const void* value, size_t bytes) = nullptr;
  Status (*matrix_create)(Descriptor*, int type, uint64_t rows, uint64_t cols, int64_t stride) = nullptr;
  Status (*matrix_destroy)(Descriptor) = nullptr;
  Status (*preference_create)(Descriptor*) = nullptr;
  Status (*preference_destroy)(Descriptor) = nullptr;
  Status (*preference_set)(Descriptor, int attribute, const void* value, size_t bytes) = nullptr;
  Status (*choose)(Handle, Descriptor product, Descriptor a, Descriptor b, Descriptor c, Descriptor d,
                   Descriptor preference, int most, Choice*, int* found) = nullptr;
  Status (*multiply)(Handle, Descriptor product, const void* alpha, const void* a, Descriptor a_layout, const void* b,
                     Descriptor b_layout, const void* beta, const void* c, Descriptor c_layout, void* d,
                     Descriptor d_layout, const Algorithm*, void* workspace, size_t workspace_bytes,
                     cudaStream_t) = nullptr;
};

/// How products of one kind are computed. The library thinks in columns: our rows [rows, n] are its columns [n, rows],
/// so W is its left side, transposed, and x its right side.
class CublasLt::Plans {
 public:
  struct Kind {
    int64_t n;
    int64_t k;
    int64_t w_stride;
    DType out;
    bool bias;
    auto operator<=>(const Kind&) const = default;
  };
  using Owned = std::unique_ptr<void, Status (*)(Descriptor)>;
  struct Plan {
    Owned product;
    Owned weight;
    Algorithm algorithm;
  };

  explicit Plans(const Library& library) : library_(library) {}

  /// Null if there is no algorithm.
  const Plan* of(const Kind& kind) {
    const auto [place, is_new] = plans_.try_emplace(kind);
    if (is_new) place->second = make(kind);
    return place->second ? &*place->second : nullptr;
  }

  Owned matrix(int type, int64_t rows, int64_t cols, int64_t stride) const {
    Descriptor made = nullptr;
    const Status status =
        library_.matrix_create(&made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), stride);
    return {status == kSuccess ? made : nullptr, library_.matrix_destroy};
  }

 private:
  std::optional<Plan> make(const Kind& kind) const {
    Descriptor made = nullptr;
    if (library_.product_create(&made, kComputeF32, kTypeF32) != kSuccess) return {};
    Plan plan = {Owned(made, library_.product_destroy), matrix(kTypeBF16, kind.k, kind.n, kind.w_stride), {}};
    if (library_.product_set(made, kTransA, &kTransposed, sizeof kTransposed) != kSuccess) return {};
    if (kind.bias && library_.product_set(made, kEpilogue, &kEpilogueBias, sizeof kEpilogueBias) != kSuccess) return {};

    Descriptor preference = nullptr;
    if (library_.preference_create(&preference) != kSuccess) return {};
    const Owned owned_preference(preference, library_.preference_destroy);
    const uint32_t unsplit = 0;  // a sum over k is one chain of one block
    if (library_.preference_set(preference, kWorkspaceLimit, &kWorkspaceBytes, sizeof kWorkspaceBytes) != kSuccess ||
        library_.preference_set(preference, kReductionSchemes, &unsplit, sizeof unsplit) != kSuccess) {
      return {};
    }
    const Owned x = matrix(kTypeBF16, kind.k, kTypicalRows, kind.w_stride);
    const Owned out = matrix(type_of(kind.out), kind.n, kTypicalRows, kind.n);
    Choice choice = {};
    int found = 0;
    if (library_.choose(library_.handle, made, plan.weight.get(), x.get(), out.get(), out.get(), preference, 1, &choice,
                        &found) != kSuccess ||
        found == 0 || choice.state != kSuccess) {
      return {};
    }
    plan.algorithm = choice.algorithm;
    return plan;
  }

  const Library& library_;
  std::map<Kind, std::optional<Plan>> plans_;
};

CublasLt::CublasLt(std::unique_ptr<Library> library)
    : library_(std::move(library)),
      plans_(std::make_unique<Plans>(*library_)),
      workspace_(allocate_device(kWorkspaceBytes)) {}

CublasLt::~CublasLt() = default;

std::unique_ptr<CublasLt> CublasLt::open() {
  const auto load = [](const char* name) -> std::unique_ptr<CublasLt> {
    void* file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (file == nullptr) return nullptr;
    auto library = std::make_unique<Library>(file);
    if (!library->start()) return nullptr;
    return std::unique_ptr<CublasLt>(new CublasLt(std::move(library)));
  };
  const char* wanted = std::getenv("HEARTMULA_CUBLASLT");
  if (wanted != nullptr && std::string_view(wanted) == "off") return nullptr;
  if (wanted != nullptr && *wanted != '\0') {
    auto library = load(wanted);
    if (library == nullptr) {
      const char* why = dlerror();
      throw user_error("HEARTMULA_CUBLASLT={}: {}", wanted, why != nullptr ? why : "no cuBLASLt, or one without a GPU");
    }
    return library;
  }
  for (const char* name : kCublasLtNames) {
    if (auto library = load(name); library != nullptr) return library;
  }
  return nullptr;
}

std::string CublasLt::description() const {
  const size_t version = library_->version();
  return fmt::format("cuBLASLt {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

bool CublasLt::multiply(cudaStream_t stream, View out, ConstView x, const GemmWeight& weight, const float* bias) {
  const bool fits = is_aligned(out.data, out.stride, out.dtype) && is_aligned(x.data, x.stride, x.dtype) &&
                    weight.dtype == DType::kBF16 && (bias == nullptr || out.dtype == DType::kF32);
  if (!fits) return false;
  const Plans::Plan* plan = plans_->of({weight.n, weight.k, weight.stride, out.dtype, bias != nullptr});
  if (plan == nullptr) return false;
  if (bias != nullptr)
    library_->product_set(plan->product.get(), kBiasPointer, static_cast<const void*>(&bias), sizeof bias);
  const Plans::Owned x_layout = plans_->matrix(kTypeBF16, weight.k, x.rows, x.stride);
  const Plans::Owned out_layout = plans_->matrix(type_of(out.dtype), weight.n, out.rows, out.stride);
  const float one = 1.0F;
  const float zero = 0.0F;
  return library_->multiply(library_->handle, plan->product.get(), &one, weight.data, plan->weight.get(), x.data,
                            x_layout.get(), &zero, out.data, out_layout.get(), out.data, out_layout.get(),
                            &plan->algorithm, workspace_.get(), kWorkspaceBytes, stream) == kSuccess;
}

}  // namespace heartmula::cuda
