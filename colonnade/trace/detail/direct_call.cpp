// colonnade/trace/detail/direct_call.cpp
#include "colonnade/trace/detail/direct_call.h"

#include <ATen/core/ATen_fwd.h>
#include <ATen/ops/abs_ops.h>
#include <ATen/ops/add_ops.h>
#include <ATen/ops/clamp_ops.h>
#include <ATen/ops/cos_ops.h>
#include <ATen/ops/detach_ops.h>
#include <ATen/ops/div_ops.h>
#include <ATen/ops/exp_ops.h>
#include <ATen/ops/expand_ops.h>
#include <ATen/ops/flatten_ops.h>
#include <ATen/ops/gelu_ops.h>
#include <ATen/ops/hardtanh_ops.h>
#include <ATen/ops/leaky_relu_ops.h>
#include <ATen/ops/log_ops.h>
#include <ATen/ops/masked_fill_ops.h>
#include <ATen/ops/mul_ops.h>
#include <ATen/ops/narrow_ops.h>
#include <ATen/ops/neg_ops.h>
#include <ATen/ops/permute_ops.h>
#include <ATen/ops/pow_ops.h>
#include <ATen/ops/relu_ops.h>
#include <ATen/ops/reshape_ops.h>
#include <ATen/ops/rsqrt_ops.h>
#include <ATen/ops/select_ops.h>
#include <ATen/ops/sigmoid_ops.h>
#include <ATen/ops/silu_ops.h>
#include <ATen/ops/sin_ops.h>
#include <ATen/ops/slice_ops.h>
#include <ATen/ops/sqrt_ops.h>
#include <ATen/ops/square_ops.h>
#include <ATen/ops/squeeze_ops.h>
#include <ATen/ops/sub_ops.h>
#include <ATen/ops/t_ops.h>
#include <ATen/ops/tanh_ops.h>
#include <ATen/ops/transpose_ops.h>
#include <ATen/ops/unflatten_ops.h>
#include <ATen/ops/unsqueeze_ops.h>
#include <ATen/ops/view_ops.h>
#include <c10/core/Scalar.h>
#include <c10/core/SymIntArrayRef.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace colonnade::trace::detail {
namespace {

namespace ops = at::_ops;
using at::Scalar;
using at::Tensor;
using c10::SymInt;
using Kind = Operand::Kind;
using Operands = std::vector<Operand>;

int64_t int_of(const Operand& operand, const Sources& sources) {
  return operand.kind == Kind::kInt
             ? sources.numbers[static_cast<size_t>(operand.index)]
             : operand.constant.toInt();
}

Scalar scalar_of(const Operand& operand, const Sources& sources) {
  switch (operand.kind) {
    case Kind::kInt:
      return sources.numbers[static_cast<size_t>(operand.index)];
    case Kind::kFloat:
      return sources.inputs[static_cast<size_t>(operand.index)].toScalar();
    default:
      return operand.constant.toScalar();
  }
}

bool is_nothing(const Operand& operand) {
  return operand.kind == Kind::kConstant && operand.constant.isNone();
}

Tensor& tensor_of(const Operand& operand, const Sources& sources) {
  return sources.values[static_cast<size_t>(operand.index)].toTensor();
}

/// A list of ints, which lives as long as the call.
class Ints {
 public:
  Ints(const Operand& operand, const Sources& sources) : ints_(operand.ints) {
    if (!operand.computed.empty()) {
      own_.assign(operand.ints.begin(), operand.ints.end());
      for (const auto& [place, expression] : operand.computed) {
        own_[static_cast<size_t>(place)] =
            sources.numbers[static_cast<size_t>(expression)];
      }
      ints_ = own_;
    }
  }
  Ints(const Ints&) = delete;
  Ints& operator=(const Ints&) = delete;

  operator at::IntArrayRef() const { return ints_; }
  operator c10::SymIntArrayRef() const {
    return c10::fromIntArrayRefSlow(ints_);
  }

 private:
  at::IntArrayRef ints_;
  c10::SmallVector<int64_t, 8> own_;  // with those that are computed
};

/// An operand as the parameter of type T takes it.
template <typename T>
decltype(auto) argument(const Operand& operand, const Sources& sources) {
  using Plain = std::remove_cvref_t<T>;
  if constexpr (std::is_same_v<T, Tensor&>) {
    return tensor_of(operand, sources);
  } else if constexpr (std::is_same_v<T, const Tensor&>) {
    return operand.kind == Kind::kConstant
               ? operand.constant.toTensor()
               : static_cast<const Tensor&>(tensor_of(operand, sources));
  } else if constexpr (std::is_same_v<Plain, Scalar>) {
    return scalar_of(operand, sources);
  } else if constexpr (std::is_same_v<Plain, std::optional<Scalar>>) {
    return is_nothing(operand) ? std::optional<Scalar>()
                               : scalar_of(operand, sources);
  } else if constexpr (std::is_same_v<Plain, int64_t> ||
                       std::is_same_v<Plain, SymInt>) {
    return Plain(int_of(operand, sources));
  } else if constexpr (std::is_same_v<Plain, std::optional<SymInt>>) {
    return is_nothing(operand) ? std::optional<SymInt>()
                               : SymInt(int_of(operand, sources));
  } else if constexpr (std::is_same_v<Plain, at::IntArrayRef> ||
                       std::is_same_v<Plain, c10::SymIntArrayRef>) {
    return Ints(operand, sources);
  } else if constexpr (std::is_same_v<Plain, bool>) {
    return operand.constant.toBool();
  } else {
    static_assert(std::is_same_v<Plain, std::string_view>);
    return operand.constant.toStringView();
  }
}

template <typename Op, typename Schema>
struct Caller;
template <typename Op, typename R, typename... T>
struct Caller<Op, R(T...)> {
  static Tensor call(const Operands& operands, const Sources& sources) {
    return call(operands, sources, std::index_sequence_for<T...>());
  }

 private:
  template <size_t... I>
  static Tensor call(const Operands& operands, const Sources& sources,
                     std::index_sequence<I...>) {
    return Op::call(argument<T>(operands[I], sources)...);
  }
};

template <typename Op>
constexpr DirectCall::Function kCall = &Caller<Op, typename Op::schema>::call;

using Table = std::unordered_map<std::string, DirectCall>;

/// "aten::add.Tensor".
template <typename Op>
std::string name_of() {
  const std::string_view overload = Op::overload_name;
  return std::string(Op::name) + (overload.empty() ? "" : ".") +
         std::string(overload);
}

/// Views, which write nowhere.
template <typename... Op>
void add_views(Table& table) {
  (table.emplace(name_of<Op>(), DirectCall{kCall<Op>, nullptr}), ...);
}

/// An elementwise op, and its form in place.
template <typename Op, typename InPlace>
void add_elementwise(Table& table) {
  table.emplace(name_of<Op>(), DirectCall{kCall<Op>, kCall<InPlace>});
  table.emplace(name_of<InPlace>(), DirectCall{kCall<InPlace>, nullptr});
}

Table make_table() {
  Table table;
  add_views<ops::view, ops::transpose_int, ops::permute, ops::select_int,
            ops::slice_Tensor, ops::unsqueeze, ops::squeeze_dim, ops::expand,
            ops::t, ops::detach>(table);
  add_elementwise<ops::add_Tensor, ops::add__Tensor>(table);
  add_elementwise<ops::add_Scalar, ops::add__Scalar>(table);
  add_elementwise<ops::sub_Tensor, ops::sub__Tensor>(table);
  add_elementwise<ops::sub_Scalar, ops::sub__Scalar>(table);
  add_elementwise<ops::mul_Tensor, ops::mul__Tensor>(table);
  add_elementwise<ops::mul_Scalar, ops::mul__Scalar>(table);
  add_elementwise<ops::div_Tensor, ops::div__Tensor>(table);
  add_elementwise<ops::div_Scalar, ops::div__Scalar>(table);
  add_elementwise<ops::pow_Tensor_Scalar, ops::pow__Scalar>(table);
  add_elementwise<ops::masked_fill_Scalar, ops::masked_fill__Scalar>(table);
  add_elementwise<ops::clamp, ops::clamp_>(table);
  add_elementwise<ops::relu, ops::relu_>(table);
  add_elementwise<ops::leaky_relu, ops::leaky_relu_>(table);
  add_elementwise<ops::hardtanh, ops::hardtanh_>(table);
  add_elementwise<ops::gelu, ops::gelu_>(table);
  add_elementwise<ops::silu, ops::silu_>(table);
  add_elementwise<ops::sigmoid, ops::sigmoid_>(table);
  add_elementwise<ops::tanh, ops::tanh_>(table);
  add_elementwise<ops::abs, ops::abs_>(table);
  add_elementwise<ops::neg, ops::neg_>(table);
  add_elementwise<ops::exp, ops::exp_>(table);
  add_elementwise<ops::log, ops::log_>(table);
  add_elementwise<ops::sqrt, ops::sqrt_>(table);
  add_elementwise<ops::rsqrt, ops::rsqrt_>(table);
  add_elementwise<ops::square, ops::square_>(table);
  add_elementwise<ops::sin, ops::sin_>(table);
  add_elementwise<ops::cos, ops::cos_>(table);
  return table;
}

bool can_be_given(const Operand& operand) {
  return operand.kind != Kind::kNumber && operand.kind != Kind::kTensors &&
         operand.kind != Kind::kOptionalTensors;
}

/// As a new tensor would lie, dims of size 1 included: later ops may look.
bool has_default_strides(const Tensor& tensor) {
  int64_t expected = 1;
  for (int64_t dim = tensor.dim(); dim-- > 0;) {
    if (tensor.stride(dim) != expected) {
      return false;
    }
    expected *= std::max<int64_t>(tensor.size(dim), 1);
  }
  return true;
}

/// Whether `other` leaves the shape of `self` what it is, and has no say in the
/// strides of the result.
bool fits_into(const Tensor& other, const Tensor& self) {
  const at::IntArrayRef sizes = other.sizes();
  const at::IntArrayRef own = self.sizes();
  if (sizes.size() > own.size() || !other.is_contiguous()) {
    return false;
  }
  const auto tail = own.slice(own.size() - sizes.size());
  return std::equal(sizes.begin(), sizes.end(), tail.begin(),
                    [](int64_t a, int64_t b) { return a == b || a == 1; });
}

}  // namespace

DirectCall find_direct_call(const std::string& op, const Operands& arguments) {
  static const Table table = make_table();
  const auto found = table.find(op);
  return found != table.end() && std::ranges::all_of(arguments, can_be_given)
             ? found->second
             : DirectCall();
}

bool may_overwrite(const Operands& arguments, const Sources& sources) {
  const Tensor& self = tensor_of(arguments[0], sources);
  if (self.use_count() != 1 || !self.has_storage() ||
      self.storage().use_count() != 1 || self.is_neg() || self.is_conj() ||
      !has_default_strides(self)) {
    return false;
  }
  for (size_t i = 1; i < arguments.size(); ++i) {
    const Kind kind = arguments[i].kind;
    if ((kind == Kind::kValue || kind == Kind::kLastValue) &&
        !fits_into(tensor_of(arguments[i], sources), self)) {
      return false;
    }
  }
  return true;
}

}  // namespace colonnade::trace::detail
