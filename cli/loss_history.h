// cli/loss_history.h
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace colonnade::cli {

struct LossPoint {
  int64_t step;
  double loss;
};

/// The losses of a run, as `loss.csv` has them: a row a step, with the
/// evaluation's loss where there was one.
class LossHistory {
 public:
  /// Steps come in ascending order.
  void add_step(int64_t step, double loss, double grad_norm,
                double learning_rate);
  void add_evaluation(int64_t step, double loss);

  /// The rows of a file up to `last_step`: what a resumed run goes on from. A
  /// file that is not there, or rows that do not read, are left out.
  static LossHistory read(const std::filesystem::path& file, int64_t last_step);
  std::string to_csv() const;

  const std::vector<LossPoint>& training() const { return training_; }
  const std::vector<LossPoint>& evaluations() const { return evaluations_; }

 private:
  struct Extra {
    double grad_norm;
    double learning_rate;
  };

  std::vector<LossPoint> training_;
  std::vector<Extra> extras_;  // beside training_
  std::vector<LossPoint> evaluations_;
};

}  // namespace colonnade::cli
