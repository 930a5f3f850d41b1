// colonnade/trace/detail/direct_call.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/trace/detail/operand.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace colonnade::trace::detail {

/// An op called with its C++ types, as eager code calls it: a view takes 64 ns
/// so, 94 through a stack of IValues (Zen 5; eager 55). There is one for ops
/// that are over in about a microsecond.
struct DirectCall {
  using Function = at::Tensor (*)(const std::vector<Operand>& arguments,
                                  const Sources& sources);
  Function call = nullptr;
  /// The same result, written over the first argument: of 16 floats a relu
  /// takes 0.54 of what it takes otherwise, of 8 MiB a sum 0.4.
  Function overwrite = nullptr;
};

/// The direct call of an op, for arguments of these kinds; empty where there is
/// none.
COLONNADE_API DirectCall
find_direct_call(const std::string& op, const std::vector<Operand>& arguments);

/// Whether `overwrite` gives the bits and the layout that `call` would: nobody
/// else holds the first argument or its memory, and the result would lie in
/// memory as it does.
COLONNADE_API bool may_overwrite(const std::vector<Operand>& arguments,
                                 const Sources& sources);

}  // namespace colonnade::trace::detail
