// colonnade/train/text_data.cpp
#include "colonnade/train/text_data.h"

#include "colonnade/core/error.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

namespace colonnade {
namespace {

std::string read_file(const std::filesystem::path& file) {
  std::error_code error;
  check_arg(!std::filesystem::is_directory(file, error),
            "TextData: ", file.string(), " is a folder; give a text file");
  std::ifstream in(file, std::ios::binary);
  check_arg(in.is_open(), "TextData: cannot open ", file.string(), ": ",
            std::strerror(errno));
  std::string text;
  std::array<char, 1 << 16> piece;
  do {
    in.read(piece.data(), piece.size());
    text.append(piece.data(), static_cast<size_t>(in.gcount()));
  } while (in);
  check_arg(!in.bad(), "TextData: cannot read all of ", file.string(), ": ",
            std::strerror(errno));
  return text;
}

/// The finalizer of splitmix64: every bit of `x` changes every bit of the
/// result.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// `bits` as a number in [0, limit): the high half of their product.
int64_t scale(uint64_t bits, int64_t limit) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<int64_t>(
      (static_cast<Wide>(bits) * static_cast<uint64_t>(limit)) >> 64);
}

}  // namespace

TextData::TextData(const std::filesystem::path& file, int64_t seq_len,
                   double eval_fraction)
    : text_(read_file(file)), seq_len_(seq_len), eval_fraction_(eval_fraction) {
  check_arg(seq_len >= 1, "TextData: seq_len is ", seq_len,
            "; a window needs at least 1 token");
  check_arg(eval_fraction >= 0 && eval_fraction <= 1,
            "TextData: eval_fraction is ", eval_fraction,
            "; give a share in [0, 1]");
  const auto size = static_cast<int64_t>(text_.size());
  split_ = size - std::llround(static_cast<double>(size) * eval_fraction);
  const auto check_part = [&](const char* part, int64_t tokens) {
    check_arg(tokens > seq_len, "TextData: the ", part, " part of ",
              file.string(), " has ", tokens, " of its ", size,
              " bytes; windows of ", seq_len, " tokens need at least ",
              seq_len + 1, ", so give a longer text or a smaller seq_len");
  };
  if (eval_fraction < 1) {
    check_part("training", train_tokens());
  }
  if (eval_fraction > 0) {
    check_part("evaluation", eval_tokens());
  }
}

TokenBatch TextData::train_batch(uint64_t seed, int64_t step, int64_t first,
                                 int64_t count) const {
  TokenBatch batch = empty_batch(count);
  const uint64_t key = mix(mix(seed) ^ static_cast<uint64_t>(step));
  for (int64_t row = 0; row < count; ++row) {
    const uint64_t bits = mix(key ^ static_cast<uint64_t>(first + row));
    copy_window(batch, row, scale(bits, train_tokens() - seq_len_));
  }
  return batch;
}

int64_t TextData::eval_windows() const {
  return std::max<int64_t>(0, eval_tokens() - 1) / seq_len_;
}

TokenBatch TextData::eval_batch(int64_t first, int64_t count) const {
  check_arg(first >= 0 && count >= 0 && first + count <= eval_windows(),
            "TextData: evaluation windows [", first, ", ", first + count,
            ") asked for; there are ", eval_windows());
  TokenBatch batch = empty_batch(count);
  for (int64_t row = 0; row < count; ++row) {
    copy_window(batch, row, split_ + (first + row) * seq_len_);
  }
  return batch;
}

TokenBatch TextData::empty_batch(int64_t count) const {
  return {.inputs = at::empty({count, seq_len_}, at::kLong),
          .targets = at::empty({count, seq_len_}, at::kLong)};
}

void TextData::copy_window(TokenBatch& batch, int64_t row,
                           int64_t begin) const {
  const auto* bytes =
      reinterpret_cast<const unsigned char*>(text_.data()) + begin;
  const int64_t offset = row * seq_len_;
  std::copy_n(bytes, seq_len_,
              batch.inputs.mutable_data_ptr<int64_t>() + offset);
  std::copy_n(bytes + 1, seq_len_,
              batch.targets.mutable_data_ptr<int64_t>() + offset);
}

}  // namespace colonnade
