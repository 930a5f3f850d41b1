// colonnade/trace/detail/same_values.h
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <string>

namespace colonnade::trace::detail {

/// Equal shapes, dtypes and bits; nan equals nan.
bool same_bits(const at::Tensor& a, const at::Tensor& b);

/// How two leaves differ, for people; empty where they are equal, or within the
/// rounding of their dtype, which differs where memory is aligned in another
/// way.
std::string show_difference(const c10::IValue& got, const c10::IValue& wanted);

}  // namespace colonnade::trace::detail
