// tests/comm/nccl_api_check.cpp
//
// Compiles where nccl_api.h declares what nccl.h does.
#include "colonnade/comm/detail/nccl_api.h"

#include <nccl.h>

#include <cstddef>
#include <type_traits>

namespace colonnade::detail::nccl {
namespace {

/// Ours instead of NCCL's types, which differ in name only.
template <typename T>
struct Ours {
  using Type = T;
};
template <>
struct Ours<ncclResult_t> {
  using Type = Result;
};
template <>
struct Ours<ncclDataType_t> {
  using Type = DataType;
};
template <>
struct Ours<ncclRedOp_t> {
  using Type = RedOp;
};
template <>
struct Ours<ncclUniqueId> {
  using Type = UniqueId;
};
template <>
struct Ours<ncclConfig_t> {
  using Type = Config;
};
template <>
struct Ours<std::remove_pointer_t<ncclComm_t>> {
  using Type = Comm;
};
template <>
struct Ours<std::remove_pointer_t<cudaStream_t>> {
  using Type = Stream;
};
template <typename T>
struct Ours<T*> {
  using Type = typename Ours<T>::Type*;
};
template <typename R, typename... Parameters>
struct Ours<R(Parameters...)> {
  using Type = typename Ours<R>::Type(typename Ours<Parameters>::Type...);
};

template <typename Theirs>
using OursOf = typename Ours<Theirs>::Type;

#define CHECK_FUNCTION(ours, theirs) \
  static_assert(std::is_same_v<decltype(Api::ours), OursOf<decltype(theirs)>*>)
CHECK_FUNCTION(get_unique_id, ncclGetUniqueId);
CHECK_FUNCTION(comm_init_rank_config, ncclCommInitRankConfig);
CHECK_FUNCTION(comm_finalize, ncclCommFinalize);
CHECK_FUNCTION(comm_destroy, ncclCommDestroy);
CHECK_FUNCTION(comm_abort, ncclCommAbort);
CHECK_FUNCTION(comm_get_async_error, ncclCommGetAsyncError);
CHECK_FUNCTION(get_error_string, ncclGetErrorString);
CHECK_FUNCTION(all_reduce, ncclAllReduce);
CHECK_FUNCTION(broadcast, ncclBroadcast);
CHECK_FUNCTION(all_gather, ncclAllGather);
CHECK_FUNCTION(reduce_scatter, ncclReduceScatter);
CHECK_FUNCTION(send, ncclSend);
CHECK_FUNCTION(recv, ncclRecv);
CHECK_FUNCTION(group_start, ncclGroupStart);
CHECK_FUNCTION(group_end, ncclGroupEnd);
#undef CHECK_FUNCTION
// Its argument is a const one in some releases.
static_assert(
    std::is_invocable_r_v<const char*, decltype(ncclGetLastError), ncclComm_t>);

template <typename E>
constexpr int number(E value) {
  return static_cast<int>(value);
}

static_assert(number(Result::kSuccess) == number(ncclSuccess));
static_assert(number(Result::kInProgress) == number(ncclInProgress));
static_assert(number(DataType::kInt8) == number(ncclInt8));
static_assert(number(DataType::kUint8) == number(ncclUint8));
static_assert(number(DataType::kInt32) == number(ncclInt32));
static_assert(number(DataType::kInt64) == number(ncclInt64));
static_assert(number(DataType::kFloat16) == number(ncclFloat16));
static_assert(number(DataType::kFloat32) == number(ncclFloat32));
static_assert(number(DataType::kFloat64) == number(ncclFloat64));
static_assert(number(DataType::kBfloat16) == number(ncclBfloat16));
static_assert(number(RedOp::kSum) == number(ncclSum));
static_assert(number(RedOp::kProduct) == number(ncclProd));
static_assert(number(RedOp::kMax) == number(ncclMax));
static_assert(number(RedOp::kMin) == number(ncclMin));
static_assert(sizeof(Result) == sizeof(ncclResult_t));
static_assert(sizeof(DataType) == sizeof(ncclDataType_t));
static_assert(sizeof(RedOp) == sizeof(ncclRedOp_t));

static_assert(sizeof(UniqueId) == sizeof(ncclUniqueId));
static_assert(offsetof(Config, size) == offsetof(ncclConfig_t, size));
static_assert(offsetof(Config, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(Config, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(Config, blocking) == offsetof(ncclConfig_t, blocking));
static_assert(Config{}.version == NCCL_VERSION(2, 14, 0));
constexpr ncclConfig_t kInitial = NCCL_CONFIG_INITIALIZER;
static_assert(Config{}.magic == kInitial.magic);

}  // namespace
}  // namespace colonnade::detail::nccl
