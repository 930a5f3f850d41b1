// colonnade/comm/detail/nccl_api.h
#pragma once

#include "colonnade/core/api.h"

#include <cstddef>
#include <string>

/// What of NCCL is used, as nccl.h of every release since 2.14 declares it
/// (tests/comm/nccl_api_check.cpp compares): that header needs those of CUDA,
/// and whoever uses the library on a CPU has neither.
namespace colonnade::detail::nccl {

struct Comm;    ///< Opaque, a communicator.
struct Stream;  ///< Opaque, a cudaStream_t points to one.

struct UniqueId {
  char internal[128];
};

enum class Result : int { kSuccess = 0, kInProgress = 7 };

enum class DataType : int {
  kInt8 = 0,
  kUint8 = 1,
  kInt32 = 2,
  kInt64 = 4,
  kFloat16 = 6,
  kFloat32 = 7,
  kFloat64 = 8,
  kBfloat16 = 9,
};

enum class RedOp : int { kSum = 0, kProduct = 1, kMax = 2, kMin = 3 };

/// How a communicator is to be; the fields of release 2.14, to which later
/// ones add.
struct Config {
  size_t size = sizeof(Config);
  unsigned int magic = 0xcafebeef;
  unsigned int version = 21400;
  int blocking = 0;  ///< Calls may return Result::kInProgress.
};

/// The functions, each called as in nccl.h.
struct Api {
  Result (*get_unique_id)(UniqueId* id);
  Result (*comm_init_rank_config)(Comm** comm, int ranks, UniqueId id, int rank,
                                  Config* config);
  Result (*comm_finalize)(Comm* comm);
  Result (*comm_destroy)(Comm* comm);
  Result (*comm_abort)(Comm* comm);
  Result (*comm_get_async_error)(Comm* comm, Result* result);
  const char* (*get_error_string)(Result result);
  const char* (*get_last_error)(Comm* comm);
  Result (*all_reduce)(const void* from, void* to, size_t count, DataType dtype,
                       RedOp op, Comm* comm, Stream* stream);
  Result (*broadcast)(const void* from, void* to, size_t count, DataType dtype,
                      int root, Comm* comm, Stream* stream);
  Result (*all_gather)(const void* from, void* to, size_t from_count,
                       DataType dtype, Comm* comm, Stream* stream);
  Result (*reduce_scatter)(const void* from, void* to, size_t to_count,
                           DataType dtype, RedOp op, Comm* comm,
                           Stream* stream);
  Result (*send)(const void* from, size_t count, DataType dtype, int peer,
                 Comm* comm, Stream* stream);
  Result (*recv)(void* to, size_t count, DataType dtype, int peer, Comm* comm,
                 Stream* stream);
  Result (*group_start)();
  Result (*group_end)();
};

struct Library {
  Api api{};
  std::string why_not;  ///< Why it cannot be had; empty where it can.
};

/// libnccl.so.2, loaded at the first call: the one that torch's CUDA libraries
/// have loaded, where they are there.
COLONNADE_API const Library& library();

}  // namespace colonnade::detail::nccl
