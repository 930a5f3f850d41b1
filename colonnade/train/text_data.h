// colonnade/train/text_data.h
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace colonnade {

/// What a language model learns from: it predicts `targets[b][t]` from
/// `inputs[b][0..t]`. Both are [batch, seq], int64.
struct TokenBatch {
  at::Tensor inputs;
  at::Tensor targets;
};

/// A text file, cut into windows of bytes: its end is held out for evaluation,
/// the rest is for training.
///
/// Read once, one byte of memory a byte; const calls from several ranks are
/// safe, so that the ranks of a process share one.
class TextData {
 public:
  /// file           any bytes
  /// seq_len        tokens of a window
  /// eval_fraction  of the file, in [0, 1]; 0 and 1 leave one part empty
  /// Errors         InvalidArgument where the file cannot be read, or a part
  ///                that is not meant to be empty is shorter than a window
  TextData(const std::filesystem::path& file, int64_t seq_len,
           double eval_fraction);

  int64_t seq_len() const { return seq_len_; }
  double eval_fraction() const { return eval_fraction_; }
  int64_t train_tokens() const { return split_; }
  int64_t eval_tokens() const {
    return static_cast<int64_t>(text_.size()) - split_;
  }

  /// Windows [first, first + count) of those that one training step takes from
  /// all data-parallel ranks: at random places, given by (seed, step, window)
  /// alone. So a run resumes with its step, and D ranks see together what one
  /// rank with D times the batch sees.
  TokenBatch train_batch(uint64_t seed, int64_t step, int64_t first,
                         int64_t count) const;

  /// The held-out part in windows that do not overlap; a rest shorter than a
  /// window is left out.
  int64_t eval_windows() const;
  TokenBatch eval_batch(int64_t first, int64_t count) const;

 private:
  TokenBatch empty_batch(int64_t count) const;
  void copy_window(TokenBatch& batch, int64_t row, int64_t begin) const;

  std::string text_;
  int64_t seq_len_;
  double eval_fraction_;
  int64_t split_;  // where the evaluation part begins
};

}  // namespace colonnade
