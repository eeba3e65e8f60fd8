# What is compiled by nvcc into the program (HEARTMULA_CUDA) and by the host's compiler for tests on an emulated GPU.
set(HEARTMULA_CUDA_SOURCES
  cublas_lt.cpp
  kernels/add_scaled.cu
  kernels/attend_all.cpp
  kernels/attend_all_bf16.cu
  kernels/attend_all_f32.cu
  kernels/attend_all_prepare.cu
  kernels/gemm.cpp
  kernels/gemm_bf16.cu
  kernels/gemm_f32.cu
  products.cpp
  runtime.cpp
)
