// colonnade/train/trainer.h
#pragma once

#include "colonnade/train/text_data.h"
#include "colonnade/train/train_observer.h"
#include "colonnade/train/train_options.h"

namespace colonnade {

/// Trains a Llama on `data`, on the ranks and groups of the caller: every rank
/// calls, after initialize_model_parallel.
///
/// From one seed, weights and batches are the same at every tensor-parallel
/// degree, and D data-parallel ranks see together what one sees with D times
/// the batch. A resumed run goes on bit-equal at the degree it was saved at,
/// and within rounding at another; its options count, not those of the
/// checkpoint.
///
/// data      may be shared by the ranks of a process
/// observer  world rank 0 alone uses its own
/// Errors    InvalidArgument where an option is out of its range, the
///           checkpoint does not fit the model, or it is at the last step
///           already; Error where the loss or the gradient is no finite number
void train(const TrainOptions& options, const TextData& data,
           TrainObserver& observer);

}  // namespace colonnade
