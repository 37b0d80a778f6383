// Functions of one item (a pair, a row, a draw) are compiled for the host and, under nvcc, for the device, so that
// testing the CPU operators tests the logic of both.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define GRAPHMEM_HD __host__ __device__ __forceinline__
#else
#define GRAPHMEM_HD inline
#endif
