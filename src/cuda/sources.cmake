# What is compiled by nvcc into the program (HEARTMULA_CUDA) and by the host's compiler for tests on an emulated GPU.
set(HEARTMULA_CUDA_SOURCES
  runtime.cpp
)
