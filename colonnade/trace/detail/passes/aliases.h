// colonnade/trace/detail/passes/aliases.h
#pragma once

#include "colonnade/trace/graph.h"

#include <vector>

namespace colonnade::trace::detail {

/// Which values of a graph may lie in the same memory, by what the schemas of
/// the ops say, and by caution where they say nothing.
class Aliases {
 public:
  explicit Aliases(const Graph& graph);

  /// Whether no call writes to the memory of a value, and no caller of the
  /// graph can: it is not in an output.
  bool keeps_its_data(int value) const;

 private:
  void add(const Node& node);
  int root(int value) const;
  void join(int a, int b);

  std::vector<int> parents_;
  std::vector<bool> touched_;  ///< By root.
};

}  // namespace colonnade::trace::detail
