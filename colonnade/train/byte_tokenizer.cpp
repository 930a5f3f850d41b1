// colonnade/train/byte_tokenizer.cpp
#include "colonnade/train/byte_tokenizer.h"

#include "colonnade/core/error.h"

#include <ATen/ops/empty.h>

#include <algorithm>

namespace colonnade {

at::Tensor ByteTokenizer::encode(std::string_view text) {
  at::Tensor ids = at::empty({static_cast<int64_t>(text.size())}, at::kLong);
  std::transform(text.begin(), text.end(), ids.mutable_data_ptr<int64_t>(),
                 [](char c) { return static_cast<unsigned char>(c); });
  return ids;
}

std::string ByteTokenizer::decode(const at::Tensor& ids) {
  const at::Tensor flat = ids.to(at::kCPU, at::kLong).contiguous();
  const auto* first = flat.const_data_ptr<int64_t>();
  std::string text;
  text.reserve(static_cast<size_t>(flat.numel()));
  for (int64_t i = 0; i < flat.numel(); ++i) {
    check_arg(first[i] >= 0 && first[i] < kVocabSize, "ByteTokenizer: id ",
              first[i], " at place ", i, " is not a byte; ids are in [0, ",
              kVocabSize, ")");
    text.push_back(static_cast<char>(first[i]));
  }
  return text;
}

}  // namespace colonnade
