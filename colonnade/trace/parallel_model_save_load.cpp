// colonnade/trace/parallel_model_save_load.cpp
#include "colonnade/trace/parallel_model_save_load.h"

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/load_checkpoint.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/detail/save_checkpoint.h"
#include "colonnade/checkpoint/detail/save_files.h"
#include "colonnade/comm/exchange.h"
#include "colonnade/core/error.h"
#include "colonnade/trace/detail/callable_ops.h"
#include "colonnade/trace/detail/check_graph.h"
#include "colonnade/trace/detail/graph_json.h"
#include "colonnade/trace/detail/served_model.h"
#include "colonnade/trace/detail/tracing_ranks.h"

#include <memory>
#include <utility>

namespace colonnade::trace {
namespace {

namespace fs = std::filesystem;
using colonnade::detail::Attachment;
using colonnade::detail::Manifest;
using detail::RankWeights;

constexpr const char* kGraphFile = "graph.json";

/// The entry of the state dict in which weights of a kind are.
const char* entry_of(Weight::Kind kind) {
  switch (kind) {
    case Weight::Kind::kConstant:
      return "constants";
    case Weight::Kind::kState:
      return "state";
    default:
      return "model";
  }
}

bool is_stored(const Weight& weight) {
  return weight.kind != Weight::Kind::kState || !weight.is_zero;
}

StateDict state_of(const Graph& graph, const RankWeights& weights) {
  StateDict state;
  for (const Weight::Kind kind :
       {Weight::Kind::kParameter, Weight::Kind::kConstant,
        Weight::Kind::kState}) {
    state[std::string(entry_of(kind))] = StateDict();
  }
  for (size_t i = 0; i < graph.weights.size(); ++i) {
    const Weight& weight = graph.weights[i];
    if (!is_stored(weight)) {
      continue;
    }
    StateValue& entry = state[std::string(entry_of(weight.kind))];
    const StateTensor tensor{weights.tensors[i], weights.attributes[i]};
    entry[weight.name] = tensor;
    for (const std::string& alias : weight.aliases) {
      entry[alias] = tensor;
    }
  }
  return state;
}

/// A state that starts as zeros, as a rank of `degree` has it.
at::Tensor zero_state(const Graph& graph, const Weight& weight,
                      int64_t degree) {
  std::vector<int64_t> shape = weight.shape;
  if (weight.split_dim >= 0) {
    int64_t& size = shape.at(static_cast<size_t>(weight.split_dim));
    size = (size + degree - 1) / degree;
  }
  return detail::shared_zeros(
      shape, graph.values[static_cast<size_t>(weight.value)].dtype);
}

RankWeights weights_from(const Graph& graph, const StateDict& state,
                         int64_t degree, at::Device device,
                         const std::string& subject) {
  RankWeights weights;
  for (const Weight& weight : graph.weights) {
    StateTensor tensor;
    if (is_stored(weight)) {
      const char* entry = entry_of(weight.kind);
      check<CheckpointError>(
          state.contains(entry) && state.at(entry).is<StateDict>() &&
              state.at(entry).to_dict().contains(weight.name),
          subject, ": has no tensor ", entry, ".", weight.name,
          ", which its graph needs");
      tensor = state.at(entry).to_dict().at(weight.name).to_state_tensor();
    } else {
      tensor.tensor = zero_state(graph, weight, degree);
    }
    const at::ScalarType wanted =
        graph.values[static_cast<size_t>(weight.value)].dtype;
    check<CheckpointError>(tensor.tensor.scalar_type() == wanted, subject,
                           ": tensor ", weight.name, " is ",
                           tensor.tensor.scalar_type(), ", its graph takes ",
                           wanted);
    weights.tensors.push_back(tensor.tensor.to(device));
    weights.attributes.push_back(std::move(tensor.attributes));
  }
  return weights;
}

/// A graph file that was found in order, and its manifest's text.
struct GraphFile {
  std::string manifest_text;
  std::string graph_text;
};

GraphFile read_graph_file(const fs::path& folder) {
  GraphFile file;
  file.manifest_text = colonnade::detail::read_manifest_text(folder);
  const Manifest manifest = colonnade::detail::manifest_from_text(
      file.manifest_text, (folder / colonnade::detail::kManifestFile).string());
  file.graph_text =
      colonnade::detail::read_attachment(folder, manifest, kGraphFile);
  colonnade::detail::check_no_extra_files(folder, manifest);
  return file;
}

Graph read_graph(const fs::path& folder, const std::string& text,
                 std::optional<int64_t> tp_degree, const LoadOptions& options) {
  const std::string subject = concat(folder.string(), ": ", kGraphFile);
  Graph graph = detail::graph_from_json(text, subject);
  std::vector<std::string> namespaces = detail::default_namespaces();
  namespaces.insert(namespaces.end(), options.namespaces.begin(),
                    options.namespaces.end());
  detail::check_graph(graph, subject, namespaces);
  const int64_t degree = tp_degree.value_or(graph.degree);
  check_arg(degree >= 1, "parallel_model_load: tp_degree is ", degree,
            "; it must be at least 1");
  check<CheckpointError>(
      !graph.fixed.has_value() || degree == graph.degree, folder.string(),
      ": its graph is valid at tensor-parallel degree ", graph.degree,
      " only, not at ", degree, ": ", graph.fixed.value_or(""));
  return graph;
}

RankWeights load_weights(const fs::path& folder, const Graph& graph,
                         const std::string& manifest_text, int64_t degree,
                         const LoadOptions& options) {
  const StateDict state = colonnade::detail::load_checkpoint(
      folder, {.options = {.padded = true, .map_files = true},
               .manifest_text = manifest_text});
  return weights_from(graph, state, degree, options.device, folder.string());
}

std::shared_ptr<detail::ServedModel> load_on_thread_ranks(
    const fs::path& folder, std::optional<int64_t> tp_degree,
    const LoadOptions& options) {
  const GraphFile file = read_graph_file(folder);
  Graph graph = read_graph(folder, file.graph_text, tp_degree, options);
  const auto degree = static_cast<int>(tp_degree.value_or(graph.degree));
  auto pool = std::make_unique<RankPool>(degree, detail::make_parallel(degree),
                                         options.launch);
  std::vector<RankWeights> weights(static_cast<size_t>(degree));
  pool->run([&](int rank) {
    weights[static_cast<size_t>(rank)] =
        load_weights(folder, graph, file.manifest_text, degree, options);
  });
  return std::make_shared<detail::ServedModel>(
      std::move(graph), std::move(weights), std::move(pool), options.device,
      options.optimize);
}

std::shared_ptr<detail::ServedModel> load_on_this_rank(
    const fs::path& folder, std::optional<int64_t> tp_degree,
    const LoadOptions& options) {
  const auto ranks =
      colonnade::detail::CheckpointRanks::current("parallel_model_load");
  GraphFile file;
  colonnade::detail::together(ranks.world, [&] {
    check_arg(!tp_degree.has_value() || *tp_degree == ranks.size,
              "parallel_model_load: tp_degree is ", tp_degree.value_or(0),
              ", but these ranks have a tensor-parallel size of ", ranks.size);
    if (ranks.commits) {
      file = read_graph_file(folder);
    }
  });
  if (ranks.world != nullptr) {
    for (std::string* text : {&file.manifest_text, &file.graph_text}) {
      *text = broadcast_bytes(*ranks.world, *text, /*root=*/0);
    }
  }
  Graph graph;
  colonnade::detail::together(ranks.world, [&] {
    graph = read_graph(folder, file.graph_text, ranks.size, options);
  });
  RankWeights weights =
      load_weights(folder, graph, file.manifest_text, ranks.size, options);
  return std::make_shared<detail::ServedModel>(
      std::move(graph), std::move(weights), options.device, options.optimize);
}

}  // namespace

void parallel_model_save(const TensorParallelModel& model,
                         const fs::path& save_dir) {
  detail::ServedModel& served = detail::ModelAccess::served(model);
  const std::vector<Attachment> attachments = {
      {kGraphFile, detail::to_json(served.graph())}};
  served.run_on_ranks([&](int rank) {
    colonnade::detail::save_checkpoint(
        state_of(served.graph(), served.weights()[static_cast<size_t>(rank)]),
        save_dir, attachments);
  });
}

TensorParallelModel parallel_model_load(const fs::path& load_dir,
                                        std::optional<int64_t> tp_degree,
                                        const LoadOptions& options) {
  return detail::ModelAccess::make(
      detail::called_by_rank()
          ? load_on_this_rank(load_dir, tp_degree, options)
          : load_on_thread_ranks(load_dir, tp_degree, options));
}

}  // namespace colonnade::trace
