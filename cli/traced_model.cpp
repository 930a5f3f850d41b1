// cli/traced_model.cpp
#include "cli/traced_model.h"

#include "cli/example_inputs.h"
#include "cli/launched_ranks.h"
#include "colonnade/core/error.h"
#include "colonnade/trace/parallel_model_save_load.h"
#include "colonnade/train/byte_tokenizer.h"

#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <exception>
#include <string>
#include <system_error>
#include <utility>

namespace colonnade::cli {
namespace fs = std::filesystem;
namespace {

/// Empty where the model reads bytes and gives the logits of the next; else
/// how it differs.
std::string differs_from_decoder(const trace::Graph& graph) {
  using Kind = trace::Structure::Kind;
  if (graph.inputs.size() != 1 || graph.inputs[0].dtype != at::kLong ||
      graph.inputs[0].dims.size() != 2) {
    return "its input is not one tensor of ids [1, seq]";
  }
  const auto& dims = graph.inputs[0].dims;
  if (dims[0].variable < 0 && dims[0].size != 1) {
    return concat("it reads ", dims[0].size, " texts at a time, not one");
  }
  if (dims[1].variable < 0) {
    return concat("it reads exactly ", dims[1].size, " ids at a time");
  }
  if (cache_length(graph) < 0) {
    return "it has no state cache.keys_0 [1, heads, positions, head size] that "
           "keeps what it has read";
  }
  if (graph.output_structure.kind != Kind::kLeaf ||
      !graph.outputs[0].is<trace::Value>()) {
    return "its output is not one tensor of logits";
  }
  const auto value =
      static_cast<size_t>(graph.outputs[0].as<trace::Value>().id);
  const std::vector<int64_t>& shape = graph.values[value].example_shape;
  if (shape.size() != 2 || shape[1] != ByteTokenizer::kVocabSize) {
    return concat("its output has shape ", at::IntArrayRef(shape), ", not [1, ",
                  ByteTokenizer::kVocabSize, "], a logit for each byte");
  }
  return "";
}

/// Throws unless the model runs on its ranks; it is as new then. A graph for
/// any degree may still split something that does not divide, such as heads.
void try_degree(trace::TensorParallelModel& model, const std::string& folder) {
  const int64_t degree = model.tensor_parallel_size();
  if (degree == model.graph().degree) {
    return;
  }
  std::string reason;
  try {
    model.forward(example_inputs(model.graph(), {}));
  } catch (const c10::Error& error) {
    reason = error.what_without_backtrace();
  } catch (const std::exception& error) {
    reason = error.what();
  }
  check_arg(reason.empty(), folder, ": does not run on ", degree,
            " ranks, though on ", model.graph().degree,
            ", as it was traced: ", reason);
  model.reset_state();
}

}  // namespace

bool has_traced_model(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().ends_with(".graph.json")) {
      return true;
    }
  }
  return false;
}

trace::TensorParallelModel load_traced_model(
    const TracedModelOptions& options) {
  check<CheckpointError>(has_traced_model(options.folder), options.folder,
                         ": no traced model here; make one of a run with "
                         "colonnade trace --checkpoint RUN --out ",
                         options.folder);
  trace::TensorParallelModel model = trace::parallel_model_load(
      options.folder, options.tp,
      {.optimize = options.optimize, .launch = own_ranks(options.backend)});
  try_degree(model, options.folder);
  return model;
}

void check_outside(const fs::path& folder, const fs::path& file,
                   const std::string& option) {
  const fs::path whole = fs::weakly_canonical(folder);
  for (fs::path above = fs::weakly_canonical(file); above.has_relative_path();
       above = above.parent_path()) {
    check_arg(above != whole, option, " names ", file.string(),
              ", in the traced model itself, which has only its own files; "
              "give another folder");
  }
}

int64_t cache_length(const trace::Graph& graph) {
  const auto keys =
      std::ranges::find_if(graph.weights, [](const trace::Weight& weight) {
        return weight.kind == trace::Weight::Kind::kState &&
               weight.name == "cache.keys_0" && weight.shape.size() == 4;
      });
  return keys != graph.weights.end() ? keys->shape[2] : -1;
}

TracedDecoder::TracedDecoder(trace::TensorParallelModel model)
    : model_(std::move(model)), max_length_(cache_length(model_.graph())) {
  const std::string difference = differs_from_decoder(model_.graph());
  check_arg(difference.empty(),
            "this traced model does not write text: ", difference,
            "; colonnade trace makes one that does");
}

at::Tensor TracedDecoder::next_logits(at::IntArrayRef ids) {
  return model_(at::tensor(ids).unsqueeze(0))[0];
}

}  // namespace colonnade::cli
