// cli/train_progress.h
#pragma once

#include "cli/loss_history.h"
#include "colonnade/train/train_observer.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

namespace colonnade::cli {

/// Shows how a run goes, one line that is written anew on a terminal and plain
/// lines elsewhere, and keeps loss.csv and loss.svg in the run's folder.
class TrainProgress : public TrainObserver {
 public:
  explicit TrainProgress(std::filesystem::path out);

  void on_start(const TrainStart& start) override;
  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  void on_checkpoint(const std::filesystem::path& folder) override;
  void on_end(const TrainEnd& end) override;
  bool wants_to_stop() override;

  bool interrupted() const { return interrupted_; }

 private:
  using Clock = std::chrono::steady_clock;

  std::string progress_line(int64_t step, double loss) const;
  bool shows(int64_t step) const;
  void show(const std::string& line);
  void write_curve() const;
  void print_summary(const TrainEnd& end);

  std::filesystem::path out_;
  bool terminal_;
  TrainStart start_{};
  LossHistory history_;
  std::filesystem::path checkpoint_;
  Clock::time_point begin_;
  Clock::duration outside_{};  // spent on evaluation and checkpoints
  Clock::time_point last_step_end_;
  Clock::time_point last_shown_;
  int64_t steps_done_ = 0;  // by this program
  bool line_is_open_ = false;
  bool interrupted_ = false;
};

}  // namespace colonnade::cli
