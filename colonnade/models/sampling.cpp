// colonnade/models/sampling.cpp
#include "colonnade/models/sampling.h"

#include "colonnade/core/error.h"

#include <ATen/ops/rand.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>

namespace colonnade {

using at::Tensor;

BestToken best_token(const Tensor& logits) {
  const Tensor wide = logits.to(at::kCPU, at::kDouble).contiguous();
  const double* data = wide.const_data_ptr<double>();
  constexpr double kLowest = -std::numeric_limits<double>::infinity();
  double best = kLowest;
  double second = kLowest;
  BestToken token;
  bool nan = false;
  for (int64_t id = 0; id < wide.numel(); ++id) {
    nan = nan || std::isnan(data[id]);
    if (data[id] > best) {
      second = best;
      best = data[id];
      token.id = id;
    } else if (data[id] > second) {
      second = data[id];
    }
  }
  check_arg(!nan && std::isfinite(best),
            "Generate: the model's logits are not finite numbers; were its "
            "weights loaded, or did its training diverge?");
  token.margin = best - second;
  return token;
}

void check_sampling(double temperature, int64_t top_k, double top_p) {
  check_arg(temperature >= 0 && std::isfinite(temperature),
            "Generate: temperature is ", temperature,
            "; give 0 for the likeliest token, or more to draw");
  check_arg(top_k >= 0, "Generate: top_k is ", top_k,
            "; give how many tokens to draw from, or 0 for all");
  check_arg(top_p > 0 && top_p <= 1, "Generate: top_p is ", top_p,
            "; give a probability in (0, 1], where 1 keeps all tokens");
}

Tensor token_probabilities(const Tensor& logits, double temperature,
                           int64_t top_k, double top_p) {
  check_sampling(temperature, top_k, top_p);
  check_arg(temperature > 0, "Generate: no token is drawn at temperature 0");
  const Tensor wide = logits.to(at::kCPU, at::kDouble);
  // Less the largest first: a small temperature must not overflow.
  const Tensor all = ((wide - wide.max()) / temperature).softmax(0);
  const int64_t size = all.size(0);
  const int64_t kept = top_k > 0 && top_k < size ? top_k : size;
  if (kept == size && top_p == 1.0) {
    return all;
  }
  auto [likeliest, ids] =
      all.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  likeliest = likeliest.narrow(0, 0, kept);
  likeliest = likeliest / likeliest.sum();
  const Tensor before = likeliest.cumsum(0) - likeliest;
  likeliest = likeliest * before.lt(top_p);
  return at::zeros_like(all).scatter(0, ids.narrow(0, 0, kept),
                                     likeliest / likeliest.sum());
}

int64_t draw_token(const Tensor& probabilities, at::Generator& generator) {
  const Tensor table = probabilities.contiguous();
  const double* data = table.const_data_ptr<double>();
  double rest = at::rand({}, generator, at::TensorOptions().dtype(at::kDouble))
                    .item<double>();
  int64_t last = 0;  // for what rounding leaves over at the end
  for (int64_t id = 0; id < table.numel(); ++id) {
    if (data[id] > 0) {
      last = id;
      if (rest < data[id]) {
        break;
      }
      rest -= data[id];
    }
  }
  return last;
}

}  // namespace colonnade
