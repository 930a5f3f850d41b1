// colonnade/trace/detail/input_sizes.cpp
#include "colonnade/trace/detail/input_sizes.h"

#include "colonnade/core/error.h"

#include <ATen/ops/arange.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;
using c10::IValue;

/// The tensor with other sizes, its contents repeated along each dim.
Tensor repeat_to(Tensor tensor, const std::vector<int64_t>& sizes) {
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    const int64_t size = sizes[static_cast<size_t>(dim)];
    if (size != tensor.size(dim)) {
      const Tensor index =
          at::arange(size, tensor.options().dtype(at::kLong))
              .remainder(std::max<int64_t>(tensor.size(dim), 1));
      tensor = tensor.index_select(dim, index);
    }
  }
  return tensor;
}

InputSizes changed(InputSizes sizes, const std::vector<Place>& places,
                   int64_t value) {
  for (const Place& place : places) {
    if (place.dim < 0) {
      sizes.ints[place.leaf] = value;
    } else {
      sizes.dims[place.leaf][static_cast<size_t>(place.dim)] = value;
    }
  }
  return sizes;
}

/// Values to try in place of `n`, the likeliest first: multiples of `step`
/// where `n` is one. None is below `least`.
std::vector<int64_t> candidates(int64_t n, int64_t step, int64_t least) {
  const int64_t first = n % step == 0 ? step : 1;
  std::vector<int64_t> result;
  for (const int64_t value :
       {n + first, 2 * n, n + 2 * first, n + step, n + 1, n + 3, 3 * n,
        n - first, n / 2, n - step, n - 1}) {
    if (value >= least && value != n &&
        std::ranges::find(result, value) == result.end()) {
      result.push_back(value);
    }
  }
  return result;
}

class Search {
 public:
  Search(const std::vector<IValue>& leaves, int64_t step,
         const TrySizes& try_sizes)
      : leaves_(leaves),
        example_(sizes_of(leaves)),
        step_(step),
        try_sizes_(try_sizes) {}

  /// The least value to try. Fewer features than the example has are not tried:
  /// a program that takes the third of some parts without looking how many
  /// there are would not throw but crash.
  int64_t least_of(const std::vector<Place>& places) const {
    int64_t least = 0;
    for (const Place& place : places) {
      const bool is_feature =
          place.dim >= 1 &&
          place.dim + 1 == static_cast<int>(example_.dims[place.leaf].size()) &&
          leaves_[place.leaf].toTensor().is_floating_point();
      least = std::max<int64_t>(least, is_feature ? value_at(example_, place)
                                       : place.dim >= 0 ? 2
                                                        : 0);
    }
    return least;
  }

  /// Changes the places together. Empty where the model takes no other value.
  std::vector<int64_t> good_values(const std::vector<Place>& places,
                                   size_t wanted) const {
    std::vector<int64_t> good;
    for (const int64_t value :
         candidates(value_at(example_, places[0]), step_, least_of(places))) {
      if (good.size() < wanted &&
          try_sizes_(changed(example_, places, value))) {
        good.push_back(value);
      }
    }
    return good;
  }

  /// Of places that are equal in the example, those that vary: on their own
  /// where they can, else together.
  void add(const std::vector<Place>& places,
           std::vector<VaryingPlaces>& varying) const {
    constexpr size_t kWanted = 2;  // one to record, one to check with
    const std::vector<int64_t> together = good_values(places, kWanted);
    if (places.size() == 1) {
      if (!together.empty()) {
        varying.push_back({places, together});
      }
      return;
    }
    std::vector<Place> tied;
    for (const Place& place : places) {
      const std::vector<int64_t> alone = good_values({place}, kWanted);
      if (!alone.empty()) {
        varying.push_back({{place}, alone});
      } else {
        tied.push_back(place);
      }
    }
    if (tied.size() == places.size() && !together.empty()) {
      varying.push_back({places, together});
    } else if (tied.size() > 1) {
      add_tied(tied, varying);
    }
  }

 private:
  /// Places of which none varies alone: all at once, else those of one dim.
  void add_tied(const std::vector<Place>& places,
                std::vector<VaryingPlaces>& varying) const {
    const std::vector<int64_t> together = good_values(places, 2);
    if (!together.empty()) {
      varying.push_back({places, together});
      return;
    }
    std::map<int, std::vector<Place>> by_dim;
    for (const Place& place : places) {
      by_dim[place.dim].push_back(place);
    }
    for (const auto& [dim, same] : by_dim) {
      if (same.size() > 1 && same.size() < places.size()) {
        const std::vector<int64_t> good = good_values(same, 2);
        if (!good.empty()) {
          varying.push_back({same, good});
        }
      }
    }
  }

  const std::vector<IValue>& leaves_;
  InputSizes example_;
  int64_t step_;
  const TrySizes& try_sizes_;
};

/// The dims that the caller names, each on its own.
std::vector<VaryingPlaces> named_dims(
    const std::vector<IValue>& leaves, const InputSizes& example,
    const std::vector<std::vector<int64_t>>& dynamic, int64_t step,
    const TrySizes& try_sizes) {
  const Search search(leaves, step, try_sizes);
  std::map<int64_t, std::vector<Place>> by_size;
  size_t tensor = 0;
  for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
    if (!leaves[leaf].isTensor()) {
      continue;
    }
    const auto& dims = example.dims[leaf];
    for (const int64_t dim :
         tensor < dynamic.size() ? dynamic[tensor] : std::vector<int64_t>()) {
      check_arg(0 <= dim && dim < static_cast<int64_t>(dims.size()),
                "trace: dynamic_dims names dim ", dim, " of tensor ", tensor,
                ", which has ", dims.size(), " dims; count from the front");
      by_size[dims[static_cast<size_t>(dim)]].push_back(
          {leaf, static_cast<int>(dim)});
    }
    ++tensor;
  }
  check_arg(dynamic.size() <= tensor, "trace: dynamic_dims has ",
            dynamic.size(), " lists, and the inputs ", tensor,
            " tensors; give one list for each");
  std::vector<VaryingPlaces> varying;
  for (const auto& [size, places] : by_size) {
    const size_t before = varying.size();
    search.add(places, varying);
    check_arg(varying.size() > before,
              "trace: dynamic_dims names a dim of size ", size,
              ", but the model throws at every other size that was "
              "tried; leave it out");
  }
  return varying;
}

/// The floats that may vary, each tried by itself: some lie in [0, 1], such as
/// a probability.
std::vector<VaryingFloat> find_floats(const std::vector<IValue>& leaves,
                                      const InputSizes& example,
                                      const TrySizes& try_sizes) {
  std::vector<VaryingFloat> floats;
  for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
    if (!leaves[leaf].isDouble()) {
      continue;
    }
    const double value = example.floats[leaf];
    for (const double other : {1.5 * value + 0.25, value / 2}) {
      InputSizes sizes = example;
      sizes.floats[leaf] = other;
      if (other != value && try_sizes(sizes)) {
        floats.push_back({leaf, other});
        break;
      }
    }
  }
  return floats;
}

}  // namespace

InputSizes sizes_of(const std::vector<IValue>& leaves) {
  InputSizes sizes;
  for (const IValue& leaf : leaves) {
    sizes.dims.push_back(leaf.isTensor() ? leaf.toTensor().sizes().vec()
                                         : std::vector<int64_t>());
    sizes.ints.push_back(leaf.isInt() ? leaf.toInt() : 0);
    sizes.floats.push_back(leaf.isDouble() ? leaf.toDouble() : 0);
  }
  return sizes;
}

std::string to_string(const InputSizes& sizes) {
  std::string text;
  for (size_t leaf = 0; leaf < sizes.dims.size(); ++leaf) {
    text += leaf == 0 ? "at inputs " : ", ";
    if (!sizes.dims[leaf].empty()) {
      text += concat(at::IntArrayRef(sizes.dims[leaf]));
    } else {
      text += sizes.floats[leaf] != 0 ? concat(sizes.floats[leaf])
                                      : concat(sizes.ints[leaf]);
    }
  }
  return text;
}

std::vector<IValue> resize(const std::vector<IValue>& example,
                           const InputSizes& sizes) {
  std::vector<IValue> result;
  for (size_t leaf = 0; leaf < example.size(); ++leaf) {
    const IValue& value = example[leaf];
    if (value.isTensor()) {
      result.push_back(repeat_to(value.toTensor(), sizes.dims[leaf]));
    } else if (value.isInt()) {
      result.push_back(sizes.ints[leaf]);
    } else if (value.isDouble()) {
      result.push_back(sizes.floats[leaf]);
    } else {
      result.push_back(value);
    }
  }
  return result;
}

int64_t value_at(const InputSizes& sizes, const Place& place) {
  return place.dim < 0 ? sizes.ints[place.leaf]
                       : sizes.dims[place.leaf][static_cast<size_t>(place.dim)];
}

Varying find_varying(const std::vector<IValue>& leaves,
                     const std::vector<std::vector<int64_t>>& dynamic,
                     int64_t step, const TrySizes& try_sizes) {
  const InputSizes example = sizes_of(leaves);
  const Search search(leaves, step, try_sizes);
  Varying varying;
  std::vector<VaryingPlaces>& places = varying.places;
  if (!dynamic.empty()) {
    places = named_dims(leaves, example, dynamic, step, try_sizes);
  } else {
    std::map<int64_t, std::vector<Place>> by_size;
    for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
      for (size_t dim = 0; dim < example.dims[leaf].size(); ++dim) {
        if (example.dims[leaf][dim] >= 2) {
          by_size[example.dims[leaf][dim]].push_back(
              {leaf, static_cast<int>(dim)});
        }
      }
    }
    for (const auto& [size, equal] : by_size) {
      search.add(equal, places);
    }
  }
  for (size_t leaf = 0; leaf < leaves.size(); ++leaf) {
    if (leaves[leaf].isInt()) {
      search.add({{leaf, -1}}, places);
    }
  }
  // Dims that vary apart may still not vary at once: fix the last ones.
  while (places.size() > 1 && !try_sizes(all_changed(example, varying, 0))) {
    places.pop_back();
  }
  varying.floats = find_floats(leaves, example, try_sizes);
  while (!varying.floats.empty() &&
         !try_sizes(all_changed(example, varying, 0))) {
    varying.floats.pop_back();
  }
  return varying;
}

InputSizes all_changed(const InputSizes& example, const Varying& varying,
                       size_t choice) {
  InputSizes sizes = example;
  for (const VaryingPlaces& variable : varying.places) {
    sizes = changed(std::move(sizes), variable.places,
                    variable.good[std::min(choice, variable.good.size() - 1)]);
  }
  for (const VaryingFloat& variable : varying.floats) {
    sizes.floats[variable.leaf] = variable.good;
  }
  return sizes;
}

bool differs_only_in(const Varying& varying, const InputSizes& example,
                     InputSizes sizes) {
  for (const VaryingPlaces& variable : varying.places) {
    for (const Place& place : variable.places) {
      sizes = changed(std::move(sizes), {place}, value_at(example, place));
    }
  }
  for (const VaryingFloat& variable : varying.floats) {
    sizes.floats[variable.leaf] = example.floats[variable.leaf];
  }
  return sizes == example;
}

}  // namespace colonnade::trace::detail
