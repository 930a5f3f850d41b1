// colonnade/comm/detail/nccl_communicator.cpp
#include "colonnade/comm/detail/nccl_communicator.h"

#include "colonnade/core/error.h"

#include <c10/core/DeviceGuard.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <thread>

namespace colonnade::detail {
namespace {

using nccl::DataType;
using nccl::Result;

/// How long the others may take to close too.
constexpr std::chrono::milliseconds kClosing = std::chrono::seconds(5);
constexpr std::chrono::milliseconds kNap{1};

std::optional<DataType> type_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return DataType::kFloat32;
    case at::kDouble:
      return DataType::kFloat64;
    case at::kHalf:
      return DataType::kFloat16;
    case at::kBFloat16:
      return DataType::kBfloat16;
    case at::kByte:
      return DataType::kUint8;
    case at::kChar:
      return DataType::kInt8;
    case at::kInt:
      return DataType::kInt32;
    case at::kLong:
      return DataType::kInt64;
    default:
      return std::nullopt;
  }
}

std::optional<nccl::RedOp> op_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return nccl::RedOp::kSum;
    case ReduceOp::kProduct:
      return nccl::RedOp::kProduct;
    case ReduceOp::kMax:
      return nccl::RedOp::kMax;
    case ReduceOp::kMin:
      return nccl::RedOp::kMin;
    default:
      return std::nullopt;
  }
}

bool is_good(Result result) {
  return result == Result::kSuccess || result == Result::kInProgress;
}

}  // namespace

NcclCommunicator::NcclCommunicator(const nccl::Api& api, at::Device device,
                                   const nccl::UniqueId& id, int rank, int size)
    : api_(api), device_(device), size_(size) {
  const c10::DeviceGuard guard(device_);
  nccl::Config config;
  broken_ =
      text_of("ncclCommInitRankConfig",
              api_.comm_init_rank_config(&comm_, size, id, rank, &config));
}

NcclCommunicator::~NcclCommunicator() {
  abort();
}

bool NcclCommunicator::combines(at::ScalarType dtype, ReduceOp op) {
  return type_of(dtype).has_value() && op_of(op).has_value();
}

std::string NcclCommunicator::text_of(const char* call, Result result) const {
  if (is_good(result)) {
    return {};
  }
  const char* const last = api_.get_last_error(comm_);
  return concat(call, ": ", api_.get_error_string(result),
                last == nullptr || *last == '\0' ? "" : ", ",
                last == nullptr ? "" : last);
}

std::string NcclCommunicator::start(const Transfer& transfer,
                                    nccl::Stream* stream) {
  const c10::DeviceGuard guard(device_);
  // What is only copied goes as bytes, so that it may be of any type.
  const auto bytes = static_cast<size_t>(transfer.from_numel) *
                     at::elementSize(transfer.dtype);
  const auto type = type_of(transfer.dtype).value_or(DataType::kUint8);
  const void* const from = transfer.from;
  void* const to = transfer.to;
  switch (transfer.collective) {
    case Collective::kAllReduce:
      return text_of(
          "ncclAllReduce",
          api_.all_reduce(from, to, static_cast<size_t>(transfer.from_numel),
                          type, *op_of(transfer.op), comm_, stream));
    case Collective::kReduceScatter:
      return text_of(
          "ncclReduceScatter",
          api_.reduce_scatter(from, to, static_cast<size_t>(transfer.to_numel),
                              type, *op_of(transfer.op), comm_, stream));
    case Collective::kAllGather:
      return text_of(
          "ncclAllGather",
          api_.all_gather(from, to, bytes, DataType::kUint8, comm_, stream));
    case Collective::kBroadcast:
      return text_of("ncclBroadcast",
                     api_.broadcast(from, to, bytes, DataType::kUint8,
                                    transfer.peer, comm_, stream));
    case Collective::kSend:
      return text_of("ncclSend", api_.send(from, bytes, DataType::kUint8,
                                           transfer.peer, comm_, stream));
    case Collective::kRecv:
      return text_of("ncclRecv", api_.recv(to, bytes, DataType::kUint8,
                                           transfer.peer, comm_, stream));
    case Collective::kAllToAll:
      return text_of("ncclSend and ncclRecv", exchange_parts(transfer, stream));
    case Collective::kBarrier:
      break;
  }
  return {};
}

Result NcclCommunicator::exchange_parts(const Transfer& transfer,
                                        nccl::Stream* stream) {
  const size_t part = static_cast<size_t>(transfer.from_numel) *
                      at::elementSize(transfer.dtype) /
                      static_cast<size_t>(size_);
  const auto* from = static_cast<const std::byte*>(transfer.from);
  auto* to = static_cast<std::byte*>(transfer.to);
  Result result = api_.group_start();
  for (int peer = 0; peer < size_ && is_good(result); ++peer) {
    result = api_.send(from, part, DataType::kUint8, peer, comm_, stream);
    if (is_good(result)) {
      result = api_.recv(to, part, DataType::kUint8, peer, comm_, stream);
    }
    from += part;
    to += part;
  }
  const Result end = api_.group_end();
  return is_good(result) ? end : result;
}

NcclCommunicator::Progress NcclCommunicator::poll() {
  if (!broken_.empty() || comm_ == nullptr) {
    return {.is_under_way = false, .error = broken_};
  }
  Result state = Result::kSuccess;
  const Result result = api_.comm_get_async_error(comm_, &state);
  if (!is_good(result)) {
    return {.is_under_way = false,
            .error = text_of("ncclCommGetAsyncError", result)};
  }
  return {.is_under_way = state == Result::kInProgress,
          .error = text_of("NCCL", state)};
}

void NcclCommunicator::close() noexcept {
  if (comm_ == nullptr) {
    return;
  }
  const c10::DeviceGuard guard(device_);
  if (!is_good(api_.comm_finalize(comm_))) {
    abort();
    return;
  }
  const auto end = std::chrono::steady_clock::now() + kClosing;
  Result state = Result::kInProgress;
  while (is_good(api_.comm_get_async_error(comm_, &state)) &&
         state == Result::kInProgress &&
         std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(kNap);
  }
  if (state != Result::kSuccess) {
    abort();
    return;
  }
  api_.comm_destroy(comm_);
  comm_ = nullptr;
}

void NcclCommunicator::abort() noexcept {
  if (comm_ != nullptr) {
    const c10::DeviceGuard guard(device_);
    api_.comm_abort(comm_);
    comm_ = nullptr;
  }
}

}  // namespace colonnade::detail
