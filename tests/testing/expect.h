// tests/testing/expect.h
#pragma once

#include "tests/testing/error_of.h"

#include <ATen/core/Tensor.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace colonnade::testing {

/// Expects equal shapes and dtypes, and values within `tolerance` of each
/// other, absolute or relative.
void expect_close(const at::Tensor& got, const at::Tensor& want,
                  double tolerance = 1e-10, const std::string& what = "");

/// Expects equal shapes, dtypes and bits.
void expect_equal(const at::Tensor& got, const at::Tensor& want,
                  const std::string& what = "");

/// Expects `body` to throw an `E` whose message has `text` in it.
template <typename E, typename Body>
void expect_throw(Body&& body, const std::string& text) {
  EXPECT_THAT(error_of<E>(std::forward<Body>(body)),
              ::testing::HasSubstr(text));
}

}  // namespace colonnade::testing
