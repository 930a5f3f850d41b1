// colonnade/trace/detail/unify.h
#pragma once

#include "colonnade/trace/graph.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace colonnade::trace::detail {

/// A recorded graph, and what the variables were.
struct Observation {
  const Graph* graph = nullptr;
  std::vector<int64_t> variables;  ///< One for each of the Graph::variables.
  std::string where;               ///< For errors: "on rank 1", "at input …".
};

/// One graph that is each of the observed ones at its variables: ints that
/// differ become expressions of the variables, and floats that differ the float
/// inputs that they equal.
///
/// skeleton  variables and inputs of the graph to be; the rest is of the first
///           observation
/// Errors    InvalidArgument names the op, the argument and the values of the
///           first two observations that cannot be reconciled
Graph unify(const Graph& skeleton,
            const std::vector<Observation>& observations);

/// The simplest expression with these values: a product of variables with a
/// factor or divided, also by the degree; a sum of multiples; a rounded
/// division.
///
/// values     one an observation
/// variables  of each observation
std::optional<Expression> find_expression(
    const std::vector<int64_t>& values,
    const std::vector<std::vector<int64_t>>& variables);

}  // namespace colonnade::trace::detail
