// colonnade/comm/call.cpp
#include "colonnade/comm/call.h"

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <sstream>
#include <string_view>

namespace colonnade {

std::string_view name_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kMin:
      return "min";
    case ReduceOp::kProduct:
      return "product";
    case ReduceOp::kBitAnd:
      return "bitwise and";
    case ReduceOp::kBitOr:
      return "bitwise or";
    case ReduceOp::kBitXor:
      return "bitwise xor";
  }
  return "unknown";
}

std::string_view name_of(Collective collective) {
  switch (collective) {
    case Collective::kAllReduce:
      return "all_reduce";
    case Collective::kAllGather:
      return "all_gather";
    case Collective::kReduceScatter:
      return "reduce_scatter";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kAllToAll:
      return "all_to_all";
    case Collective::kSend:
      return "send";
    case Collective::kRecv:
      return "recv";
    case Collective::kBarrier:
      return "barrier";
  }
  return "unknown";
}

Call Call::of(Collective collective, const at::Tensor& x) {
  Call call;
  call.key.collective = collective;
  call.key.dtype = x.scalar_type();
  call.key.dims = static_cast<uint8_t>(x.dim());
  call.key.numel = x.numel();
  uint64_t hash = 0;
  const at::IntArrayRef sizes = x.sizes();
  for (size_t i = 0; i < sizes.size(); ++i) {
    // A multiplication and a shift a dim: equal shapes give equal hashes, and
    // others of the same dims and numel differ but by a chance of 2^-64.
    hash = (hash ^ static_cast<uint64_t>(sizes[i])) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
    if (i < kMaxDims) {
      call.sizes[i] = sizes[i];
    }
  }
  call.key.shape_hash = hash;
  if (const CallSite& site = CallSite::current(); !site.empty()) {
    call.site = site;
  }
  return call;
}

Call Call::barrier() {
  Call call;
  call.site = CallSite::current();
  return call;
}

std::string to_string(const Call& call) {
  const CallKey& key = call.key;
  std::ostringstream out;
  out << name_of(key.collective) << '(';
  if (key.collective != Collective::kBarrier) {
    out << c10::getDtypeNames(key.dtype).first << " [";
    for (int i = 0; i < std::min<int>(key.dims, Call::kMaxDims); ++i) {
      out << (i > 0 ? ", " : "") << call.sizes[static_cast<size_t>(i)];
    }
    out << (key.dims > Call::kMaxDims ? ", ...]" : "]");
  }
  switch (key.collective) {
    case Collective::kAllReduce:
    case Collective::kReduceScatter:
      out << ", " << name_of(key.reduce);
      break;
    case Collective::kBroadcast:
      out << ", root " << key.peer;
      break;
    case Collective::kSend:
      out << ", dst " << key.peer;
      break;
    case Collective::kRecv:
      out << ", src " << key.peer;
      break;
    default:
      break;
  }
  out << ')';
  if (!call.site.empty()) {
    out << " by " << call.site.text()
        << (call.site.is_backward() ? " (backward)" : "");
  }
  return out.str();
}

}  // namespace colonnade
