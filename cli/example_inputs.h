// cli/example_inputs.h
#pragma once

#include "colonnade/trace/graph.h"

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace colonnade::cli {

/// Sizes of dims 0 and 1 of the inputs, where these vary; empty: as in the
/// example.
struct InputSize {
  std::optional<int64_t> batch;
  std::optional<int64_t> seq;
};

/// What a graph can be called with to see how long that takes: ids are 0, other
/// numbers 1.
///
/// Errors  InvalidArgument where inputs are nested, or a size that was asked
///         for is fixed to another
std::vector<c10::IValue> example_inputs(const trace::Graph& graph,
                                        const InputSize& size);

}  // namespace colonnade::cli
