#include <dlfcn.h>
#include <stdlib.h>

#include "base/testing.h"
#include "cuda/arrays.h"
#include "cuda/many_products.h"

namespace heartmula::testing_cuda {
namespace {

using cuda::GemmEpilogue;
using cuda::ManyProducts;

ManyProducts products_with(const char* library) {
  setenv("HEARTMULA_CUBLASLT", library, 1);
  return ManyProducts();
}
class FakeLibrary {
 public:
  FakeLibrary() : library_(dlopen(HEARTMULA_FAKE_CUBLASLT, RTLD_NOW)) {
    *static_cast<decltype(&cudaStreamSynchronize)*>(dlsym(library_, "fake_cublas_lt_wait")) = cudaStreamSynchronize;
  }
  int products() const { return *static_cast<int*>(dlsym(library_, "fake_cublas_lt_products")); }

 private:
  void* library_;
};

struct Operands {
  explicit Operands(int64_t n, int64_t k = 256)
      : x(rounded(random_array(kRows, k, 1), DType::kBF16)),
        w(rounded(random_array(n, k, 2), DType::kBF16)),
        before(random_array(kRows, n, 3)),
        vector(random_array(1, n, 4)),
        sum(oracle::product(x, w)),
        bound(oracle::product(oracle::absolute(x), oracle::absolute(w))),
        device_x(x, DType::kBF16),
        device_w(w, DType::kBF16, {}),
        device_vector(vector, DType::kF32),
        weight{View(device_w).data, DType::kBF16, n, k, View(device_w).stride} {}

  /// `before`, then the product.
  Array multiply(ManyProducts& products, const GemmEpilogue& epilogue) const {
    const DeviceArray out(before, DType::kF32);
    products.multiply(nullptr, out, {ConstView(device_x)}, weight, epilogue);
    return out.read();
  }
  void expect(const Array& got, double by_vector, bool add) const {
    Array want = sum;
    Array limit = bound;
    for (int64_t r = 0; r < want.rows; ++r) {
      for (int64_t n = 0; n < want.cols; ++n) {
        if (add) want.at(r, n) = before.at(r, n) + vector.at(0, n) * want.at(r, n);
        want.at(r, n) += by_vector * vector.at(0, n);
        limit.at(r, n) = std::fabs(before.at(r, n)) + (2 + std::fabs(vector.at(0, n))) * (1 + limit.at(r, n));
      }
    }
    expect_near(got, want, limit, 0x1p-22, 1e-4);
  }

  static constexpr int64_t kRows = 9;
  Array x, w, before, vector, sum, bound;
  DeviceArray device_x, device_w, device_vector;
  cuda::GemmWeight weight;
};

TEST(ManyProducts, are_the_librarys_where_it_has_an_algorithm_and_gemms_elsewhere) {
  const FakeLibrary fake;
  ManyProducts products = products_with(HEARTMULA_FAKE_CUBLASLT);
  EXPECT_EQ(products.description(), "cuBLASLt 13.2.5");
  // It has none for 264 outputs; 32 are too few.
  for (const auto& [n, by_library] : {std::pair<int64_t, int>{256, 4}, {264, 0}, {300, 4}, {32, 0}}) {
    SCOPED_TRACE(testing::Message() << n << " outputs");
    const int before = fake.products();
    const Operands o(n);
    const float* vector = o.device_vector.floats();
    o.expect(o.multiply(products, {}), 0, false);
    o.expect(o.multiply(products, {.bias = vector}), 1, false);
    o.expect(o.multiply(products, {.gain = vector, .add = true}), 0, true);
    o.expect(o.multiply(products, {}), 0, false);  // no bias is left over
    EXPECT_EQ(fake.products() - before, by_library);

    const DeviceArray gated(Operands::kRows, n / 2, DType::kBF16);
    products.multiply(nullptr, gated, {ConstView(o.device_x)}, o.weight, {.gate = true});
    Array want(Operands::kRows, n / 2);
    Array gate_bound = want;
    for (int64_t r = 0; r < want.rows; ++r) {
      for (int64_t i = 0; i < want.cols; ++i) {
        want.at(r, i) = oracle::silu(o.sum.at(r, 2 * i)) * o.sum.at(r, 2 * i + 1);
        gate_bound.at(r, i) = (1 + o.bound.at(r, 2 * i)) * (1 + o.bound.at(r, 2 * i + 1));
      }
    }
    expect_near(gated.read(), want, gate_bound, 3 * 0x1p-8, 1e-4);  // two sums and their product are rounded
    EXPECT_EQ(fake.products() - before, by_library / 4 * 5);
  }
}

TEST(ManyProducts, without_a_library_are_those_of_gemm) {
  ManyProducts products = products_with("off");
  EXPECT_EQ(products.description(), "");
  const Operands o(256);
  o.expect(o.multiply(products, {}), 0, false);
}

TEST(ManyProducts, a_library_that_was_named_must_be_there) {
  setenv("HEARTMULA_CUBLASLT", "/nowhere/libcublasLt.so", 1);
  EXPECT_THROW(ManyProducts(), Error);
  setenv("HEARTMULA_CUBLASLT", "", 1);
  EXPECT_EQ(ManyProducts().description(), "");  // on an emulated GPU
}

}  // namespace
}  // namespace heartmula::testing_cuda
