// Marks functions that GPU kernels call, too.
#pragma once

#ifdef __CUDACC__
#define HEARTMULA_EVERYWHERE __host__ __device__
#else
#define HEARTMULA_EVERYWHERE
#endif
