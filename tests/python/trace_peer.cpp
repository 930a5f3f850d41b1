// tests/python/trace_peer.cpp
// Runs a traced model without Python: the calls that trace_test.py has saved,
// each with the output that Python's model gave.
//
// usage: trace_peer MODEL CALLS DEGREE [NO_OPTIMIZE]
//
// Prints the largest difference of an element, and how many there were.
#include "colonnade/colonnade.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace trace = colonnade::trace;

/// The tensor that an output is, or has under the name "logits".
at::Tensor tensor_of(const c10::IValue& output) {
  return output.isTensor()
             ? output.toTensor()
             : output.toGenericDict().at(std::string("logits")).toTensor();
}

int main(int argc, char** argv) {
  if (argc < 4) {
    std::cerr << "usage: trace_peer MODEL CALLS DEGREE [NO_OPTIMIZE]\n";
    return 2;
  }
  try {
    colonnade::StateDict saved;
    colonnade::run_ranks(1, [&] {
      colonnade::parallel_state::initialize_model_parallel();
      saved = colonnade::parallel_layers::load(argv[2]);
    });
    trace::LoadOptions options;
    options.optimize = argc < 5;
    auto model =
        trace::parallel_model_load(argv[1], std::stoll(argv[3]), options);
    double largest = 0;
    int64_t elements = 0;
    for (const auto& call : saved["calls"].to_list().items) {
      const at::Tensor wanted = call.to_dict().at("output").to_tensor();
      std::vector<c10::IValue> inputs;
      for (const auto& input : call.to_dict().at("inputs").to_list().items) {
        inputs.emplace_back(input.to_tensor());
      }
      const at::Tensor got = tensor_of(model.forward(inputs));
      if (got.sizes() != wanted.sizes()) {
        throw std::runtime_error("the output has another shape");
      }
      largest = std::max(largest, (got - wanted).abs().max().item<double>());
      elements += got.numel();
    }
    std::cout << largest << " " << elements << "\n";
  } catch (const std::exception& error) {
    std::cerr << "trace_peer: " << error.what() << "\n";
    return 1;
  }
}
