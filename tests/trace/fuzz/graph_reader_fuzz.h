// tests/trace/fuzz/graph_reader_fuzz.h
#pragma once

#include <string>

namespace colonnade::testing {

/// Does with a graph's file what loading does, short of running it: reads,
/// checks, prints, writes, optimizes and compiles it. Returns whether it was a
/// good one. Ends the process where what was written is read as something else,
/// and lets out what is no error of the library.
bool use_graph_text(const std::string& text);

}  // namespace colonnade::testing
