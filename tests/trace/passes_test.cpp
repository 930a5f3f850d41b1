// tests/trace/passes_test.cpp
// Each pass on recorded models: what it changes, and that replay does not.
#include "colonnade/trace/detail/passes/passes.h"

#include "colonnade/launch/launch.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/trace/detail/program.h"
#include "colonnade/trace/detail/recorder.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

namespace nn = torch::nn;
namespace pl = parallel_layers;
using at::Tensor;
using c10::IValue;
using colonnade::testing::expect_close;
using colonnade::testing::expect_equal;
using colonnade::testing::numbers;
using pl::detail::MatmulEngine;

using Inputs = std::vector<IValue>;

Tensor floats(at::IntArrayRef shape, int64_t salt = 0) {
  return numbers(shape, salt).to(at::kFloat);
}

/// A function of tensors on one rank, recorded.
Recording record_model(const Forward& forward, const Inputs& inputs,
                       const std::vector<NamedTensor>& tensors = {}) {
  const c10::InferenceMode inference;
  return record(forward, inputs, tensors);
}

std::vector<NamedTensor> tensors_of(const nn::Module& module) {
  std::vector<NamedTensor> tensors;
  for (const auto& item : module.named_parameters()) {
    tensors.push_back({item.key(), item.value(), true});
  }
  for (const auto& item : module.named_buffers()) {
    tensors.push_back({item.key(), item.value(), false});
  }
  return tensors;
}

PassFacts facts_of(const Recording& recording) {
  PassFacts facts;
  facts.engine = MatmulEngine::kOneDnn;
  facts.weights = recording.weights;
  return facts;
}

std::vector<Tensor> replay(const Graph& graph, const std::vector<Tensor>& given,
                           const Inputs& inputs) {
  const c10::InferenceMode inference;
  std::vector<Tensor> weights;
  for (size_t i = 0; i < given.size(); ++i) {
    const bool state = graph.weights[i].kind == Weight::Kind::kState;
    weights.push_back(state ? given[i].clone() : given[i]);
  }
  const auto program =
      std::make_shared<const Program>(graph, at::Device(at::kCPU));
  Frame frame(program, weights);
  std::vector<Tensor> outputs;
  for (int pass = 0; pass < 2; ++pass) {  // state goes on
    for (const IValue& output : frame.run(copy_inputs(inputs), {})) {
      outputs.push_back(output.toTensor());
    }
  }
  return outputs;
}

void expect_same(const std::vector<Tensor>& got,
                 const std::vector<Tensor>& wanted, bool exact,
                 const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (exact) {
      expect_equal(got[i], wanted[i], what);
    } else {
      const double tolerance =
          wanted[i].scalar_type() == at::kBFloat16 ? 3e-2 : 1e-5;
      expect_close(got[i], wanted[i], tolerance, what);
    }
  }
}

/// Every pass alone, and all of them, leave what a replay gives.
void expect_passes_keep(const Recording& recording, const Inputs& inputs) {
  const auto wanted = replay(recording.graph, recording.weights, inputs);
  const PassFacts facts = facts_of(recording);
  for (const Pass& pass : passes()) {
    expect_same(replay(pass.function(recording.graph, facts), recording.weights,
                       inputs),
                wanted, pass.exact, pass.name);
  }
  expect_same(
      replay(optimize(recording.graph, facts), recording.weights, inputs),
      wanted, false, "all passes");
}

int count(const std::vector<Node>& nodes, std::string_view op) {
  return static_cast<int>(std::ranges::count(nodes, op, &Node::op));
}

struct Block : nn::Module {
  explicit Block(int64_t width) {
    const auto parameter = [&](const char* name, at::IntArrayRef shape) {
      return register_parameter(name, floats(shape, shape[0]).mul(0.03));
    };
    norm = parameter("norm", {width});
    qkv = parameter("qkv", {3 * width, width});
    qkv_bias = parameter("qkv_bias", {3 * width});
    out = parameter("out", {width, width});
    up = parameter("up", {4 * width, width});
    up_bias = parameter("up_bias", {4 * width});
    down = parameter("down", {width, 4 * width});
    mask =
        register_buffer("mask", at::full({16, 16}, -1e9, at::kFloat).triu(1));
  }

  Tensor forward(Tensor x) {
    const int64_t width = x.size(-1);
    const auto length = x.size(1);
    const Tensor normed = at::layer_norm(x, {width}, norm + 1);
    const Tensor heads = at::linear(normed, qkv, qkv_bias)
                             .view({x.size(0), length, 3, 4, width / 4})
                             .permute({2, 0, 3, 1, 4});
    Tensor scores = heads[0].matmul(heads[1].transpose(-2, -1));
    scores.div_(2.5).add_(mask.slice(0, 0, length).slice(1, 0, length));
    const Tensor mixed = at::softmax(scores, -1).matmul(heads[2]);
    const Tensor joined =
        mixed.transpose(1, 2).reshape({x.size(0), length, width});
    x = x + at::dropout(joined.matmul(out.t()), 0.1, /*train=*/false);
    const Tensor wide = at::gelu(at::linear(x, up, up_bias), "tanh");
    x += at::linear(wide, down) * 0.5;
    return x;
  }

  Tensor norm, qkv, qkv_bias, out, up, up_bias, down, mask;
};

TEST(Passes, KeepAttention) {
  Block block(256);
  const Inputs inputs = {floats({2, 7, 256})};
  const Recording recording = record_model(
      [&](const Inputs& in) { return block.forward(in[0].toTensor()); }, inputs,
      tensors_of(block));
  expect_passes_keep(recording, inputs);
  const Graph graph = optimize(recording.graph, facts_of(recording));
  EXPECT_EQ(count(graph.nodes, "mkldnn::_linear_pointwise"), 4);
  EXPECT_EQ(count(graph.nodes, "aten::gelu"), 0);
  EXPECT_EQ(count(graph.nodes, "aten::dropout"), 0);
  EXPECT_EQ(count(graph.nodes, "aten::slice.Tensor"), 0) << to_string(graph);
  EXPECT_LT(graph.nodes.size(), recording.graph.nodes.size());
}

TEST(Passes, KeepParallelLayers) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    run_ranks(1, [&] {
      parallel_state::initialize_model_parallel(1);
      manual_seed(1);
      pl::ColumnParallelLinear up(
          pl::ColumnParallelLinearOptions(256, 512).gather_output(false).dtype(
              dtype));
      pl::RowParallelLinear down(
          pl::RowParallelLinearOptions(512, 256).input_is_parallel(true).dtype(
              dtype));
      nn::Sequential model;
      model->push_back("up", up);
      model->push_back("down", down);
      const Inputs inputs = {numbers({5, 256}).to(dtype)};
      const Recording recording = record_model(
          [&](const Inputs& in) {
            return down(at::gelu(up(in[0].toTensor())));
          },
          inputs, tensors_of(*model));
      expect_passes_keep(recording, inputs);
    });
  }
}

TEST(Passes, KeepConvolution) {
  nn::Sequential model(
      nn::Conv2d(nn::Conv2dOptions(3, 8, 3).padding(1)), nn::BatchNorm2d(8),
      nn::ReLU(nn::ReLUOptions(true)), nn::MaxPool2d(2), nn::Flatten(),
      nn::Linear(8 * 4 * 4, 512), nn::Tanh(), nn::Linear(512, 10));
  model->eval();
  const Inputs inputs = {floats({2, 3, 8, 8})};
  const Recording recording = record_model(
      [&](const Inputs& in) { return model->forward(in[0].toTensor()); },
      inputs, tensors_of(*model));
  expect_passes_keep(recording, inputs);
  const Graph graph = optimize(recording.graph, facts_of(recording));
  EXPECT_EQ(count(graph.nodes, "mkldnn::_linear_pointwise"), 1);
  EXPECT_EQ(count(graph.nodes, "aten::tanh"), 0);
  EXPECT_EQ(count(graph.nodes, "aten::t"), 0);
}

TEST(Passes, KeepGru) {
  nn::GRU gru(nn::GRUOptions(16, 32).num_layers(2));
  nn::GRUCell cell(32, 32);
  nn::Sequential all;
  all->push_back("gru", nn::AnyModule(gru));
  all->push_back("cell", nn::AnyModule(cell));
  const Inputs inputs = {floats({5, 2, 16})};
  const Recording recording = record_model(
      [&](const Inputs& in) {
        const auto [y, h] = gru->forward(in[0].toTensor());
        Tensor state = h[0];
        for (int64_t i = 0; i < y.size(0); ++i) {
          state = cell->forward(y[i], state);
        }
        return IValue(std::vector<Tensor>{y, state});
      },
      inputs, tensors_of(*all));
  expect_passes_keep(recording, inputs);
}

TEST(Passes, KeepState) {
  Tensor cache = floats({4, 300});
  const Tensor weight = floats({300, 300}).mul(0.1);
  const Inputs inputs = {floats({1, 300})};
  const Recording recording = record_model(
      [&](const Inputs& in) {
        const Tensor row = cache.select(0, 1);
        row.add_(at::linear(in[0].toTensor(), weight).squeeze(0));
        return at::linear(cache.t(), cache.t().contiguous().view({300, 4}));
      },
      inputs, {{"cache", cache, false}, {"weight", weight, true}});
  expect_passes_keep(recording, inputs);
}

/// One layer of each way of calling it, on all ranks.
template <typename Make>
void expect_opens(int degree, bool opens, const Make& make,
                  at::IntArrayRef shape) {
  colonnade::testing::run_tensor_parallel(degree, [&](const GroupPtr&) {
    auto layer = make();
    const Inputs inputs = {floats(shape)};
    const Recording recording = record_model(
        [&](const Inputs& in) { return layer(in[0].toTensor()).tanh(); },
        inputs, tensors_of(*layer));
    PassFacts facts = facts_of(recording);
    facts.degree = degree;
    const auto wanted = replay(recording.graph, recording.weights, inputs);
    const Graph open = open_layers(recording.graph, facts);
    EXPECT_EQ(count(open.nodes, "colonnade::linear"), opens ? 1 : 0)
        << to_string(open);
    expect_same(replay(open, recording.weights, inputs), wanted, true, "open");
    const Graph all = optimize(recording.graph, facts);
    EXPECT_EQ(count(all.nodes, "mkldnn::_linear_pointwise"), opens ? 1 : 0);
    expect_same(replay(all, recording.weights, inputs), wanted, false, "all");
  });
}

TEST(OpenLayers, MakesTheCallsOfTheLayer) {
  using Column = pl::ColumnParallelLinearOptions;
  using Row = pl::RowParallelLinearOptions;
  for (const int degree : {1, 2, 4}) {
    const auto column = [&](bool opens, const Column& options,
                            at::IntArrayRef shape) {
      expect_opens(
          degree, opens, [&] { return pl::ColumnParallelLinear(options); },
          shape);
    };
    const auto row = [&](bool opens, const Row& options,
                         at::IntArrayRef shape) {
      expect_opens(
          degree, opens, [&] { return pl::RowParallelLinear(options); }, shape);
    };
    column(true, Column(512, 512), {3, 512});
    column(true, Column(512, 512).bias(false).gather_output(false), {2, 512});
    column(
        true,
        Column(512, 512).gather_output(false).sequence_parallel_enabled(true),
        {3, 2, 512});
    column(true, Column(512, 513).pad(true), {3, 512});
    column(true, Column(512, 513).pad(true).gather_output(false), {3, 512});
    column(degree == 1, Column(512, 512).segments({256, 256}), {3, 512});
    row(true, Row(512, 512), {3, 512});
    row(true, Row(512, 512).bias(false), {2, 3, 512});
    row(true, Row(512, 512).input_is_parallel(true), {3, 512 / degree});
    row(true,
        Row(512, 512).input_is_parallel(true).sequence_parallel_enabled(true),
        {4, 2, 512 / degree});
    row(true, Row(512, 512).bias(false).reduce_output(false), {3, 512});
    row(true, Row(513, 512).pad(true), {3, 513});
    row(true, Row(513, 512).pad(true).input_is_parallel(true),
        {3, (513 + degree - 1) / degree});
    row(degree == 1, Row(512, 512).segments({256, 256}), {3, 512});
    row(true, Row(512, 512).segments({256, 256}).input_is_parallel(true),
        {3, 512 / degree});
    row(true, Row(512, 512).reduce_dtype(at::kFloat), {3, 512});
    row(degree == 1, Row(512, 512).reduce_dtype(at::kDouble), {3, 512});
  }
}

/// As a graph from a file may have it.
TEST(Passes, TakeResultsThatNobodyAsksFor) {
  const Tensor weight = floats({4, 4});
  const Inputs inputs = {floats({3, 4})};
  Recording recording = record_model(
      [&](const Inputs& in) {
        const Tensor x = in[0].toTensor();
        const Tensor unused = x.detach();
        return x.exp();
      },
      inputs, {{"weight", weight, true}});
  Graph& graph = recording.graph;
  graph.nodes[0].results[0] = std::monostate();
  for (const char* layer : {"colonnade::column_parallel_linear",
                            "colonnade::row_parallel_linear"}) {
    Node node{layer, {{Value{0}}, {Value{1}}, {}}, {std::monostate()}};
    const bool column = node.op.find("column") != std::string::npos;
    const Argument no = {false};
    const Argument zero = {int64_t{0}};
    const Argument four = {int64_t{4}};
    const Argument tp = {std::string("tp")};
    const Argument none = {ArgumentList{}};
    const std::vector<Argument> rest =
        column ? std::vector<Argument>{no, no, zero, four, none, {}, tp}
               : std::vector<Argument>{no, no, zero, no, {}, four, none, tp};
    node.arguments.insert(node.arguments.end(), rest.begin(), rest.end());
    graph.nodes.push_back(std::move(node));
  }
  const PassFacts facts = facts_of(recording);
  EXPECT_EQ(open_layers(graph, facts).nodes.size(), graph.nodes.size());
  EXPECT_EQ(skip_identities(graph, facts).nodes.size(), graph.nodes.size());
}

TEST(SkipIdentities, SkipsOnlyThose) {
  const Inputs inputs = {floats({3, 4})};
  const Recording recording = record_model(
      [&](const Inputs& in) {
        Tensor x = in[0].toTensor().exp();
        x = at::dropout(x, 0.5, false).to(at::kFloat).detach();
        const Tensor same = x.__dispatch_contiguous();
        const Tensor other = same.to(at::kDouble);
        x.detach().add_(1);
        return IValue(std::vector<Tensor>{other, same.mul(2), x.detach()});
      },
      inputs);
  const Graph graph = skip_identities(recording.graph, facts_of(recording));
  EXPECT_EQ(count(graph.nodes, "aten::dropout"), 0);
  EXPECT_EQ(count(graph.nodes, "aten::to.dtype"), 1);
  EXPECT_EQ(count(graph.nodes, "aten::detach"), 1) << "it is an output";
  EXPECT_EQ(count(graph.nodes, "aten::contiguous"), 1)
      << "it may copy at other sizes";
  expect_passes_keep(recording, inputs);
}

TEST(DropDead, DropsOnlyWhatNobodySees) {
  const Tensor buffer = floats({4});
  const Inputs inputs = {floats({4})};
  const Recording recording = record_model(
      [&](const Inputs& in) {
        const Tensor x = in[0].toTensor();
        const Tensor unused = x.sin().cos();
        const Tensor seen = x.exp();
        buffer.view({2, 2}).add_(1);
        if (at::is_nonzero(x.sum() > -100)) {
          return seen.tanh();
        }
        return unused;
      },
      inputs, {{"buffer", buffer, false}});
  const Graph graph = drop_dead(recording.graph, facts_of(recording));
  for (const char* gone : {"aten::sin", "aten::cos"}) {
    EXPECT_EQ(count(recording.graph.nodes, gone), 1);
    EXPECT_EQ(count(graph.nodes, gone), 0);
  }
  EXPECT_EQ(graph.nodes.size(), recording.graph.nodes.size() - 2)
      << to_string(graph);
  expect_passes_keep(recording, inputs);
}

TEST(DropDead, KeepsCollectivesAndRandomCalls) {
  Graph graph;
  graph.values.resize(3);
  graph.inputs.push_back({});
  graph.inputs[0].value = 0;
  graph.outputs = {{Value{0}}};
  graph.nodes = {
      {"colonnade::reduce_from_tensor_model_parallel_region",
       {{Value{0}}, {std::string("tp")}},
       {Value{1}}},
      {"aten::rand_like", {{Value{0}}, {}, {}, {}, {}, {}}, {Value{2}}},
  };
  EXPECT_EQ(drop_dead(graph, {}).nodes.size(), 2U);
}

TEST(FoldConstants, MovesWholeChains) {
  const Tensor weight = floats({6, 4});
  const Inputs inputs = {floats({3, 6})};
  const Recording recording = record_model(
      [&](const Inputs& in) {
        const Tensor angles =
            at::outer(at::arange(3, at::kFloat), weight.t().exp().sum(0));
        return in[0].toTensor() + angles.cos();
      },
      inputs, {{"weight", weight, true}});
  const Graph graph = fold_constants(recording.graph, facts_of(recording));
  EXPECT_EQ(graph.nodes.size(), 1U) << to_string(graph);
  EXPECT_EQ(graph.prologue.size(), recording.graph.nodes.size() - 1);
  expect_passes_keep(recording, inputs);
}

TEST(FoldConstants, LeavesWhatIsWrittenOrGivenAway) {
  const Tensor weight = floats({4, 4});
  const Inputs inputs = {floats({4, 4})};
  const Recording recording = record_model(
      [&](const Inputs& in) {
        const Tensor sum = at::zeros({4, 4});
        sum.view({16}).narrow(0, 0, 4).add_(in[0].toTensor()[0]);
        const Tensor silent = at::dropout(weight.exp(), 0.5, false);
        silent.mul_(in[0].toTensor());
        return IValue(std::vector<Tensor>{sum, weight.t().tanh(), silent});
      },
      inputs, {{"weight", weight, true}});
  const Graph graph = fold_constants(recording.graph, facts_of(recording));
  EXPECT_EQ(count(graph.prologue, "aten::t"), 1);
  EXPECT_EQ(graph.prologue.size(), 1U) << to_string(graph);
  expect_passes_keep(recording, inputs);
}

TEST(FoldConstants, LeavesWhatIsLargeButNotWhatFollowsSmall) {
  const Tensor weight = floats({1024, 512});
  const Inputs inputs = {floats({512})};
  const auto nodes_left = [&](auto&& of_weight) {
    const Recording recording = record_model(
        [&](const Inputs& in) { return in[0].toTensor() * of_weight(); },
        inputs, {{"weight", weight, true}});
    expect_passes_keep(recording, inputs);
    return fold_constants(recording.graph, facts_of(recording)).nodes.size();
  };
  EXPECT_EQ(nodes_left([&] { return weight.exp(); }), 2U);
  EXPECT_EQ(nodes_left([&] { return weight.exp().t().t(); }), 4U);
  EXPECT_EQ(nodes_left([&] { return weight.exp().sum(0); }), 1U);
  EXPECT_EQ(nodes_left([&] { return weight.t().t().narrow(0, 1, 700); }), 1U);
}

TEST(FoldConstants, SettlesWhatFollowsFromTheDegree) {
  Graph graph;
  graph.variables = {{"degree", 2}, {"s0", 5}};
  graph.expressions = {{{{12, {}}}, 1, true}, {{{1, {1}}}}};
  graph.values.resize(4);
  graph.weights = {{Weight::Kind::kParameter, "w", {}, 0}};
  graph.nodes = {{"aten::view",
                  {{Value{0}}, {ArgumentList{{ExpressionRef{0}}}}},
                  {Value{1}}},
                 {"aten::expand",
                  {{Value{1}},
                   {ArgumentList{{ExpressionRef{1}}, {ExpressionRef{0}}}},
                   {false}},
                  {Value{2}}},
                 {"aten::exp", {{Value{2}}}, {Value{3}}}};
  graph.outputs = {{Value{3}}};
  PassFacts facts;
  facts.degree = 4;
  const Graph folded = fold_constants(graph, facts);
  ASSERT_EQ(folded.prologue.size(), 1U);
  EXPECT_EQ(folded.prologue[0].arguments[1],
            Argument{ArgumentList{{int64_t{3}}}});
  EXPECT_EQ(folded.nodes.size(), 2U);
}

TEST(WrapScalars, KeepsBits) {
  const Inputs inputs = {floats({3, 4}), at::arange(12).view({3, 4})};
  const Recording recording = record_model(
      [](const Inputs& in) {
        const Tensor x = in[0].toTensor();
        const Tensor n = in[1].toTensor();
        return IValue(std::vector<Tensor>{at::sub(x + 0.1, 3, 0.7).div(7),
                                          (n * 3).add_(1) - 4, n * 0.3, n + 1});
      },
      inputs);
  const Graph graph = wrap_scalars(recording.graph, facts_of(recording));
  EXPECT_EQ(std::ranges::count_if(
                graph.nodes,
                [](const Node& node) { return node.op.ends_with(".Scalar"); }),
            0);
  expect_passes_keep(recording, inputs);
}

/// x w^T + b in the ways in which programs say it.
struct Saying {
  const char* name;
  Tensor (*compute)(const Tensor& x, const Tensor& w, const Tensor& b);
};

const Saying kSayings[] = {
    {"linear", [](const Tensor& x, const Tensor& w,
                  const Tensor& b) { return at::linear(x, w, b); }},
    {"linear without bias", [](const Tensor& x, const Tensor& w,
                               const Tensor&) { return at::linear(x, w); }},
    {"matmul and add", [](const Tensor& x, const Tensor& w,
                          const Tensor& b) { return x.matmul(w.t()) + b; }},
    {"matmul and add in place",
     [](const Tensor& x, const Tensor& w, const Tensor& b) {
       return x.matmul(w.transpose(-1, -2)).add_(b);
     }},
};

class PackLinear : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    w_ = numbers({260, 300}, 1).mul(0.1).to(GetParam());
    b_ = numbers({260}, 2).to(GetParam());
  }

  Tensor input(at::IntArrayRef shape) const {
    return numbers(shape).to(GetParam());
  }

  Recording recorded(const Inputs& inputs, auto&& compute) const {
    return record_model(
        [&](const Inputs& in) { return compute(in[0].toTensor(), w_, b_); },
        inputs, {{"w", w_, true}, {"b", b_, true}});
  }

  /// Packed at all, which bf16 is only where the CPU has it.
  bool packs() const {
    const Recording recording =
        recorded({input({2, 300})}, kSayings[0].compute);
    return count(pack_linear(recording.graph, facts_of(recording)).nodes,
                 "mkldnn::_linear_pointwise") == 1;
  }

  Tensor w_;
  Tensor b_;
};

INSTANTIATE_TEST_SUITE_P(Dtypes, PackLinear,
                         ::testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& instance) {
                           return c10::toString(instance.param);
                         });

TEST_P(PackLinear, KnowsAProductHoweverItIsSaid) {
  if (!packs()) {
    GTEST_SKIP() << "no packed weights of this dtype on this CPU";
  }
  const Inputs inputs = {input({2, 3, 300})};
  for (const Saying& saying : kSayings) {
    const Recording recording = recorded(inputs, saying.compute);
    const Graph graph = optimize(recording.graph, facts_of(recording));
    EXPECT_EQ(graph.nodes.size(), 1U) << saying.name << to_string(graph);
    EXPECT_EQ(graph.nodes[0].op, "mkldnn::_linear_pointwise");
    expect_passes_keep(recording, inputs);
  }
  const Inputs rows = {input({3, 300})};
  const Recording recording =
      recorded(rows, [](const Tensor& x, const Tensor& w, const Tensor& b) {
        return at::addmm(b, x, w.t());
      });
  EXPECT_EQ(optimize(recording.graph, facts_of(recording)).nodes.size(), 1U);
  expect_passes_keep(recording, rows);
}

TEST_P(PackLinear, ServesEveryInput) {
  if (!packs()) {
    GTEST_SKIP() << "no packed weights of this dtype on this CPU";
  }
  const Recording recording = recorded({input({4, 300})}, kSayings[0].compute);
  const Graph graph = pack_linear(recording.graph, facts_of(recording));
  for (const Tensor& x :
       {input({300}), input({0, 300}), input({1, 300}), input({33, 300}),
        input({130, 300}), input({2, 0, 300}), input({2, 3, 4, 300}),
        input({300, 17}).t(), input({1, 300}).expand({5, 300}),
        input({9, 600}).slice(1, 0, 600, 2),
        input({300, 5, 4}).permute({2, 1, 0})}) {
    const auto got = replay(graph, recording.weights, {x});
    const auto wanted = replay(recording.graph, recording.weights, {x});
    EXPECT_EQ(got[0].strides(), wanted[0].strides());
    expect_same(got, wanted, false, c10::str(x.sizes()));
  }
}

TEST_P(PackLinear, PacksAWeightOnce) {
  if (!packs()) {
    GTEST_SKIP() << "no packed weights of this dtype on this CPU";
  }
  const Tensor square = numbers({300, 300}, 1).mul(0.1).to(GetParam());
  const Inputs inputs = {input({2, 300})};
  const Recording recording = record_model(
      [&](const Inputs& in) {
        Tensor x = in[0].toTensor();
        for (int i = 0; i < 3; ++i) {
          x = at::gelu(at::linear(x, square));
        }
        return x.matmul(square);
      },
      inputs, {{"w", square, true}});
  const Graph graph = optimize(recording.graph, facts_of(recording));
  EXPECT_EQ(count(graph.prologue, "mkldnn::_reorder_linear_weight"), 2)
      << to_string(graph);
  EXPECT_EQ(graph.nodes.size(), 4U);
  expect_passes_keep(recording, inputs);
}

TEST(PackLinear, LeavesWhatDoesNotPay) {
  const Tensor small = floats({16, 16});
  const Tensor large = floats({300, 300});
  const Inputs inputs = {floats({2, 16}), floats({2, 300}), floats({300, 300})};
  const Recording recording = record_model(
      [&](const Inputs& in) {
        return IValue(
            std::vector<Tensor>{at::linear(in[0].toTensor(), small),
                                at::linear(in[1].toTensor(), in[2].toTensor()),
                                at::linear(in[1].toTensor().to(at::kDouble),
                                           large.to(at::kDouble))});
      },
      inputs, {{"small", small, true}, {"large", large, true}});
  PassFacts facts = facts_of(recording);
  EXPECT_EQ(count(optimize(recording.graph, facts).nodes, "aten::linear"), 3);
}

TEST(PackLinear, LeavesTorchItsEngine) {
  const Tensor weight = floats({300, 300});
  const Recording recording = record_model(
      [&](const Inputs& in) { return at::linear(in[0].toTensor(), weight); },
      {floats({2, 300})}, {{"w", weight, true}});
  PassFacts facts = facts_of(recording);
  facts.engine = MatmulEngine::kTorch;
  EXPECT_EQ(count(optimize(recording.graph, facts).nodes, "aten::linear"), 1);
}

TEST(FuseActivation, TakesTheOnlyReader) {
  const Tensor weight = floats({300, 300}).mul(0.1);
  const Inputs inputs = {floats({2, 300})};
  const auto nodes_of = [&](auto&& compute) {
    const Recording recording = record_model(
        [&](const Inputs& in) {
          return compute(at::linear(in[0].toTensor(), weight));
        },
        inputs, {{"w", weight, true}});
    expect_passes_keep(recording, inputs);
    return optimize(recording.graph, facts_of(recording)).nodes.size();
  };
  EXPECT_EQ(nodes_of([](const Tensor& y) { return y.tanh(); }), 1U);
  EXPECT_EQ(nodes_of([](const Tensor& y) { return at::gelu(y); }), 1U);
  EXPECT_EQ(nodes_of([](const Tensor& y) { return at::gelu(y, "tanh"); }), 1U);
  EXPECT_EQ(nodes_of([](Tensor y) { return y.tanh_().exp(); }), 2U);
  EXPECT_EQ(nodes_of([](const Tensor& y) { return y.tanh() + y; }), 3U);
  EXPECT_EQ(nodes_of([](const Tensor& y) {
              return IValue(std::vector<Tensor>{y.tanh(), y});
            }),
            2U);
  EXPECT_EQ(nodes_of([](Tensor y) {
              const Tensor view = y.view({600});
              return y.tanh_().view({600}) + view;
            }),
            5U);
}

}  // namespace
}  // namespace colonnade::trace::detail
