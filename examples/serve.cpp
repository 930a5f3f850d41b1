// examples/serve.cpp
// Writes on with a traced model, without the code of the model: prompts on
// standard input, a line each, and their greedy continuations on standard
// output. Ids are bytes, as `colonnade trace` makes such a model.
//
// usage: serve FOLDER [TP_DEGREE [BYTES]]
#include <colonnade/colonnade.h>

#include <torch/types.h>

#include <iostream>
#include <optional>
#include <string>
#include <vector>

namespace trace = colonnade::trace;

std::string go_on(trace::TensorParallelModel& model, const std::string& prompt,
                  int bytes) {
  model.reset_state();  // an empty cache
  std::vector<int64_t> ids;
  for (const char c : prompt) {
    ids.push_back(static_cast<unsigned char>(c));
  }
  std::string text;
  for (int i = 0; i < bytes; ++i) {
    const torch::Tensor logits = model(torch::tensor(ids).unsqueeze(0));
    ids = {logits[0].argmax().item<int64_t>()};  // the cache has the others
    text += static_cast<char>(ids[0]);
  }
  return text;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: serve FOLDER [TP_DEGREE [BYTES]]\n";
    return 2;
  }
  try {
    const std::optional<int64_t> degree =  // if not given, as it was traced
        argc > 2 ? std::optional(std::stoll(argv[2])) : std::nullopt;
    const int bytes = argc > 3 ? std::stoi(argv[3]) : 100;
    auto model = trace::parallel_model_load(argv[1], degree);
    for (std::string prompt; std::getline(std::cin, prompt);) {
      if (!prompt.empty()) {
        std::cout << prompt << go_on(model, prompt, bytes) << std::endl;
      }
    }
  } catch (const std::exception& error) {
    std::cerr << "serve: " << error.what() << "\n";
    return 1;
  }
}
