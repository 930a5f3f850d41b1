// colonnade/comm/detail/nccl_backend.h
#pragma once

#include "colonnade/comm/rendezvous.h"
#include "colonnade/comm/world.h"

#include <chrono>
#include <string>
#include <vector>

namespace colonnade::detail {

/// What is missing: torch's CUDA half, a device, or NCCL.
std::string why_no_nccl();

/// How many devices there are; 0 where torch's CUDA half is not loaded.
int cuda_devices();

/// Worlds whose groups exchange tensors of CUDA devices, each rank of its own,
/// and those of the CPU too: over threads, over shm where all ranks share a
/// host, else over gloo.
std::vector<WorldPtr> make_nccl_thread_worlds(
    int size, std::chrono::milliseconds timeout);
WorldPtr make_nccl_world(const ProcessPlace& place);

}  // namespace colonnade::detail
