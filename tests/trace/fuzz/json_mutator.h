// tests/trace/fuzz/json_mutator.h
#pragma once

#include <cstdint>
#include <string>

namespace colonnade::testing {

/// The text of a graph with one thing changed: a part replaced, removed, or put
/// in another's place, a call made one of another op, or bytes changed. The
/// same for the same seed.
std::string mutate_graph_text(const std::string& text, uint64_t seed);

/// The text with the schemas that this process has, so that a graph of another
/// torch is read too.
std::string with_running_schemas(const std::string& text);

}  // namespace colonnade::testing
