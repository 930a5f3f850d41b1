// tests/train/text_data_test.cpp
#include "colonnade/train/text_data.h"

#include "colonnade/core/error.h"
#include "colonnade/train/byte_tokenizer.h"
#include "tests/testing/temporary_folder.h"

#include <ATen/ops/cat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace colonnade {
namespace {

using testing::HasSubstr;

class TextDataTest : public testing::Test {
 protected:
  TextDataTest() : file(folder.write("text", alphabet())) {}

  static std::string alphabet() {
    std::string text;
    for (int i = 0; i < 200; ++i) {
      text.push_back(static_cast<char>(i));
    }
    return text;
  }

  std::string error_of(const std::filesystem::path& path, int64_t seq_len,
                       double eval_fraction) {
    try {
      TextData(path, seq_len, eval_fraction);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "no error";
  }

  TemporaryFolder folder;
  std::filesystem::path file;
};

TEST_F(TextDataTest, TargetsFollowInputs) {
  const TextData data(file, 8, 0.25);
  EXPECT_EQ(data.train_tokens(), 150);
  EXPECT_EQ(data.eval_tokens(), 50);
  const TokenBatch batch = data.train_batch(1, 0, 0, 5);
  EXPECT_EQ(batch.inputs.sizes(), at::IntArrayRef({5, 8}));
  EXPECT_TRUE(batch.targets.equal(batch.inputs + 1));
}

TEST_F(TextDataTest, TrainingSeesAllOfItsPartAndNothingElse) {
  const TextData data(file, 8, 0.25);
  std::set<int64_t> starts;
  for (int step = 0; step < 100; ++step) {
    const at::Tensor inputs = data.train_batch(3, step, 0, 20).inputs;
    for (int64_t row = 0; row < 20; ++row) {
      starts.insert(inputs[row][0].item<int64_t>());
    }
  }
  // The last window is followed by one byte, its last target.
  EXPECT_EQ(*starts.begin(), 0);
  EXPECT_EQ(*starts.rbegin(), 150 - 8 - 1);
  EXPECT_EQ(starts.size(), 142u);
}

TEST_F(TextDataTest, WindowsAreGivenBySeedStepAndPlaceAlone) {
  const TextData data(file, 8, 0.25);
  const at::Tensor all = data.train_batch(7, 12, 0, 6).inputs;
  const at::Tensor first = data.train_batch(7, 12, 0, 2).inputs;
  const at::Tensor rest = data.train_batch(7, 12, 2, 4).inputs;
  EXPECT_TRUE(at::cat({first, rest}).equal(all));
  EXPECT_TRUE(
      TextData(file, 8, 0.25).train_batch(7, 12, 0, 6).inputs.equal(all));
  EXPECT_FALSE(data.train_batch(8, 12, 0, 6).inputs.equal(all));
  EXPECT_FALSE(data.train_batch(7, 13, 0, 6).inputs.equal(all));
}

TEST_F(TextDataTest, EvaluationWindowsFollowOneAnother) {
  const TextData data(file, 8, 0.25);
  ASSERT_EQ(data.eval_windows(), 6);
  const TokenBatch batch = data.eval_batch(0, 6);
  EXPECT_EQ(ByteTokenizer::decode(batch.inputs), alphabet().substr(150, 48));
  EXPECT_EQ(ByteTokenizer::decode(batch.targets), alphabet().substr(151, 48));
  EXPECT_TRUE(data.eval_batch(2, 1).inputs.equal(batch.inputs.slice(0, 2, 3)));
  try {
    data.eval_batch(5, 2);
    FAIL();
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "TextData: evaluation windows [5, 7) asked for; there are 6");
  }
}

TEST_F(TextDataTest, OnePartMayBeEmpty) {
  EXPECT_EQ(TextData(file, 8, 0.0).eval_windows(), 0);
  EXPECT_EQ(TextData(file, 8, 1.0).eval_windows(), 24);
}

TEST_F(TextDataTest, SaysWhatIsWrongWithAFile) {
  EXPECT_THAT(error_of(folder.path() / "none", 8, 0.1),
              HasSubstr("none: No such file or directory"));
  EXPECT_THAT(error_of(folder.path(), 8, 0.1),
              HasSubstr("is a folder; give a text file"));
  EXPECT_EQ(error_of("/proc/self/mem", 8, 0.1),
            "TextData: cannot read all of /proc/self/mem: Input/output error");
  EXPECT_THAT(error_of(file, 20, 0.1),
              HasSubstr("has 20 of its 200 bytes; windows of 20 tokens need at "
                        "least 21, so give a longer text or a smaller"));
  EXPECT_THAT(error_of(file, 180, 0.1), HasSubstr("the training part of"));
  EXPECT_THAT(error_of(file, 0, 0.1), HasSubstr("seq_len is 0"));
  EXPECT_THAT(error_of(file, 8, 1.5), HasSubstr("eval_fraction is 1.5"));
}

}  // namespace
}  // namespace colonnade
