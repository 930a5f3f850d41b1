// colonnade/trace/tensor_parallel_model.cpp
#include "colonnade/trace/tensor_parallel_model.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/same_values.h"
#include "colonnade/trace/detail/served_model.h"
#include "colonnade/trace/detail/structure.h"

#include <chrono>
#include <utility>

namespace colonnade::trace {
namespace {

using c10::IValue;
using Clock = std::chrono::steady_clock;

int64_t bytes_of(const Graph& graph, const Node& node) {
  int64_t bytes = 0;
  for (const Result& result : node.results) {
    if (const auto* value = std::get_if<Value>(&result)) {
      bytes += graph.values[static_cast<size_t>(value->id)].example_bytes;
    }
  }
  return bytes;
}

class Profiler final : public detail::RunObserver {
 public:
  explicit Profiler(const Graph& graph) : graph_(graph) {}

  void before(const detail::Instruction&) override { start_ = Clock::now(); }
  void after(const detail::Instruction& instruction) override {
    const std::chrono::duration<double> time = Clock::now() - start_;
    calls.push_back({instruction.node, time.count(),
                     bytes_of(graph_, graph_.nodes[instruction.node])});
  }

  std::vector<CallProfile> calls;

 private:
  const Graph& graph_;
  Clock::time_point start_;
};

/// Throws where a rank's output differs from the first one's.
void check_equal(const std::vector<IValue>& outputs) {
  std::vector<IValue> wanted;
  detail::flatten(outputs[0], wanted, "output");
  for (size_t rank = 1; rank < outputs.size(); ++rank) {
    std::vector<IValue> got;
    detail::flatten(outputs[rank], got, "output");
    for (size_t leaf = 0; leaf < wanted.size(); ++leaf) {
      const bool equal =
          wanted[leaf].isTensor()
              ? detail::same_bits(got[leaf].toTensor(), wanted[leaf].toTensor())
              : got[leaf] == wanted[leaf];
      check<CommError>(equal, "TensorParallelModel: output ", leaf, " of rank ",
                       rank,
                       " differs from that of rank 0; the model does not "
                       "bring its ranks together, as gather_output does");
    }
  }
}

}  // namespace

struct TensorParallelModel::Session {
  detail::SessionState state;
  bool compares = false;
};

TensorParallelModel::TensorParallelModel(
    std::shared_ptr<detail::ServedModel> model)
    : model_(std::move(model)),
      session_(std::make_shared<Session>(Session{model_->make_state()})) {}

IValue TensorParallelModel::forward(const std::vector<IValue>& inputs) {
  return forward_all_ranks(inputs)[0];
}

std::vector<IValue> TensorParallelModel::forward_all_ranks(
    const std::vector<IValue>& inputs) {
  std::vector<IValue> outputs = model_->run(session_->state, inputs, nullptr);
  if (session_->compares) {
    check_equal(outputs);
  }
  return outputs;
}

void TensorParallelModel::compare_ranks(bool enabled) {
  session_->compares = enabled;
}

void TensorParallelModel::reset_state() {
  model_->run_on_ranks([&](int rank) {
    if (rank == 0) {
      model_->reset(session_->state);
    }
  });
}

TensorParallelModel TensorParallelModel::new_session() const {
  return TensorParallelModel(model_);
}

int64_t TensorParallelModel::tensor_parallel_size() const {
  return model_->degree();
}

const Graph& TensorParallelModel::graph() const {
  return model_->graph();
}

const Graph& TensorParallelModel::optimized_graph() const {
  return model_->optimized_graph();
}

std::vector<CallProfile> TensorParallelModel::profile(
    const std::vector<IValue>& inputs) {
  Profiler profiler(model_->optimized_graph());
  model_->run(session_->state, inputs, &profiler);
  return std::move(profiler.calls);
}

at::Tensor TensorParallelModel::call(const std::vector<IValue>& inputs) {
  const Structure& output = graph().output_structure;
  check_arg(
      output.kind == Structure::Kind::kLeaf && graph().outputs[0].is<Value>(),
      "TensorParallelModel: the model gives ",
      output.kind == Structure::Kind::kLeaf ? "a number"
                                            : detail::describe(output),
      ", not a tensor; call forward, which gives anything");
  return forward(inputs).toTensor();
}

}  // namespace colonnade::trace
