// tests/checkpoint/safetensors_test.cpp
#include "colonnade/checkpoint/detail/safetensors.h"

#include "colonnade/core/error.h"
#include "tests/testing/error_of.h"
#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace colonnade::detail {
namespace {

using testing::HasSubstr;

std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + rest;
}

class SafetensorsTest : public testing::Test {
 protected:
  SafetensorsHeader parse(const std::string& bytes) {
    const File file =
        File::open_for_reading(folder_.write("x.safetensors", bytes));
    return parse_safetensors_header(read_safetensors_header(file), file);
  }

  /// A file with this header and `data` bytes after it.
  std::string refused(const std::string& header, size_t data) {
    const std::string bytes =
        with_length(header.size(), header + std::string(data, 'x'));
    return error_of<CheckpointError>([&] { parse(bytes); });
  }

  TemporaryFolder folder_;
};

TEST_F(SafetensorsTest, ReadsWhatItLaidOut) {
  SafetensorsHeader header;
  header.metadata["key"] = "value";
  header.entries = {{"a", at::kFloat, {2, 3}},
                    {"b.c", at::kBFloat16, {}},
                    {"empty", at::kLong, {0, 4}}};
  const std::string text = header.layout();
  EXPECT_EQ(text.size() % 64, 0);
  const SafetensorsHeader got = parse(text + std::string(26, 'x'));
  EXPECT_EQ(got.metadata, header.metadata);
  ASSERT_EQ(got.entries.size(), 3);
  for (size_t i = 0; i < 3; ++i) {
    const auto found = std::ranges::find(got.entries, header.entries[i].name,
                                         &SafetensorsEntry::name);
    ASSERT_NE(found, got.entries.end());
    EXPECT_EQ(found->dtype, header.entries[i].dtype);
    EXPECT_EQ(found->shape, header.entries[i].shape);
    EXPECT_EQ(found->offset, header.entries[i].offset);
  }
}

TEST_F(SafetensorsTest, RefusesLengthsThatCannotBe) {
  EXPECT_THAT(error_of<CheckpointError>([&] { parse("abc"); }),
              HasSubstr("x.safetensors: has 3 bytes, too few for a "
                        "safetensors file; it was cut"));
  for (const uint64_t length : {uint64_t{3}, uint64_t{1} << 40, ~uint64_t{0}}) {
    EXPECT_THAT(
        error_of<CheckpointError>([&] { parse(with_length(length, "{}")); }),
        HasSubstr("its header claims " + std::to_string(length) +
                  " bytes where at most 2 are possible"));
  }
}

TEST_F(SafetensorsTest, RefusesHeadersThatLie) {
  const auto tensor = [](const std::string& dtype, const std::string& shape,
                         const std::string& offsets) {
    return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape +
           R"(,"data_offsets":)" + offsets + "}}";
  };
  EXPECT_NO_THROW(parse(
      with_length(54, tensor("F32", "[2]", "[0,8]") + std::string(8, 'x'))));
  EXPECT_THAT(refused("[]", 0), HasSubstr("its header is not a JSON object"));
  EXPECT_THAT(refused("{\"a\":", 0),
              HasSubstr("its header is not a JSON object"));
  EXPECT_THAT(refused(std::string(100000, '['), 0),
              HasSubstr("its header is not a JSON object"));
  EXPECT_THAT(refused(R"({"a":1})", 0),
              HasSubstr("tensor a: needs dtype, shape and two data_offsets"));
  EXPECT_THAT(refused(tensor("F12", "[2]", "[0,8]"), 8),
              HasSubstr("tensor a: dtype F12 is not supported"));
  EXPECT_THAT(refused(tensor("F32", "[2]", "[0,12]"), 8),
              HasSubstr("tensor a: data_offsets 0 and 12 are not within the 8 "
                        "bytes that follow the header"));
  EXPECT_THAT(refused(tensor("F32", "[2]", "[8,0]"), 8),
              HasSubstr("tensor a: data_offsets 8 and 0 are not within"));
  EXPECT_THAT(refused(tensor("F32", "[2]", "[-1,8]"), 8),
              HasSubstr("tensor a: data_offsets -1 and 8 are not within"));
  EXPECT_THAT(
      refused(tensor("F32", "[3]", "[0,8]"), 8),
      HasSubstr("tensor a: has 8 bytes, but 12 by its dtype and shape"));
  EXPECT_THAT(refused(tensor("F32", "[2,-1]", "[0,8]"), 8),
              HasSubstr("tensor a: size 1 of its shape is not possible"));
  EXPECT_THAT(refused(tensor("F64", "[4611686018427387904,4]", "[0,0]"), 0),
              HasSubstr("tensor a: size 0 of its shape is not possible"));
  EXPECT_THAT(refused(tensor("F32", "[1]", "[4,8]"), 8),
              HasSubstr("tensor a: begins at byte 4 of the data where 0 is the "
                        "next; tensors overlap or leave a gap"));
  EXPECT_THAT(refused(tensor("F32", "[2]", "[0,8]"), 12),
              HasSubstr("but 70 by its header; it was cut, or bytes were "
                        "added"));
  const std::string one =
      R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  EXPECT_THAT(refused("{" + one + "," + one + "}", 4),
              HasSubstr("tensor a: is in the header twice"));
  EXPECT_THAT(
      refused("{" + one +
                  R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
              6),
      HasSubstr("tensor b: begins at byte 2 of the data where 4 is the next"));
  EXPECT_THAT(refused(R"({"__metadata__":{"a":1}})", 0),
              HasSubstr("metadata a is not a string"));
}

}  // namespace
}  // namespace colonnade::detail
