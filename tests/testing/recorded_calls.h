// tests/testing/recorded_calls.h
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace colonnade::testing {

/// What a recorder of dispatcher calls would note of `body` on this thread: op
/// by op the name and the arguments that are not tensors, such as
/// "aten::narrow(-1, 0, 29)". Code under `body` sees that it is recorded. Not
/// what ops call inside.
///
/// Expects of each op of ours that an output shares memory with an input only
/// where its schema says so.
std::vector<std::string> recorded_calls(const std::function<void()>& body);

}  // namespace colonnade::testing
