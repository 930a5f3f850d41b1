// tests/models/same_function.cpp
#include "tests/models/same_function.h"

#include "tests/testing/expect.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

namespace colonnade::testing {
namespace {

using at::Tensor;

std::vector<Tensor> leaves(const std::vector<Tensor>& inputs,
                           at::ScalarType dtype) {
  std::vector<Tensor> copies;
  for (const Tensor& input : inputs) {
    // Not through contiguous memory: strides are part of the test.
    copies.push_back(input.detach().to(dtype).requires_grad_());
  }
  return copies;
}

/// Fixed numbers to weigh outputs with, so that no symmetry hides an error.
Tensor weights_for(const Tensor& y) {
  return at::arange(y.numel(), at::kDouble)
      .mul(0.7)
      .sin()
      .view(y.sizes())
      .to(y.scalar_type());
}

struct Derivatives {
  Tensor value;
  std::vector<Tensor> first;
  std::vector<Tensor> second;
};

Derivatives derivatives(const TensorFunction& f,
                        const std::vector<Tensor>& inputs) {
  Derivatives all;
  all.value = f(inputs);
  const Tensor along = weights_for(all.value).requires_grad_();
  all.first = torch::autograd::grad({(all.value * along).sum()}, inputs, {},
                                    /*retain_graph=*/true,
                                    /*create_graph=*/true);
  Tensor energy = at::zeros({}, all.value.options());
  for (const Tensor& gradient : all.first) {
    energy = energy + (gradient * weights_for(gradient)).sum();
  }
  std::vector<Tensor> wanted = inputs;
  wanted.push_back(along);
  all.second = torch::autograd::grad({energy}, wanted, {},
                                     /*retain_graph=*/false,
                                     /*create_graph=*/false,
                                     /*allow_unused=*/true);
  return all;
}

std::vector<Tensor> first_only(const TensorFunction& f,
                               const std::vector<Tensor>& inputs) {
  const Tensor y = f(inputs);
  return torch::autograd::grad({y}, inputs, {weights_for(y)});
}

void expect_all_close(const std::vector<Tensor>& got,
                      const std::vector<Tensor>& want, double tolerance,
                      const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].defined(), want[i].defined()) << what << " of " << i;
    if (got[i].defined()) {
      expect_close(got[i], want[i], tolerance,
                   what + " of input " + std::to_string(i));
    }
  }
}

}  // namespace

void expect_same_function(const TensorFunction& got, const TensorFunction& want,
                          const std::vector<Tensor>& inputs,
                          double float_tolerance) {
  const std::vector<Tensor> wide = leaves(inputs, at::kDouble);
  const Derivatives expected = derivatives(want, wide);
  const Derivatives actual = derivatives(got, wide);
  expect_close(actual.value, expected.value, 1e-10, "value");
  expect_all_close(actual.first, expected.first, 1e-10, "graph's gradient");
  expect_all_close(actual.second, expected.second, 1e-10, "second derivative");
  expect_all_close(first_only(got, wide), expected.first, 1e-10, "gradient");
  {
    const at::NoGradGuard no_grad;
    expect_close(got(wide), expected.value, 1e-10, "value without gradients");
  }

  const std::vector<Tensor> narrow = leaves(inputs, at::kFloat);
  expect_close(got(narrow).to(at::kDouble), expected.value, float_tolerance,
               "fp32 value");
  std::vector<Tensor> gradients = first_only(got, narrow);
  for (Tensor& gradient : gradients) {
    gradient = gradient.to(at::kDouble);
  }
  expect_all_close(gradients, expected.first, float_tolerance, "fp32 gradient");
}

}  // namespace colonnade::testing
