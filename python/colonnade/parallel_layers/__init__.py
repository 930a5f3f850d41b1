"""Layers whose parameters are split over the tensor-parallel ranks, and what
training, checkpoints and gradients need around them."""

import sys

from .. import parallel_state
from . import (
    checkpointing,
    grads,
    layers,
    loss_functions,
    mappings,
    random,
    utils,
)
from .checkpointing import (
    load,
    load_model,
    load_state_dict,
    load_torch,
    load_values,
    save,
    save_unsharded,
    state_dict,
)
from .grads import (
    average_gradients,
    clip_grad_norm,
    no_sync,
    sum_gradients_over_sequence,
)
from .layers import (
    ColumnParallelLinear,
    Dropout,
    ParallelEmbedding,
    RowParallelLinear,
    from_dense,
    name_layers,
)
from .loss_functions import parallel_cross_entropy
from .mappings import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    gather_from_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
    scatter_to_sequence_parallel_region,
    scatter_to_tensor_model_parallel_region,
)
from .utils import (
    ShardSpec,
    TensorParallelAttributes,
    copy_tensor_parallel_attributes,
    gather_parameter,
    get_tensor_parallel_attributes,
    move_model_to_device,
    set_tensor_parallel_attributes,
    split_parameter,
)

# One module under both of its names: neuronx-distributed has it in here.
sys.modules[__name__ + ".parallel_state"] = parallel_state

__all__ = [
    "ColumnParallelLinear",
    "Dropout",
    "ParallelEmbedding",
    "RowParallelLinear",
    "ShardSpec",
    "TensorParallelAttributes",
    "average_gradients",
    "checkpointing",
    "clip_grad_norm",
    "copy_tensor_parallel_attributes",
    "copy_to_tensor_model_parallel_region",
    "from_dense",
    "gather_from_sequence_parallel_region",
    "gather_from_tensor_model_parallel_region",
    "gather_parameter",
    "get_tensor_parallel_attributes",
    "grads",
    "layers",
    "load",
    "load_model",
    "load_state_dict",
    "load_torch",
    "load_values",
    "loss_functions",
    "mappings",
    "move_model_to_device",
    "name_layers",
    "no_sync",
    "parallel_cross_entropy",
    "parallel_state",
    "random",
    "reduce_from_tensor_model_parallel_region",
    "reduce_scatter_to_sequence_parallel_region",
    "save",
    "save_unsharded",
    "scatter_to_sequence_parallel_region",
    "scatter_to_tensor_model_parallel_region",
    "set_tensor_parallel_attributes",
    "split_parameter",
    "state_dict",
    "sum_gradients_over_sequence",
    "utils",
]
