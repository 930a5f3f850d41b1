// colonnade/models/llama_options.cpp
#include "colonnade/models/llama_options.h"

#include "colonnade/core/error.h"

#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace colonnade {

namespace {

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 4> kDtypes{{
    {"float32", at::kFloat},
    {"float64", at::kDouble},
    {"bfloat16", at::kBFloat16},
    {"float16", at::kHalf},
}};

std::string dtype_name(at::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes) {
    if (known == dtype) {
      return std::string(name);
    }
  }
  throw InvalidArgument(concat("Llama: dtype ", c10::toString(dtype),
                               " is none of float32, float64, bfloat16, "
                               "float16"));
}

at::ScalarType dtype_of_name(const std::string& name) {
  for (const auto& [known, dtype] : kDtypes) {
    if (known == name) {
      return dtype;
    }
  }
  throw InvalidArgument(concat("Llama: dtype '", name,
                               "' is none of float32, float64, bfloat16, "
                               "float16"));
}

void check_positive(int64_t value, std::string_view name) {
  check_arg(value > 0, "Llama: ", name, " is ", value, "; it must be positive");
}

}  // namespace

LlamaOptions LlamaOptions::resolved(int64_t tp_size) const {
  LlamaOptions options = *this;
  check_positive(vocab_size(), "vocab_size");
  check_positive(hidden_size(), "hidden_size");
  check_positive(intermediate_size(), "intermediate_size");
  check_positive(num_layers(), "num_layers");
  check_positive(num_heads(), "num_heads");
  check_positive(max_positions(), "max_positions");
  dtype_name(dtype());
  if (num_kv_heads() == 0) {
    options.num_kv_heads(num_heads());
  }
  check_positive(options.num_kv_heads(), "num_kv_heads");
  check_arg(num_heads() % options.num_kv_heads() == 0, "Llama: num_heads ",
            num_heads(), " is no multiple of num_kv_heads ",
            options.num_kv_heads(),
            "; each key head must serve as many query heads");
  if (head_dim() == 0) {
    check_arg(hidden_size() % num_heads() == 0, "Llama: hidden_size ",
              hidden_size(), " is no multiple of num_heads ", num_heads(),
              "; change one, or give head_dim");
    options.head_dim(hidden_size() / num_heads());
  }
  check_positive(options.head_dim(), "head_dim");
  check_arg(options.head_dim() % 2 == 0, "Llama: head_dim ", options.head_dim(),
            " is odd; the rotary embedding turns pairs, so make it even");
  check_arg(num_heads() % tp_size == 0, "Llama: num_heads ", num_heads(),
            " does not divide over ", tp_size,
            " tensor-parallel ranks; start a number of ranks that divides it");
  return options;
}

StateDict LlamaOptions::to_state() const {
  StateDict state;
  state["vocab_size"] = vocab_size();
  state["hidden_size"] = hidden_size();
  state["intermediate_size"] = intermediate_size();
  state["num_layers"] = num_layers();
  state["num_heads"] = num_heads();
  state["num_kv_heads"] = num_kv_heads();
  state["head_dim"] = head_dim();
  state["rope_theta"] = rope_theta();
  state["norm_eps"] = norm_eps();
  state["max_positions"] = max_positions();
  state["tie_embeddings"] = tie_embeddings();
  state["init_std"] = init_std();
  state["dtype"] = dtype_name(dtype());
  return state;
}

LlamaOptions LlamaOptions::from_state(const StateDict& state) {
  return LlamaOptions(state.at("vocab_size").to_int())
      .hidden_size(state.at("hidden_size").to_int())
      .intermediate_size(state.at("intermediate_size").to_int())
      .num_layers(state.at("num_layers").to_int())
      .num_heads(state.at("num_heads").to_int())
      .num_kv_heads(state.at("num_kv_heads").to_int())
      .head_dim(state.at("head_dim").to_int())
      .rope_theta(state.at("rope_theta").to_double())
      .norm_eps(state.at("norm_eps").to_double())
      .max_positions(state.at("max_positions").to_int())
      .tie_embeddings(state.at("tie_embeddings").to_bool())
      .init_std(state.at("init_std").to_double())
      .dtype(dtype_of_name(state.at("dtype").to_string()));
}

}  // namespace colonnade
