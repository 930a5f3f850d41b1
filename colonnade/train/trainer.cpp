// colonnade/train/trainer.cpp
#include "colonnade/train/trainer.h"

#include "colonnade/comm/call_site.h"
#include "colonnade/core/error.h"
#include "colonnade/memory/caching_allocator.h"
#include "colonnade/models/llama.h"
#include "colonnade/parallel_layers/average_gradients.h"
#include "colonnade/parallel_layers/clip_grad_norm.h"
#include "colonnade/parallel_layers/name_layers.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/train/evaluate.h"
#include "colonnade/train/model_checkpoint.h"
#include "colonnade/train/run_folder.h"
#include "colonnade/train/schedule.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <torch/optim/adamw.h>

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

Llama make_model(const TrainOptions& options) {
  manual_seed(options.seed);
  return Llama(options.model);
}

/// Weight decay for matrices alone: it makes no sense for the scale of a norm.
torch::optim::AdamW make_optimizer(const Llama& model,
                                   const TrainOptions& options) {
  std::vector<at::Tensor> matrices;
  std::vector<at::Tensor> others;
  for (at::Tensor& parameter : model->parameters()) {
    (parameter.dim() >= 2 ? matrices : others).push_back(std::move(parameter));
  }
  const auto adamw = torch::optim::AdamWOptions(options.learning_rate)
                         .betas({options.beta1, options.beta2});
  const auto group = [&](std::vector<at::Tensor> parameters, double decay) {
    return torch::optim::OptimizerParamGroup(
        std::move(parameters),
        std::make_unique<torch::optim::AdamWOptions>(
            torch::optim::AdamWOptions(adamw).weight_decay(decay)));
  };
  return torch::optim::AdamW({group(std::move(matrices), options.weight_decay),
                              group(std::move(others), 0.0)},
                             adamw);
}

int64_t whole_size(const Llama& model) {
  int64_t elements = 0;
  for (const at::Tensor& parameter : model->parameters()) {
    if (const auto attributes = get_tensor_parallel_attributes(parameter)) {
      elements += c10::multiply_integers(
          attributes->spec.whole_shape(parameter.sizes()));
    } else {
      elements += parameter.numel();
    }
  }
  return elements;
}

/// One rank's part of a run.
class Trainer {
 public:
  Trainer(const TrainOptions& options, const TextData& data,
          TrainObserver& observer)
      : options_(options),
        data_(data),
        observer_(observer),
        world_(parallel_state::get_world_group()),
        folder_(options.out),
        rate_{.peak = options.learning_rate,
              .minimum = options.min_learning_rate,
              .warmup_steps = options.warmup_steps,
              .steps = options.steps},
        model_(make_model(options)),
        optimizer_(make_optimizer(model_, options)) {
    parallel_layers::name_layers(*model_);
    if (!options_.resume_from.empty()) {
      load();
      check_arg(step_ < options_.steps,
                "train: ", options_.resume_from.string(), " is at step ", step_,
                " already, and the run has ", options_.steps,
                "; give more steps to go on");
    }
  }

  void run() {
    if (leads()) {
      observer_.on_start(
          {.first_step = step_,
           .steps = options_.steps,
           .parameters = whole_size(model_),
           .tokens_per_step = windows_per_step() * data_.seq_len()});
    }
    bool stop = false;
    while (step_ < options_.steps && !stop) {
      stop = step();
      const bool last = step_ == options_.steps || stop;
      if (is_due(options_.eval_every, last)) {
        run_evaluation();
      }
      if (!options_.out.empty() && is_due(options_.save_every, last)) {
        save();
      }
    }
    report_end(stop && step_ < options_.steps);
  }

 private:
  /// The optimizer keeps its own options: a run that is taken up again may have
  /// been given others.
  void load() {
    std::vector<std::unique_ptr<torch::optim::OptimizerOptions>> own;
    for (const auto& group : optimizer_.param_groups()) {
      own.push_back(group.options().clone());
    }
    step_ = load_run(options_.resume_from, model_, optimizer_);
    for (size_t i = 0; i < own.size(); ++i) {
      optimizer_.param_groups()[i].set_options(std::move(own[i]));
    }
  }

  bool leads() const { return world_->rank() == 0; }

  bool is_due(int64_t every, bool last) const {
    return last || (every > 0 && step_ % every == 0);
  }

  int64_t windows_per_step() const {
    return options_.accumulation * options_.batch_size *
           parallel_state::get_data_parallel_size();
  }

  /// One update; whether the observer wants to stop.
  bool step() {
    const double rate = rate_.at(step_);
    for (auto& group : optimizer_.param_groups()) {
      group.options().set_lr(rate);
    }
    const double local_loss = accumulate_gradients();
    parallel_layers::average_gradients(*model_);
    const double norm = parallel_layers::clip_grad_norm(model_->parameters(),
                                                        options_.max_grad_norm)
                            .item<double>();
    const auto [loss, stop] = agree(local_loss);
    check<Error>(std::isfinite(loss) && std::isfinite(norm), "train: at step ",
                 step_ + 1, " the loss is ", loss, " and the gradient's norm ",
                 norm, "; lower the learning rate, or warm up longer");
    optimizer_.step();
    optimizer_.zero_grad();
    ++step_;
    if (leads()) {
      observer_.on_step({.step = step_,
                         .loss = loss,
                         .grad_norm = norm,
                         .learning_rate = rate});
    }
    return stop;
  }

  /// Returns the mean loss of this rank's windows.
  double accumulate_gradients() {
    const int64_t replicas = parallel_state::get_data_parallel_size();
    const int64_t replica = parallel_state::get_data_parallel_rank();
    const auto parts = static_cast<double>(options_.accumulation);
    double sum = 0;
    for (int64_t part = 0; part < options_.accumulation; ++part) {
      const int64_t first = (part * replicas + replica) * options_.batch_size;
      const TokenBatch batch =
          data_.train_batch(options_.seed, step_, first, options_.batch_size);
      const at::Tensor loss = model_->loss(batch.inputs, batch.targets) / parts;
      loss.backward();
      sum += loss.item<double>();
    }
    return sum;
  }

  /// The mean loss of all ranks, and whether rank 0 wants to stop.
  std::pair<double, bool> agree(double local_loss) {
    const double stop = leads() && observer_.wants_to_stop() ? 1 : 0;
    at::Tensor both = at::tensor({local_loss, stop}, at::kDouble);
    world_->all_reduce(both);
    return {both[0].item<double>() / world_->size(),
            both[1].item<double>() > 0};
  }

  void run_evaluation() {
    if (data_.eval_windows() == 0) {
      return;
    }
    const Evaluation evaluation =
        evaluate(model_, data_, options_.eval_windows, options_.batch_size);
    if (leads()) {
      observer_.on_evaluation({.step = step_, .loss = evaluation.loss});
    }
  }

  void save() {
    const std::filesystem::path partial = folder_.partial(step_);
    if (leads()) {
      // What a run that died here left.
      std::filesystem::remove_all(partial);
      std::filesystem::create_directories(partial);
    }
    world_->barrier();
    save_run(partial, model_, optimizer_,
             {.step = step_,
              .seq_len = data_.seq_len(),
              .eval_fraction = data_.eval_fraction(),
              .model = model_->options(),
              .train = options_.to_state()});
    world_->barrier();
    if (leads()) {
      folder_.commit(step_);
      folder_.prune(step_, options_.keep);
      observer_.on_checkpoint(folder_.checkpoint(step_));
    }
    world_->barrier();
  }

  void report_end(bool interrupted) {
    const at::Tensor mine = at::tensor(thread_memory_use().peak_bytes);
    at::Tensor all = at::empty({world_->size()}, at::kLong);
    world_->all_gather(all, mine);
    if (leads()) {
      const auto* first = all.const_data_ptr<int64_t>();
      observer_.on_end({.step = step_,
                        .interrupted = interrupted,
                        .peak_memory_bytes = {first, first + all.numel()}});
    }
  }

  const TrainOptions& options_;
  const TextData& data_;
  TrainObserver& observer_;
  GroupPtr world_;
  RunFolder folder_;
  LearningRateSchedule rate_;
  Llama model_;
  torch::optim::AdamW optimizer_;
  int64_t step_ = 0;
};

}  // namespace

void train(const TrainOptions& options, const TextData& data,
           TrainObserver& observer) {
  options.check();
  const CallSiteScope site(CallSite("train"));
  Trainer(options, data, observer).run();
}

}  // namespace colonnade
