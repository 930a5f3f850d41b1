// colonnade/trace/detail/passes/pack_linear.cpp
#include "colonnade/trace/detail/op_name.h"
#include "colonnade/trace/detail/passes/aliases.h"
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;
using parallel_layers::detail::MatmulEngine;

constexpr const char* kProduct = "mkldnn::_linear_pointwise";
constexpr const char* kPack = "mkldnn::_reorder_linear_weight";

bool has_bf16() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

/// Whether oneDNN's packed weights beat, at every count of rows, what the layer
/// does without. Where torch's engine is in use they are not tried.
///
/// Speed of packed weights over that of the layer (Zen 5, one core, weights not
/// in the cache; the least and the most of [out, in] = [512, 512], [2048, 512],
/// [1024, 1024], [2048, 2048], [512, 2048], [4096, 4096]):
///
///   rows           1          4          16         64         512
///   fp32       1.26-1.45  1.34-2.09  2.00-2.45  1.05-1.35  1.02-1.06
///   bf16       1.76-1.88  1.52-1.77  1.37-1.52  1.15-1.33  1.06-1.17
///
/// At one row that is 23 to 31 GB/s of weights in fp32 and 18 to 32 in bf16,
/// where the layer reaches 16 to 25 and 10 to 17. Over at::linear, which is MKL
/// in fp32, packed weights gain 1.4 to 2.3 there. Smaller ones: [256, 256]
/// gains 0.99 to 1.53 in fp32 and 1.18 to 1.80 in bf16, [128, 128] 0.77 to 1.20
/// and 1.22 to 1.63; below, oneDNN's 9 us a call are more than torch's whole
/// product of few rows.
bool pays(at::ScalarType dtype, int64_t elements) {
  static const bool bf16 = has_bf16();
  constexpr int64_t kFewestFloat = 256 * 256;
  constexpr int64_t kFewestBFloat16 = 128 * 128;
  return (dtype == at::kFloat && elements >= kFewestFloat) ||
         (dtype == at::kBFloat16 && elements >= kFewestBFloat16 && bf16);
}

/// A matrix product x w^T + bias in any of the ways in which torch says it.
struct Product {
  Argument x;
  int weight = -1;
  bool transposed = false;  ///< The weight is [in, out].
  Argument bias;
};

bool is_one(const Argument& number) {
  return number == Argument{int64_t{1}} || number == Argument{1.0};
}

int value_of(const Argument& argument) {
  return argument.is<Value>() ? argument.as<Value>().id : -1;
}

std::optional<Product> product_of(const Node& node) {
  const auto& arguments = node.arguments;
  if (node.op == "aten::linear" || node.op == "colonnade::linear") {
    return Product{arguments[0], value_of(arguments[1]), false, arguments[2]};
  }
  if (node.op == "aten::matmul" || node.op == "aten::mm") {
    return Product{arguments[0], value_of(arguments[1]), true, {}};
  }
  if (node.op == "aten::addmm" && is_one(arguments[3]) &&
      is_one(arguments[4])) {
    return Product{arguments[1], value_of(arguments[2]), true, arguments[0]};
  }
  return std::nullopt;
}

/// Whether a call only swaps the two dims of its argument.
bool is_transpose(const Node& node) {
  const auto dims = [&](int64_t a, int64_t b) {
    return node.arguments[1] == Argument{a} && node.arguments[2] == Argument{b};
  };
  return node.op == "aten::t" || node.op == "aten::numpy_T" ||
         (node.op == "aten::transpose.int" &&
          (dims(0, 1) || dims(1, 0) || dims(-1, -2) || dims(-2, -1)));
}

/// What is known of a value before the graph runs.
struct Known {
  at::ScalarType dtype = at::kFloat;
  std::vector<int64_t> shape;
};

class Packer {
 public:
  Packer(Graph graph, const PassFacts& facts)
      : graph_(std::move(graph)), aliases_(graph_) {
    for (size_t i = 0; i < graph_.weights.size(); ++i) {
      const Tensor& tensor = facts.weights.at(i);
      known_[graph_.weights[i].value] = {tensor.scalar_type(),
                                         tensor.sizes().vec()};
    }
    for (const Node& node : graph_.prologue) {
      for_each_result_value(node.results, [this](int id) {
        const ValueInfo& info = graph_.values[static_cast<size_t>(id)];
        known_.try_emplace(id, Known{info.dtype, info.example_shape});
      });
    }
  }

  Graph run() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      if (auto product = product_of(graph_.nodes[i])) {
        find_origin(*product);
        if (suits(*product, only_result(graph_.nodes[i]))) {
          replace(i, *product);
        }
      }
    }
    return std::move(graph_);
  }

 private:
  void find_origin(Product& product) const;
  const Known* known(int value) const;
  bool suits(const Product& product, int result) const;
  bool suits_as_bias(const Argument& bias, const Product& product) const;
  void take_bias(size_t node, Product& product);
  int pack(const Product& product);
  void replace(size_t node, Product& product);

  Graph graph_;
  Aliases aliases_;
  std::map<int, Known> known_;                  ///< By value.
  std::map<std::pair<int, bool>, int> packed_;  ///< By weight, transposed.
};

/// The same data may be there once as a weight and once transposed.
void Packer::find_origin(Product& product) const {
  for (size_t i = graph_.prologue.size(); i-- > 0;) {
    const Node& node = graph_.prologue[i];
    if (only_result(node) == product.weight && is_transpose(node)) {
      product.weight = value_of(node.arguments[0]);
      product.transposed = !product.transposed;
    }
  }
}

/// Nothing where a value is not there before the graph runs, or may change.
const Known* Packer::known(int value) const {
  const auto found = known_.find(value);
  return found != known_.end() && aliases_.keeps_its_data(value)
             ? &found->second
             : nullptr;
}

bool Packer::suits(const Product& product, int result) const {
  const Known* weight = known(product.weight);
  if (weight == nullptr || weight->shape.size() != 2 || result < 0 ||
      !product.x.is<Value>() ||
      !pays(weight->dtype, weight->shape[0] * weight->shape[1])) {
    return false;
  }
  // Autocast gives another dtype than its arguments have.
  const auto dtype = [this](int id) {
    return graph_.values[static_cast<size_t>(id)].dtype;
  };
  return dtype(value_of(product.x)) == weight->dtype &&
         dtype(result) == weight->dtype &&
         (product.bias == Argument{} || suits_as_bias(product.bias, product));
}

/// oneDNN adds one number to each column; torch would repeat a shorter bias.
bool Packer::suits_as_bias(const Argument& bias, const Product& product) const {
  const Known* weight = known(product.weight);
  const Known* known_bias = known(value_of(bias));
  return known_bias != nullptr && known_bias->dtype == weight->dtype &&
         known_bias->shape ==
             std::vector{weight->shape[product.transposed ? 1 : 0]};
}

/// torch::nn::Linear adds its bias in a call of its own.
void Packer::take_bias(size_t node, Product& product) {
  const int result = only_result(graph_.nodes[node]);
  const auto reader = only_reader(graph_, node, result);
  if (!reader.has_value()) {
    return;
  }
  const Node& next = graph_.nodes[*reader];
  if ((next.op == "aten::add.Tensor" || next.op == "aten::add_.Tensor") &&
      value_of(next.arguments[0]) == result && is_one(next.arguments[2]) &&
      suits_as_bias(next.arguments[1], product)) {
    product.bias = next.arguments[1];
    graph_.nodes[node].results = next.results;
    graph_.nodes.erase(graph_.nodes.begin() + static_cast<ptrdiff_t>(*reader));
  }
}

int Packer::pack(const Product& product) {
  const auto [at, is_new] =
      packed_.try_emplace({product.weight, product.transposed}, -1);
  if (is_new) {
    int weight = product.weight;
    if (product.transposed) {
      weight = add_value(graph_, product.weight);
      graph_.prologue.push_back(
          {"aten::t", {{Value{product.weight}}}, {Value{weight}}});
    }
    at->second = add_value(graph_, product.weight);
    // For no particular number of rows, as the graph serves all.
    graph_.prologue.push_back(
        {kPack, {{Value{weight}}, {}}, {Value{at->second}}});
  }
  return at->second;
}

void Packer::replace(size_t node, Product& product) {
  if (product.bias == Argument{}) {
    take_bias(node, product);
  }
  const int packed = pack(product);
  graph_.nodes[node].op = kProduct;
  graph_.nodes[node].arguments = {product.x,        {Value{packed}},
                                  product.bias,     {std::string("none")},
                                  {ArgumentList{}}, {}};
}

}  // namespace

Graph pack_linear(Graph graph, const PassFacts& facts) {
  if (!facts.device.is_cpu() || facts.engine != MatmulEngine::kOneDnn ||
      !find_op(kPack).has_value() || !find_op(kProduct).has_value()) {
    return graph;
  }
  return Packer(std::move(graph), facts).run();
}

}  // namespace colonnade::trace::detail
