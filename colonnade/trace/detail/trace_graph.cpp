// colonnade/trace/detail/trace_graph.cpp
#include "colonnade/trace/detail/trace_graph.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/input_sizes.h"
#include "colonnade/trace/detail/op_name.h"
#include "colonnade/trace/detail/same_values.h"
#include "colonnade/trace/detail/structure.h"
#include "colonnade/trace/detail/unify.h"

#include <ATen/ops/equal.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

namespace colonnade::trace::detail {
namespace {

using c10::IValue;

/// Of the second build, so that a random weight is another there.
constexpr uint64_t kSecondSeed = 20260;

/// A recording at sizes and a degree.
struct Take {
  InputSizes sizes;
  int64_t degree;
  Recording recording;  // rank 0's
};

/// Where a graph uses a value first: "call 3, aten::add.Tensor, argument
/// other".
std::string first_use(const Graph& graph, int value) {
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    for (size_t j = 0; j < node.arguments.size(); ++j) {
      const Argument& argument = node.arguments[j];
      const bool in_list = argument.is<ArgumentList>() &&
                           std::ranges::find(argument.as<ArgumentList>(),
                                             Argument{Value{value}}) !=
                               argument.as<ArgumentList>().end();
      if (argument == Argument{Value{value}} || in_list) {
        return concat("call ", i, ", ", node.op, ", argument ",
                      argument_name(node.op, j));
      }
    }
  }
  return "the output";
}

/// Constants are in the graph, so they are the same wherever it is recorded.
void check_constants(const Recording& a, const std::string& where_a,
                     const Recording& b, const std::string& where_b) {
  for (size_t i = 0; i < a.weights.size(); ++i) {
    const Weight& weight = a.graph.weights[i];
    check_arg(weight.kind != Weight::Kind::kConstant ||
                  same_bits(a.weights[i], b.weights.at(i)),
              "trace: ", first_use(a.graph, weight.value),
              ": a tensor that is no parameter and no buffer is ",
              show_tensor(a.weights[i]), " ", where_a, ", but ",
              show_tensor(b.weights[i]), " ", where_b,
              "; register it with the model, or compute it in forward");
  }
}

/// InvalidArgument unless every rank recorded the same.
void check_ranks(const std::vector<Recording>& recordings) {
  for (size_t rank = 1; rank < recordings.size(); ++rank) {
    const std::string where = concat("on rank ", rank);
    const auto degree = static_cast<int64_t>(recordings.size());
    unify(recordings[0].graph, {{&recordings[0].graph, {degree}, "on rank 0"},
                                {&recordings[rank].graph, {degree}, where}});
    check_constants(recordings[0], "on rank 0", recordings[rank], where);
  }
}

/// The shape of a weight without ranks, as far as its attributes tell.
std::vector<int64_t> whole_shape(const RankWeights& weights, size_t index) {
  const at::Tensor& tensor = weights.tensors[index];
  const auto& attributes = weights.attributes[index];
  return attributes.has_value() ? attributes->spec.whole_shape(tensor.sizes())
                                : tensor.sizes().vec();
}

/// Says of each state what it takes to make it at another degree. One that
/// starts as zeros then takes no memory here.
void describe_states(Graph& graph, std::vector<RankWeights>& weights) {
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    Weight& weight = graph.weights[i];
    if (weight.kind != Weight::Kind::kState) {
      continue;
    }
    weight.shape = whole_shape(weights[0], i);
    const auto& attributes = weights[0].attributes[i];
    weight.split_dim = attributes.has_value() ? attributes->spec.dim : -1;
    weight.is_zero = std::ranges::all_of(weights, [&](const RankWeights& rank) {
      return !rank.tensors[i].any().item<bool>();
    });
    for (RankWeights& rank : weights) {
      if (weight.is_zero) {
        rank.tensors[i] =
            shared_zeros(rank.tensors[i].sizes(), rank.tensors[i].options());
      }
    }
  }
}

class Tracer {
 public:
  Tracer(const MakeTraceable& make, const std::vector<IValue>& inputs,
         int degree, const TraceOptions& options)
      : make_(make),
        options_(options),
        structure_(flatten_inputs(inputs, leaves_)),
        example_(sizes_of(leaves_)),
        second_degree_(options.second_degree.value_or(degree == 1 ? 2 : 1)),
        ranks_(make, degree, options.launch, std::nullopt) {}

  Traced run();

 private:
  std::vector<IValue> inputs_at(const InputSizes& sizes) const;
  std::vector<Recording> take(TracingRanks& ranks, const InputSizes& sizes);
  bool try_take(const InputSizes& sizes);
  void take_all_sizes();
  std::optional<std::string> take_second_degree();
  std::optional<std::string> differing_shape() const;
  void check_random(const Recording& recording) const;
  void check_escapes() const;
  Graph skeleton() const;
  std::vector<int64_t> variables_at(const InputSizes& sizes,
                                    int64_t degree) const;
  Graph unify_takes(size_t count) const;
  void verify(TracingRanks& ranks,
              const std::shared_ptr<const Program>& program,
              const std::vector<RankWeights>& weights,
              const InputSizes& sizes) const;

  const MakeTraceable& make_;
  const TraceOptions& options_;
  std::vector<IValue> leaves_;  // of the example
  Structure structure_;
  InputSizes example_;
  int64_t second_degree_;
  TracingRanks ranks_;
  std::vector<RankWeights> weights_;
  std::optional<TracingRanks> second_ranks_;
  std::vector<RankWeights> second_weights_;
  std::vector<Take> takes_;
  Varying varying_;
};

std::vector<IValue> Tracer::inputs_at(const InputSizes& sizes) const {
  const IValue tuple = unflatten(structure_, resize(leaves_, sizes));
  return tuple.toTupleRef().elements().vec();
}

std::vector<Recording> Tracer::take(TracingRanks& ranks,
                                    const InputSizes& sizes) {
  std::vector<Recording> recordings = ranks.record(inputs_at(sizes));
  check_ranks(recordings);
  takes_.push_back({sizes, ranks.degree(), recordings[0]});
  return recordings;
}

/// False where the model throws; what a graph cannot hold is an error.
bool Tracer::try_take(const InputSizes& sizes) {
  if (std::ranges::find(takes_, sizes, &Take::sizes) != takes_.end()) {
    return true;
  }
  std::vector<Recording> recordings;
  try {
    recordings = ranks_.record(inputs_at(sizes));
  } catch (const std::exception&) {
    return false;
  }
  check_ranks(recordings);
  takes_.push_back({sizes, ranks_.degree(), std::move(recordings[0])});
  return true;
}

void Tracer::take_all_sizes() {
  const int64_t step =
      std::lcm<int64_t>(ranks_.degree(), std::max<int64_t>(second_degree_, 1));
  varying_ =
      find_varying(leaves_, options_.dynamic_dims, step,
                   [&](const InputSizes& sizes) { return try_take(sizes); });
  std::erase_if(takes_, [&](const Take& take) {
    return !differs_only_in(varying_, example_, take.sizes);
  });
}

/// Records at the second degree. Returns why that cannot be done.
std::optional<std::string> Tracer::take_second_degree() {
  if (second_degree_ == 0) {
    return "a second degree was not asked for";
  }
  const size_t before = takes_.size();
  try {
    second_ranks_.emplace(make_, static_cast<int>(second_degree_),
                          options_.launch, kSecondSeed);
    second_weights_ = second_ranks_->weights(take(*second_ranks_, example_));
    const InputSizes changed = all_changed(example_, varying_, 0);
    if (changed != example_) {
      take(*second_ranks_, changed);
    }
  } catch (const std::exception& error) {
    takes_.resize(before, Take{{}, 0, {}});
    second_ranks_.reset();
    return concat("at degree ", second_degree_, ": ", error.what());
  }
  // Another build at the same shapes has the same constants, or none is right.
  const Recording& first = takes_[0].recording;
  const Recording& other = takes_[before].recording;
  const bool alike =
      first.weights.size() == other.weights.size() &&
      std::ranges::equal(first.weights, other.weights,
                         [](const at::Tensor& a, const at::Tensor& b) {
                           return a.dim() == b.dim();
                         });
  for (size_t i = 0; alike && i < first.weights.size(); ++i) {
    if (first.graph.weights[i].kind == Weight::Kind::kConstant &&
        first.weights[i].sizes() != other.weights[i].sizes()) {
      takes_.resize(before, Take{{}, 0, {}});
      return concat("at degree ", second_degree_, ": ",
                    first_use(first.graph, first.graph.weights[i].value),
                    ": a constant has shape ", other.weights[i].sizes(),
                    " there, and ", first.weights[i].sizes(), " at degree ",
                    ranks_.degree());
    }
  }
  if (alike) {
    check_constants(first, "in one build of the model", other, "in another");
  }
  return differing_shape();
}

/// A weight that has another whole shape at the second degree; none where all
/// are the same there.
std::optional<std::string> Tracer::differing_shape() const {
  const auto& named = takes_[0].recording.graph.weights;
  for (size_t i = 0; i < named.size(); ++i) {
    if (i < second_weights_[0].tensors.size()) {
      const auto here = whole_shape(weights_[0], i);
      const auto there = whole_shape(second_weights_[0], i);
      if (here != there) {
        return concat(to_string(named[i].kind), " ", named[i].name,
                      " has the whole shape ", at::IntArrayRef(here),
                      " at degree ", ranks_.degree(), ", and ",
                      at::IntArrayRef(there), " at degree ", second_degree_,
                      ": give it tensor-parallel attributes if it is split");
      }
    }
  }
  return std::nullopt;
}

void Tracer::check_random(const Recording& recording) const {
  check_arg(options_.allow_random || recording.random_op.empty(),
            "trace: ", recording.random_op,
            ": draws random numbers; put the model in eval state, or set "
            "TraceOptions::allow_random");
}

/// A float that left: what became of it is not in the graph.
void Tracer::check_escapes() const {
  const Recording& first = takes_[0].recording;
  if (first.escapes.empty()) {
    return;
  }
  const Escape& escape = first.escapes[0];
  const Recording& other = takes_.back().recording;
  const std::string op = first.graph.nodes[escape.node].op;
  throw InvalidArgument(
      concat("trace: call ", escape.node, ", ", op, ", argument ",
             argument_name(op, 0), ": the float ", escape.value,
             " leaves the graph ", to_string(takes_[0].sizes), ", and ",
             other.escapes.empty() ? escape.value : other.escapes[0].value, " ",
             to_string(takes_.back().sizes),
             ", and what the program does with it is lost; keep it a tensor"));
}

/// What varies, and which inputs say so.
Graph Tracer::skeleton() const {
  Graph graph = takes_[0].recording.graph;
  graph.variables = {{"degree", ranks_.degree()}};
  for (const VaryingPlaces& variable : varying_.places) {
    const auto number = static_cast<int>(graph.variables.size());
    graph.variables.push_back(
        {concat("s", number - 1), value_at(example_, variable.places[0])});
    for (const Place& place : variable.places) {
      Input& input = graph.inputs[place.leaf];
      if (place.dim < 0) {
        input.variable = number;
      } else {
        input.dims[static_cast<size_t>(place.dim)].variable = number;
      }
    }
  }
  for (const VaryingFloat& variable : varying_.floats) {
    graph.inputs[variable.leaf].constant = {};
  }
  return graph;
}

std::vector<int64_t> Tracer::variables_at(const InputSizes& sizes,
                                          int64_t degree) const {
  std::vector<int64_t> values = {degree};
  for (const VaryingPlaces& variable : varying_.places) {
    values.push_back(value_at(sizes, variable.places[0]));
  }
  return values;
}

/// One graph of the first `count` takes.
Graph Tracer::unify_takes(size_t count) const {
  std::vector<Observation> observations;
  for (size_t i = 0; i < count; ++i) {
    const Take& take = takes_[i];
    std::string where = to_string(take.sizes);
    if (take.degree != ranks_.degree()) {
      where += concat(" at degree ", take.degree);
    }
    observations.push_back({&take.recording.graph,
                            variables_at(take.sizes, take.degree),
                            std::move(where)});
  }
  Graph graph = unify(skeleton(), observations);
  graph.degree = ranks_.degree();
  return graph;
}

void Tracer::verify(TracingRanks& ranks,
                    const std::shared_ptr<const Program>& program,
                    const std::vector<RankWeights>& weights,
                    const InputSizes& sizes) const {
  constexpr int kPasses = 2;
  const std::vector<IValue> leaves = resize(leaves_, sizes);
  Numbers numbers;
  for (const Expression& expression : program->graph().expressions) {
    numbers.push_back(
        evaluate(expression, variables_at(sizes, ranks.degree())));
  }
  const auto wanted = ranks.run_model(inputs_at(sizes), kPasses);
  const auto got =
      ranks.run_program(program, weights, leaves, numbers, kPasses);
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto ranks_count = static_cast<size_t>(ranks.degree());
    for (size_t leaf = 0; leaf < wanted[i].size(); ++leaf) {
      const std::string difference =
          show_difference(got[i].at(leaf), wanted[i][leaf]);
      check_arg(difference.empty(), "trace: replay differs from forward ",
                to_string(sizes), ", pass ", i / ranks_count + 1, " of ",
                kPasses, ", rank ", i % ranks_count, ", output ", leaf, ": ",
                difference,
                "; forward does something that the graph cannot see, such as "
                "counting its calls or reading a tensor's memory");
    }
  }
}

Traced Tracer::run() {
  std::vector<Recording> recordings = take(ranks_, example_);
  check_random(takes_[0].recording);
  weights_ = ranks_.weights(recordings);
  take_all_sizes();
  const size_t at_degree = takes_.size();
  check_escapes();
  std::optional<std::string> fixed = take_second_degree();
  Graph graph = unify_takes(at_degree);
  if (!fixed.has_value()) {
    try {
      graph = unify_takes(takes_.size());
    } catch (const InvalidArgument& error) {
      fixed = error.what();
    }
  }
  const auto program =
      std::make_shared<const Program>(graph, at::Device(ranks_.device()));
  verify(ranks_, program, weights_, example_);
  verify(ranks_, program, weights_, all_changed(example_, varying_, 1));
  if (!fixed.has_value()) {
    try {
      verify(*second_ranks_, program, second_weights_, example_);
    } catch (const InvalidArgument& error) {
      fixed = concat("at degree ", second_degree_, ": ", error.what());
    }
  }
  second_ranks_.reset();
  graph.fixed = std::move(fixed);
  describe_states(graph, weights_);
  return {std::move(graph), std::move(weights_), ranks_.release()};
}

}  // namespace

Traced trace_graph(const MakeTraceable& make, const std::vector<IValue>& inputs,
                   int degree, const TraceOptions& options) {
  return Tracer(make, inputs, degree, options).run();
}

}  // namespace colonnade::trace::detail
