// tests/comm/cuda_stand_in/cuda_runtime.h
//
// What nccl.h needs of CUDA's headers, so that it can be read without them.
#pragma once

typedef struct CUstream_st* cudaStream_t;
