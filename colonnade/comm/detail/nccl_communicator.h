// colonnade/comm/detail/nccl_communicator.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/nccl_api.h"
#include "colonnade/core/api.h"

#include <c10/core/Device.h>

#include <cstdint>
#include <string>

namespace colonnade::detail {

/// A rank's end of a NCCL communicator. It never waits, but for `close`: what
/// is started goes on until `poll` finds nothing under way. Errors are texts,
/// and empty where there is none.
class COLONNADE_API NcclCommunicator {
 public:
  /// Starts to make it, for tensors on `device`: rank `rank` of `size`, which
  /// all give the same `id`.
  NcclCommunicator(const nccl::Api& api, at::Device device,
                   const nccl::UniqueId& id, int rank, int size);
  ~NcclCommunicator();  ///< Aborts what was not closed.
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  /// One call of a group: the parts of it in which backends differ.
  struct Transfer {
    Collective collective;
    ReduceOp op = ReduceOp::kSum;
    int peer = -1;  ///< Root, dst or src.
    at::ScalarType dtype = at::kByte;
    const void* from = nullptr;
    void* to = nullptr;
    int64_t from_numel = 0;
    int64_t to_numel = 0;
  };
  /// Puts it into the stream. Nothing else is under way.
  std::string start(const Transfer& transfer, nccl::Stream* stream);

  struct Progress {
    bool is_under_way;
    std::string error;
  };
  /// Of what the host does; the device has its stream.
  Progress poll();

  /// Ends it with the others, as soon as they do so; without them after a
  /// while.
  void close() noexcept;
  /// Ends it without them, and what its stream holds of it.
  void abort() noexcept;

  /// Whether NCCL combines such elements so.
  static bool combines(at::ScalarType dtype, ReduceOp op);

 private:
  std::string text_of(const char* call, nccl::Result result) const;
  nccl::Result exchange_parts(const Transfer& transfer, nccl::Stream* stream);

  const nccl::Api& api_;
  at::Device device_;
  int size_;
  nccl::Comm* comm_ = nullptr;
  std::string broken_;  ///< Why it could not even be begun.
};

}  // namespace colonnade::detail
