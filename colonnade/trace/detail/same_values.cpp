// colonnade/trace/detail/same_values.cpp
#include "colonnade/trace/detail/same_values.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/recorder.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/max.h>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;

/// Relative to the largest element.
double tolerance_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
    case at::kComplexDouble:
      return 1e-11;
    case at::kFloat:
    case at::kComplexFloat:
      return 1e-5;
    default:
      return 1e-2;
  }
}

bool same_kind(const Tensor& a, const Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes();
}

}  // namespace

bool same_bits(const Tensor& a, const Tensor& b) {
  if (!same_kind(a, b)) {
    return false;
  }
  if (at::equal(a, b)) {
    return true;
  }
  const bool floating = a.is_floating_point() || a.is_complex();
  return floating && at::equal(a.isnan(), b.isnan()) &&
         at::equal(a.nan_to_num(0), b.nan_to_num(0));
}

std::string show_difference(const c10::IValue& got, const c10::IValue& wanted) {
  if (!wanted.isTensor() || !got.isTensor()) {
    return got == wanted ? "" : concat(got, " is not ", wanted);
  }
  const Tensor& a = got.toTensor();
  const Tensor& b = wanted.toTensor();
  if (same_bits(a, b)) {
    return "";
  }
  if (!same_kind(a, b) || !(b.is_floating_point() || b.is_complex())) {
    return concat(show_tensor(a), " is not ", show_tensor(b));
  }
  const double tolerance = tolerance_of(b.scalar_type());
  const double largest = b.abs().nan_to_num(0).max().item<double>();
  if (at::allclose(a, b, /*rtol=*/tolerance, /*atol=*/tolerance * largest,
                   /*equal_nan=*/true)) {
    return "";
  }
  return concat("the largest difference is ",
                (a - b).abs().nan_to_num(0).max().item<double>(), ", of ",
                show_tensor(a), " and ", show_tensor(b));
}

}  // namespace colonnade::trace::detail
