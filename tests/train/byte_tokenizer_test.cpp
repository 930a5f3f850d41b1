// tests/train/byte_tokenizer_test.cpp
#include "colonnade/train/byte_tokenizer.h"

#include "colonnade/core/error.h"

#include <ATen/ops/tensor.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace colonnade {
namespace {

TEST(ByteTokenizer, EveryByteSurvives) {
  std::string text;
  for (int byte = 0; byte < 256; ++byte) {
    text.push_back(static_cast<char>(byte));
  }
  const at::Tensor ids = ByteTokenizer::encode(text);
  EXPECT_EQ(ids.sizes(), at::IntArrayRef({256}));
  EXPECT_EQ(ids[200].item<int64_t>(), 200);
  EXPECT_EQ(ByteTokenizer::decode(ids), text);
  EXPECT_EQ(ByteTokenizer::decode(ids.view({16, 16}).t()).size(), 256u);
}

TEST(ByteTokenizer, EmptyTextIsNoTokens) {
  EXPECT_EQ(ByteTokenizer::encode("").numel(), 0);
  EXPECT_EQ(ByteTokenizer::decode(ByteTokenizer::encode("")), "");
}

TEST(ByteTokenizer, RefusesAnIdThatIsNoByte) {
  try {
    ByteTokenizer::decode(at::tensor({65, 256}));
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "ByteTokenizer: id 256 at place 1 is not a byte; ids are in "
                 "[0, 256)");
  }
}

}  // namespace
}  // namespace colonnade
