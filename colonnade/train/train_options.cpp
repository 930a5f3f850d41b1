// colonnade/train/train_options.cpp
#include "colonnade/train/train_options.h"

#include "colonnade/core/error.h"

#include <limits>
#include <string_view>
#include <type_traits>

namespace colonnade {
namespace {

const StateKey kSequenceParallel = "sequence_parallel";
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
void check_range(std::string_view name, T value, T least, T most) {
  check_arg(value >= least && value <= most, "TrainOptions: ", name, " is ",
            value, "; it must be in [", least, ", ", most, "]");
}

void check_at_least(std::string_view name, int64_t value, int64_t least) {
  check_arg(value >= least, "TrainOptions: ", name, " is ", value,
            "; it must be at least ", least);
}

/// Calls `entry(name, option)` for each option that a checkpoint has.
template <typename Options, typename Entry>
void for_each_entry(Options& options, const Entry& entry) {
  entry("steps", options.steps);
  entry("batch_size", options.batch_size);
  entry("accumulation", options.accumulation);
  entry("learning_rate", options.learning_rate);
  entry("min_learning_rate", options.min_learning_rate);
  entry("warmup_steps", options.warmup_steps);
  entry("weight_decay", options.weight_decay);
  entry("beta1", options.beta1);
  entry("beta2", options.beta2);
  entry("max_grad_norm", options.max_grad_norm);
  entry("eval_every", options.eval_every);
  entry("eval_windows", options.eval_windows);
  entry("save_every", options.save_every);
  entry("keep", options.keep);
}

}  // namespace

void TrainOptions::check() const {
  check_at_least("steps", steps, 1);
  check_at_least("batch_size", batch_size, 1);
  check_at_least("accumulation", accumulation, 1);
  check_range("learning_rate", learning_rate, 0.0, kInfinity);
  check_range("min_learning_rate", min_learning_rate, 0.0, learning_rate);
  check_at_least("warmup_steps", warmup_steps, 0);
  check_range("weight_decay", weight_decay, 0.0, kInfinity);
  check_range("beta1", beta1, 0.0, 1.0);
  check_range("beta2", beta2, 0.0, 1.0);
  check_range("max_grad_norm", max_grad_norm, 0.0, kInfinity);
  check_at_least("eval_every", eval_every, 0);
  check_at_least("eval_windows", eval_windows, 0);
  check_at_least("save_every", save_every, 0);
  check_at_least("keep", keep, 1);
}

StateDict TrainOptions::to_state() const {
  StateDict state;
  state[StateKey("seed")] = static_cast<int64_t>(seed);
  state[kSequenceParallel] = model.sequence_parallel();
  for_each_entry(*this, [&](const char* name, auto value) {
    state[StateKey(name)] = value;
  });
  return state;
}

void TrainOptions::take_state(const StateDict& state) {
  seed = static_cast<uint64_t>(state.at(StateKey("seed")).to_int());
  if (state.contains(kSequenceParallel)) {  // not where an older version saved
    model.sequence_parallel(state.at(kSequenceParallel).to_bool());
  }
  for_each_entry(*this, [&](const char* name, auto& value) {
    const StateValue& saved = state.at(StateKey(name));
    if constexpr (std::is_same_v<decltype(value), int64_t&>) {
      value = saved.to_int();
    } else {
      value = saved.to_double();
    }
  });
}

}  // namespace colonnade
