# HEARTMULA_CUDA: a toolkit that knows the newest cards, and the flags of every file that nvcc compiles.
set(HEARTMULA_LEAST_CUDA 12.9)  # knows compute capability 12.1
set(cuda_toolkit_hint "CUDA toolkit ${HEARTMULA_LEAST_CUDA} or newer: scripts/install-packages cuda, or "
                      "-DCMAKE_CUDA_COMPILER=/path/to/bin/nvcc")

find_program(CMAKE_CUDA_COMPILER NAMES $ENV{CUDACXX} nvcc
             HINTS ${PROJECT_SOURCE_DIR}/build/cuda-toolkit/nvidia/cu13/bin
             PATHS /usr/local/cuda/bin /opt/cuda/bin)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "HEARTMULA_CUDA needs nvcc of the " ${cuda_toolkit_hint})
endif()
# Asked before CMake tries it, for an older one does not know the architectures.
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE nvcc_version ERROR_QUIET)
string(REGEX MATCH "release ([0-9.]+)" nvcc_version "${nvcc_version}")
if(CMAKE_MATCH_1 VERSION_LESS HEARTMULA_LEAST_CUDA)
  message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} is of the CUDA toolkit '${CMAKE_MATCH_1}'; HEARTMULA_CUDA needs the "
                      ${cuda_toolkit_hint})
endif()

# Real code for every card since compute capability 8.0, and PTX of the newest for those to come.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90-real 100-real 120-real 121 CACHE STRING
      "Compute capabilities: NUMBER, NUMBER-real or NUMBER-virtual, or native")
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT DEFINED CMAKE_CUDA_HOST_COMPILER AND NOT DEFINED ENV{CUDAHOSTCXX})
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

# CMAKE_CXX_STANDARD counts for CUDA, too, but CMake 3.25 does not know nvcc's flag.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_EXTENSIONS OFF)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)

# No contraction, as everywhere (Compiler.cmake). The warnings are those that the code that nvcc writes around kernels
# survives.
set(cuda_flags -fmad=false --expt-relaxed-constexpr "SHELL:-Xcompiler -ffp-contract=off"
               "SHELL:-Xcompiler -Wall,-Wextra,-Wshadow,-Wnon-virtual-dtor,-Woverloaded-virtual,-Wimplicit-fallthrough")
if(HEARTMULA_WERROR)
  list(APPEND cuda_flags -Werror=all-warnings "SHELL:-Xcompiler -Werror")
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:${cuda_flags}>")
