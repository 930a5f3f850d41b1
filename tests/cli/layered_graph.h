// tests/cli/layered_graph.h
#pragma once

#include "colonnade/trace/graph.h"

namespace colonnade::cli {

/// ids -> embedding -> n layers of x + silu(linear(norm(x))) -> head, written
/// by hand. The head gathers; nothing else is a collective.
trace::Graph layered_graph(int layers);

}  // namespace colonnade::cli
