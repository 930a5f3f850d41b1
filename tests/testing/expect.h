// tests/testing/expect.h
#pragma once

#include <ATen/core/Tensor.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <exception>
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
  try {
    std::forward<Body>(body)();
  } catch (const E& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
    return;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another type of error: " << error.what();
    return;
  }
  ADD_FAILURE() << "no error; expected: " << text;
}

}  // namespace colonnade::testing
