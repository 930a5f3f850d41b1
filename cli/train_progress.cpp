// cli/train_progress.cpp
#include "cli/train_progress.h"

#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/loss_curve.h"
#include "cli/terminal.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <fstream>

namespace colonnade::cli {
namespace {

double seconds(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

void write_file(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  check<Error>(!out.fail(), "train: cannot write ", file.string());
}

}  // namespace

TrainProgress::TrainProgress(std::filesystem::path out)
    : out_(std::move(out)), terminal_(stdout_is_terminal()) {}

void TrainProgress::on_start(const TrainStart& start) {
  start_ = start;
  if (start.first_step > 0) {
    history_ = LossHistory::read(out_ / "loss.csv", start.first_step);
  }
  print(concat("A Llama with ", with_commas(start.parameters), " parameters; ",
               with_commas(start.tokens_per_step), " tokens a step",
               start.first_step > 0
                   ? concat("; going on after step ", start.first_step)
                   : "",
               "\n"));
  begin_ = last_step_end_ = Clock::now();
}

void TrainProgress::on_step(const StepReport& report) {
  ++steps_done_;
  history_.add_step(report.step, report.loss, report.grad_norm,
                    report.learning_rate);
  last_step_end_ = Clock::now();
  if (shows(report.step)) {
    show(progress_line(report.step, report.loss));
    last_shown_ = last_step_end_;
  }
}

bool TrainProgress::shows(int64_t step) const {
  if (steps_done_ == 1 || step == start_.steps) {
    return true;
  }
  if (terminal_) {
    return Clock::now() - last_shown_ > std::chrono::milliseconds(100);
  }
  return step % std::max<int64_t>(1, start_.steps / 20) == 0;
}

std::string TrainProgress::progress_line(int64_t step, double loss) const {
  const double spent = seconds(last_step_end_ - begin_);
  const double learning = seconds(last_step_end_ - begin_ - outside_);
  const double rate =
      static_cast<double>(steps_done_ * start_.tokens_per_step) /
      std::max(learning, 1e-9);
  const double left = spent / static_cast<double>(steps_done_) *
                      static_cast<double>(start_.steps - step);
  const std::string number =
      right_aligned(std::to_string(step), std::to_string(start_.steps).size());
  std::string line =
      concat("step ", number, "/", start_.steps, "  loss ", as_fixed(loss, 4));
  if (!history_.evaluations().empty()) {
    line += "  held-out " + as_fixed(history_.evaluations().back().loss, 4);
  }
  return line + "  " + with_commas(std::llround(rate)) + " tokens/s  " +
         as_duration(left) + " left";
}

void TrainProgress::show(const std::string& line) {
  if (terminal_) {
    // Back to the first column, and clear what the line before it left.
    print("\r\x1b[K" + line.substr(0, static_cast<size_t>(std::max(
                                          20, terminal_columns() - 1))));
    line_is_open_ = true;
  } else {
    print(line + "\n");
  }
}

void TrainProgress::on_evaluation(const EvaluationReport& report) {
  history_.add_evaluation(report.step, report.loss);
  outside_ += Clock::now() - last_step_end_;
  last_step_end_ = Clock::now();
  if (!terminal_ && !history_.training().empty()) {
    show(concat("step ", report.step, "/", start_.steps, "  held-out loss ",
                as_fixed(report.loss, 4)));
  }
}

void TrainProgress::on_checkpoint(const std::filesystem::path& folder) {
  checkpoint_ = folder;
  write_curve();
  outside_ += Clock::now() - last_step_end_;
  last_step_end_ = Clock::now();
}

bool TrainProgress::wants_to_stop() {
  return interrupt() != 0;
}

void TrainProgress::on_end(const TrainEnd& end) {
  interrupted_ = end.interrupted;
  if (line_is_open_) {
    print(progress_line(end.step, history_.training().back().loss)
              .insert(0, "\r\x1b[K") +
          "\n");
  }
  print_summary(end);
}

void TrainProgress::write_curve() const {
  write_file(out_ / "loss.csv", history_.to_csv());
  write_file(out_ / "loss.svg", draw_as_svg(history_));
}

void TrainProgress::print_summary(const TrainEnd& end) {
  const auto learning = last_step_end_ - begin_ - outside_;
  const double rate =
      static_cast<double>(steps_done_ * start_.tokens_per_step) /
      std::max(seconds(learning), 1e-9);
  const std::string curve = draw_for_terminal(
      history_, std::min(terminal_columns(), 80), /*rows=*/12);
  std::string text;
  if (!curve.empty()) {
    text += "\nLoss, nats a token (line: training, \u25c6: held-out text)\n" +
            curve;
  }
  text += concat("\n", end.interrupted ? "Stopped after step " : "Done: step ",
                 end.step, " of ", start_.steps, "\n");
  text += concat("  time        ", as_duration(seconds(Clock::now() - begin_)),
                 ", ", with_commas(std::llround(rate)), " tokens/s\n");
  text += "  memory      ";
  for (size_t rank = 0; rank < end.peak_memory_bytes.size(); ++rank) {
    text += concat(rank > 0 ? ", " : "", "rank ", rank, " ",
                   as_bytes(end.peak_memory_bytes[rank]));
  }
  text += " (the most at a time)\n";
  text += concat("  checkpoint  ", checkpoint_.string(), "\n");
  text += concat("  curve       ", (out_ / "loss.svg").string(), ", ",
                 (out_ / "loss.csv").string(), "\n");
  print(text);
}

}  // namespace colonnade::cli
