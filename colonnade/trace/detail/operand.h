// colonnade/trace/detail/operand.h
#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {

/// An argument as replay finds it: a constant made once, or where to look.
struct Operand {
  enum class Kind : uint8_t {
    kConstant,
    kValue,
    kLastValue,        ///< Nobody asks for the value after this.
    kInt,              ///< Of an expression.
    kFloat,            ///< Of an input.
    kNumber,           ///< A wrapped number made of an int or a float.
    kTensors,          ///< A list of values.
    kOptionalTensors,  ///< A list of values and nothing.
    kInts,             ///< A list in which some are of expressions.
  };

  Kind kind = Kind::kConstant;
  int index = -1;  ///< Of the value, expression or input.
  c10::IValue constant;
  std::vector<int> values;                    ///< -1: nothing.
  std::vector<int64_t> ints;                  ///< With places for these:
  std::vector<std::pair<int, int>> computed;  ///< Place, expression.
  std::vector<Operand> number;                ///< One: what a kNumber wraps.
};

/// What a call brings along, beside the leaves of its inputs: the value of each
/// of Graph::expressions at this degree.
using Numbers = std::vector<int64_t>;

/// Where operands look.
struct Sources {
  std::vector<c10::IValue>& values;
  const std::vector<c10::IValue>& inputs;
  const Numbers& numbers;
};

}  // namespace colonnade::trace::detail
