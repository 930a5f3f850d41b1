// colonnade/comm/call.h
#pragma once

#include "colonnade/comm/call_site.h"
#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace colonnade {

/// How `all_reduce` and `reduce_scatter` combine the ranks' elements.
enum class ReduceOp : uint8_t {
  kSum,
  kMax,
  kMin,
  kProduct,
  kBitAnd,
  kBitOr,
  kBitXor,
};

/// "sum", "bitwise and".
COLONNADE_API std::string_view name_of(ReduceOp op);

/// The methods of Group that ranks call together.
enum class Collective : uint8_t {
  kAllReduce,
  kAllGather,
  kReduceScatter,
  kBroadcast,
  kAllToAll,
  kSend,
  kRecv,
  kBarrier,
};

/// What must be equal on all ranks of a call; 24 bytes, compared in each.
struct CallKey {
  Collective collective = Collective::kBarrier;
  ReduceOp reduce = ReduceOp::kSum;
  at::ScalarType dtype = at::kByte;
  uint8_t dims = 0;
  int32_t peer = -1;  ///< Root, dst or src, in the group.
  int64_t numel = 0;
  uint64_t shape_hash = 0;

  bool operator==(const CallKey&) const = default;
};

/// A call of a collective as one rank made it, for comparison and for people.
struct Call {
  static constexpr int kMaxDims = 8;  ///< Sizes beyond are in the hash alone.

  CallKey key;
  std::array<int64_t, kMaxDims> sizes{};
  CallSite site;

  bool is_collective() const {
    return key.collective != Collective::kSend &&
           key.collective != Collective::kRecv;
  }

  /// Describes the call that has `x` as its input, from the current site.
  static Call of(Collective collective, const at::Tensor& x);
  /// A barrier, which has none.
  static Call barrier();
};

/// "all_reduce", as the method of Group is called.
COLONNADE_API std::string_view name_of(Collective collective);

/// Such as "all_reduce(float32 [2, 64], sum) by layer mlp.down (backward)".
COLONNADE_API std::string to_string(const Call& call);

}  // namespace colonnade
