// colonnade/trace/detail/input_sizes.h
#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace colonnade::trace::detail {

/// What may vary of the leaves of the inputs: sizes, ints and floats.
struct InputSizes {
  std::vector<std::vector<int64_t>> dims;  ///< Of a tensor; else none.
  std::vector<int64_t> ints;               ///< Of an int; else 0.
  std::vector<double> floats;              ///< Of a float; else 0.
  bool operator==(const InputSizes&) const = default;
};

InputSizes sizes_of(const std::vector<c10::IValue>& leaves);

/// For errors: "at inputs [2, 6], 3".
std::string to_string(const InputSizes& sizes);

/// The example's leaves with other sizes, ints and floats. The contents of a
/// tensor repeat those of the example.
std::vector<c10::IValue> resize(const std::vector<c10::IValue>& example,
                                const InputSizes& sizes);

/// A size or an int of the inputs; `dim` is -1 for an int.
struct Place {
  size_t leaf = 0;
  int dim = -1;
  bool operator==(const Place&) const = default;
};

int64_t value_at(const InputSizes& sizes, const Place& place);

/// Numbers that change, together if there are several.
struct VaryingPlaces {
  std::vector<Place> places;
  std::vector<int64_t> good;  ///< Values at which the model ran.
};

struct VaryingFloat {
  size_t leaf = 0;
  double good = 0;  ///< Another value at which the model ran.
};

struct Varying {
  std::vector<VaryingPlaces> places;
  std::vector<VaryingFloat> floats;
};

/// Whether the model runs at these sizes.
using TrySizes = std::function<bool(const InputSizes&)>;

/// Finds what may vary: sizes that are equal in the example are changed
/// together first, then apart; one at which the model throws is fixed, and so
/// is a float. At the end all are changed at once.
///
/// leaves   of the example
/// dynamic  dims to vary, by tensor; empty: all of size 2 and more
/// step     a number of which the model may need multiples
/// Errors   InvalidArgument where `dynamic` names what does not exist, or the
///          model throws at a size that it names
Varying find_varying(const std::vector<c10::IValue>& leaves,
                     const std::vector<std::vector<int64_t>>& dynamic,
                     int64_t step, const TrySizes& try_sizes);

/// The example with every varying place at its `choice`-th good value (or the
/// last that it has), and every varying float at its own.
InputSizes all_changed(const InputSizes& example, const Varying& varying,
                       size_t choice);

/// Whether `sizes` differ from the example only in what varies.
bool differs_only_in(const Varying& varying, const InputSizes& example,
                     InputSizes sizes);

}  // namespace colonnade::trace::detail
