// colonnade/train/byte_tokenizer.h
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace colonnade {

/// Text as its bytes: token i is the byte i. Needs no training and knows every
/// text of every language; a character beyond ASCII takes two to four tokens.
struct ByteTokenizer {
  static constexpr int64_t kVocabSize = 256;

  /// Output  [bytes of text], int64
  static at::Tensor encode(std::string_view text);

  /// ids     integers of any shape, read in order
  /// Errors  InvalidArgument with the id where one is outside [0, 256)
  static std::string decode(const at::Tensor& ids);
};

}  // namespace colonnade
