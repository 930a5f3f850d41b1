// colonnade/trace/detail/passes/calls.h
#pragma once

#include "colonnade/trace/detail/values.h"
#include "colonnade/trace/graph.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstddef>
#include <optional>
#include <string_view>

namespace colonnade::trace::detail {

// What passes ask about the calls of a graph. A value may be the result of
// several: an op in place gives the value that it is given.

/// The op of a call. The graph was checked, so there is one.
c10::OperatorHandle op_of(const Node& node);

/// "aten::add" of "aten::add.Tensor".
std::string_view base_name(const Node& node);

/// Whether an op writes to this argument, also where its schema is silent on
/// it, as on the running statistics of a normalization.
bool is_written(const c10::Argument& argument);

/// Whether a call has no effect but its results, which are the same whenever it
/// is made: it writes nothing, draws nothing, talks to no other rank, and is
/// neither a guard nor an assertion.
bool is_pure(const Node& node);

/// The value that is a call's only result; -1 where there is no such.
int only_result(const Node& node);

/// The one call that reads `value`, made by `graph.nodes[maker]`, before
/// anything else sees it: the only one at all, or one that overwrites it.
/// Nothing where others read it too, or it is an output.
std::optional<size_t> only_reader(const Graph& graph, size_t maker, int value);

bool is_output(const Graph& graph, int value);

/// Puts `to` in place of `from` in the arguments and results of a call.
void rename(Node& node, int from, int to);

/// A new value, like another.
int add_value(Graph& graph, int like);

}  // namespace colonnade::trace::detail
