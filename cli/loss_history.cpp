// cli/loss_history.cpp
#include "cli/loss_history.h"

#include <cstdio>
#include <fstream>

namespace colonnade::cli {

void LossHistory::add_step(int64_t step, double loss, double grad_norm,
                           double learning_rate) {
  training_.push_back({step, loss});
  extras_.push_back({grad_norm, learning_rate});
}

void LossHistory::add_evaluation(int64_t step, double loss) {
  evaluations_.push_back({step, loss});
}

LossHistory LossHistory::read(const std::filesystem::path& file,
                              int64_t last_step) {
  LossHistory history;
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    long long step = 0;
    double loss = 0;
    double grad_norm = 0;
    double learning_rate = 0;
    double evaluation = 0;
    const int fields =
        std::sscanf(line.c_str(), "%lld,%lf,%lf,%lf,%lf", &step, &loss,
                    &grad_norm, &learning_rate, &evaluation);
    if (fields < 4 || step > last_step) {
      continue;
    }
    history.add_step(step, loss, grad_norm, learning_rate);
    if (fields == 5) {
      history.add_evaluation(step, evaluation);
    }
  }
  return history;
}

std::string LossHistory::to_csv() const {
  std::string csv = "step,loss,grad_norm,learning_rate,eval_loss\n";
  auto evaluation = evaluations_.begin();
  for (size_t i = 0; i < training_.size(); ++i) {
    char row[128];
    std::snprintf(row, sizeof(row), "%lld,%.9g,%.9g,%.9g,",
                  static_cast<long long>(training_[i].step), training_[i].loss,
                  extras_[i].grad_norm, extras_[i].learning_rate);
    csv += row;
    if (evaluation != evaluations_.end() &&
        evaluation->step == training_[i].step) {
      std::snprintf(row, sizeof(row), "%.9g", evaluation->loss);
      csv += row;
      ++evaluation;
    }
    csv += '\n';
  }
  return csv;
}

}  // namespace colonnade::cli
