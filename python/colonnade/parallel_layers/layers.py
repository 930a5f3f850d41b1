"""Embedding and linear layers whose weights are split over ranks."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import init

from .. import _core
from .._core import InvalidArgument, ShardSpec
from ..random import tensor_parallel_random
from .mappings import copy_to_tensor_model_parallel_region
from .utils import (
    TensorParallelAttributes,
    also_called,
    group_name,
    set_tensor_parallel_attributes,
)


# What Megatron-LM calls arguments of its layers.
_also_called = also_called(tp_group="tensor_model_parallel_group",
                           params_dtype="dtype",
                           keep_master_weight_for_test="keep_master_weight")


def _refuse(layer: str, **unsupported: tuple[Any, Any]) -> None:
    """InvalidArgument that names an argument which is not what it may be.

    unsupported  name=(value, the one that is supported)
    """
    for name, (value, supported) in unsupported.items():
        if value != supported:
            raise InvalidArgument(
                f"{layer}: the argument {name}={value!r} is not supported; "
                f"leave it at {supported!r}")


class _ParallelLayer(nn.Module):
    """A module some of whose parameters are shards.

    Parameters are Python's own; what makes them shards hangs on them, and is
    hung on again wherever torch puts other tensors in their places.
    """

    def __init__(self, group):
        super().__init__()
        # The name, not the group: modules are copied and pickled.
        self.group = _core.group_name(group_name(group), type(self).__name__)
        self._specs: dict[str, ShardSpec] = {}
        # For errors; see name_layers.
        self.call_site = type(self).__name__

    def _add_parameter(self, name: str, whole_shape: list[int],
                       spec: ShardSpec | None, dtype, device) -> None:
        shape = whole_shape if spec is None else spec.local_shape(whole_shape)
        if device is False:  # the guide's default for a row layer
            device = None
        if spec is not None:
            self._specs[name] = spec
        self.register_parameter(name, nn.Parameter(
            torch.empty(shape, dtype=dtype, device=device)))
        self._attach(self._parameters)

    def _attach(self, tensors: dict, prefix: str = "") -> None:
        """Marks those of `tensors` as shards that are this layer's."""
        for name, spec in self._specs.items():
            tensor = tensors.get(prefix + name)
            if (isinstance(tensor, torch.Tensor) and tensor.dim() > spec.dim
                    and tensor.size(spec.dim) == spec.local_size):
                set_tensor_parallel_attributes(
                    tensor, TensorParallelAttributes(spec, self.group))

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name in self.__dict__.get("_specs", ()):
            self._attach(self._parameters)

    def __setstate__(self, state):  # copies and pickles
        super().__setstate__(state)
        self._attach(self._parameters)

    def _apply(self, fn, recurse=True):  # to, to_empty, half, ...
        super()._apply(fn, recurse)
        self._attach(self._parameters)
        return self

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        self._attach(destination, prefix)

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self._attach(self._parameters)

    def reset_parameters(self) -> None:
        raise NotImplementedError

    def _call(self, function: str, *arguments):
        """The core's function of that name, or inside torch.compile its op,
        which knows no call site."""
        if torch.compiler.is_compiling():
            return getattr(torch.ops.colonnade, function)(*arguments,
                                                          self.group)
        return getattr(_core, function)(*arguments, self.group, self.call_site)

    @classmethod
    def from_dense(cls, dense: nn.Module, **options):
        """The parallel form of an unsharded module, with this rank's part of
        its weights. No communication, no draw.

        options  what the dense module does not know; its sizes, bias,
                 padding_idx, dtype and device are the dense module's
        """
        layer = cls(*cls._sizes(dense), device="meta",
                    **cls._options(dense), **options)
        if not dense.weight.is_meta:
            layer.to_empty(device=dense.weight.device)
            for name, parameter in layer.named_parameters(recurse=False):
                _core.split_parameter(parameter,
                                      getattr(dense, name).detach())
        for name, parameter in layer.named_parameters(recurse=False):
            parameter.requires_grad_(getattr(dense, name).requires_grad)
        layer.train(dense.training)
        return layer

    @staticmethod
    def _sizes(dense: nn.Module) -> tuple[int, int]:
        raise NotImplementedError

    @staticmethod
    def _options(dense: nn.Module) -> dict:
        raise NotImplementedError


def is_parallel_layer(module: nn.Module) -> bool:
    """Whether a module splits its own parameters over ranks."""
    return isinstance(module, _ParallelLayer)


class _ParallelLinear(_ParallelLayer):
    """What the two linear layers share."""

    def _init_parameters(self, specs, bias, dtype, device, init_method,
                         keep_master_weight) -> None:
        self.init_method = init_method
        self.keep_master_weight = keep_master_weight
        self.master_weight = None
        weight_spec, bias_spec = specs
        self._add_parameter("weight", [self.output_size, self.input_size],
                            weight_spec, dtype, device)
        if bias:
            self._add_parameter("bias", [self.output_size], bias_spec, dtype,
                                device)
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the whole weight and bias as torch.nn.Linear does, and keeps
        this rank's part: the same bits at every degree."""
        _core.init_parameter(self.weight, self._fill_weight)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.input_size) if self.input_size > 0 else 0
            _core.init_parameter(self.bias,
                                 lambda b: init.uniform_(b, -bound, bound))

    def _fill_weight(self, whole) -> None:
        if self.init_method is not None:
            self.init_method(whole)
        elif self.input_size > 0:
            init.kaiming_uniform_(whole, math.sqrt(5))
        if self.keep_master_weight:
            self.master_weight = whole.detach().clone()

    def _checked_segments(self, size_name, segments, stride) -> list[int]:
        """The sizes of the parts that are split each by itself."""
        if stride == 1:
            return list(segments or [])
        size = getattr(self, size_name)
        if segments is not None or size % stride != 0:
            raise InvalidArgument(
                f"{type(self).__name__}: stride {stride} needs an {size_name} "
                f"that it divides ({size} here) and no segments")
        return [size // stride] * stride

    def _added_bias(self):
        return None if self.skip_bias_add else self.bias

    def _with_bias(self, y):
        return (y, self.bias) if self.skip_bias_add else y

    @staticmethod
    def _sizes(dense):
        return dense.in_features, dense.out_features

    @staticmethod
    def _options(dense):
        return {"bias": dense.bias is not None, "dtype": dense.weight.dtype}


class ColumnParallelLinear(_ParallelLinear):
    """Y = X A^T + b, the rows of A and b split over P ranks.

    Takes [..., input_size], equal on every rank, and returns
    [..., output_size], or [..., output_size / P] if not gathered. The weight is
    torch's: [output_size, input_size], and starts from the bits of
    torch.nn.Linear.

    gather_output              return the whole Y, not this rank's Y_i
    init_method                fills the whole weight in place
    sequence_parallel_enabled  the input is this rank's part of the sequence,
                               and is gathered along `sequence_dimension`
    skip_bias_add              return (Y, bias), for a caller that fuses it
    pad                        pad an output_size that does not divide, in
                               memory only
    stride                     Y is that many parts of one size, each split by
                               itself; `segments` gives their sizes
    keep_master_weight         keep the whole weight, as it was drawn, in
                               `master_weight`: for tests
    reduce_dtype               in which the gradient of X is added up; None:
                               its own
    tensor_model_parallel_group  a Group or its name, None: the current one
    """

    @_also_called
    def __init__(self, input_size, output_size, bias=True, gather_output=True,
                 dtype=torch.float32, device=None, *, stride=1,
                 init_method=None, sequence_parallel_enabled=False,
                 sequence_dimension=0, keep_master_weight=False,
                 skip_bias_add=False, pad=False, segments=None,
                 reduce_dtype=None, tensor_model_parallel_group=None):
        super().__init__(tensor_model_parallel_group)
        self.input_size = input_size
        self.output_size = output_size
        self.gather_output = gather_output
        self.sequence_parallel_enabled = sequence_parallel_enabled
        self.sequence_dimension = sequence_dimension or 0
        self.skip_bias_add = skip_bias_add
        self.reduce_dtype = reduce_dtype
        self.segments = self._checked_segments("output_size", segments, stride)
        spec = _core.layer_spec(
            "ColumnParallelLinear", "output_size", 0, output_size,
            self.segments, pad, _core.find_group(self.group))
        self._init_parameters((spec, spec), bias, dtype, device, init_method,
                              keep_master_weight)

    def forward(self, x):
        return self._with_bias(self._call(
            "column_parallel_linear", x, self.weight, self._added_bias(),
            self.gather_output, self.sequence_parallel_enabled,
            self.sequence_dimension, self.output_size,
            self.segments, self.reduce_dtype))

    def extra_repr(self):
        return (f"input_size={self.input_size}, "
                f"output_size={self.output_size}, "
                f"bias={self.bias is not None}, "
                f"gather_output={self.gather_output}")


class RowParallelLinear(_ParallelLinear):
    """Y = X A^T + b, the columns of A split over P ranks; b is whole, and added
    once, after the reduce.

    Takes [..., input_size], or [..., input_size / P] if the input is parallel,
    and returns [..., output_size].

    input_is_parallel          the input is this rank's part already, as a
                               ColumnParallelLinear that does not gather
                               leaves it
    sequence_parallel_enabled  the output is this rank's part of the sequence
                               along `sequence_dimension`
    skip_bias_add              return (Y, bias), for a caller that fuses it;
                               with sequence parallelism the bias's gradient is
                               summed over the ranks
    reduce_output              False leaves each rank its partial sum
    reduce_dtype               in which partial sums are added up; None: that
                               of the product
    stride                     X is that many parts of one size, each split by
                               itself; `segments` gives their sizes
    The others are ColumnParallelLinear's.
    """

    @_also_called
    def __init__(self, input_size, output_size, bias=True,
                 input_is_parallel=False, dtype=torch.float32, device=False, *,
                 stride=1, init_method=None, sequence_parallel_enabled=False,
                 sequence_dimension=0, keep_master_weight=False,
                 skip_bias_add=False, pad=False, segments=None,
                 reduce_output=True, reduce_dtype=None,
                 tensor_model_parallel_group=None):
        if sequence_parallel_enabled and not input_is_parallel:
            raise InvalidArgument(
                "RowParallelLinear: sequence_parallel_enabled needs "
                "input_is_parallel; set it to True")
        if bias and not reduce_output and not skip_bias_add:
            raise InvalidArgument(
                "RowParallelLinear: a bias cannot be added to an output that "
                "is not reduced; set bias to False or skip_bias_add to True")
        super().__init__(tensor_model_parallel_group)
        self.input_size = input_size
        self.output_size = output_size
        self.input_is_parallel = input_is_parallel
        self.sequence_parallel_enabled = sequence_parallel_enabled
        self.sequence_dimension = sequence_dimension or 0
        self.skip_bias_add = skip_bias_add
        self.reduce_output = reduce_output
        self.reduce_dtype = reduce_dtype
        self.segments = self._checked_segments("input_size", segments, stride)
        spec = _core.layer_spec(
            "RowParallelLinear", "input_size", 1, input_size, self.segments,
            pad, _core.find_group(self.group))
        self._init_parameters((spec, None), bias, dtype, device,
                              init_method, keep_master_weight)

    def forward(self, x):
        return self._with_bias(self._call(
            "row_parallel_linear", x, self.weight, self._added_bias(),
            self.input_is_parallel, self.sequence_parallel_enabled,
            self.sequence_dimension, self.reduce_output, self.reduce_dtype,
            self.input_size, self.segments))

    def _with_bias(self, y):
        if not self.skip_bias_add:
            return y
        if self.bias is None or not self.sequence_parallel_enabled:
            return y, self.bias
        # The caller adds it to this rank's part of the sequence.
        return y, copy_to_tensor_model_parallel_region(self.bias, self.group)

    def extra_repr(self):
        return (f"input_size={self.input_size}, "
                f"output_size={self.output_size}, "
                f"bias={self.bias is not None}, "
                f"input_is_parallel={self.input_is_parallel}")


class ParallelEmbedding(_ParallelLayer):
    """A lookup table whose rows, or columns, are split over P ranks; any number
    of rows.

    Takes integers of any shape, equal on every rank, and returns
    [input..., embedding_dim]. Starts from the bits of torch.nn.Embedding. An id
    outside [0, num_embeddings) is an InvalidArgument with the id.

    padding_idx                this row starts as zeros and gets no gradient
    sequence_parallel_enabled  the output is this rank's part of the sequence
                               along `sequence_dimension`
    shard_across_embedding     split the columns, and gather the output
    pad                        pad an embedding_dim that is split and does not
                               divide, in memory only; rows always are
    reduce_dtype               in which rows, of which one rank has other than
                               zeros, are added up; None: that of the table
    """

    @_also_called
    def __init__(self, num_embeddings, embedding_dim,
                 init_method=init.normal_, dtype=torch.float32, device=None, *,
                 padding_idx=None, max_norm=None, norm_type=2.0,
                 scale_grad_by_freq=False, sparse=False,
                 shard_across_embedding=False, pad=False,
                 sequence_parallel_enabled=False, sequence_dimension=0,
                 reduce_dtype=None, tensor_model_parallel_group=None):
        _refuse("ParallelEmbedding", max_norm=(max_norm, None),
                norm_type=(norm_type, 2.0),
                scale_grad_by_freq=(scale_grad_by_freq, False),
                sparse=(sparse, False))
        if num_embeddings < 0:
            raise InvalidArgument(
                f"ParallelEmbedding: num_embeddings is {num_embeddings}; "
                f"expected 0 or more")
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise InvalidArgument(
                    f"ParallelEmbedding: padding_idx {padding_idx} is outside "
                    f"[{-num_embeddings}, {num_embeddings})")
            padding_idx %= num_embeddings
        super().__init__(tensor_model_parallel_group)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.sequence_parallel_enabled = sequence_parallel_enabled
        self.sequence_dimension = sequence_dimension or 0
        self.init_method = init_method
        self.shard_across_embedding = shard_across_embedding
        self.reduce_dtype = reduce_dtype
        over = _core.find_group(self.group)
        if shard_across_embedding:
            spec = _core.layer_spec("ParallelEmbedding", "embedding_dim", 1,
                                    embedding_dim, [], pad, over)
        else:
            spec = _core.padded_spec(0, num_embeddings, over)
        self._add_parameter("weight", [num_embeddings, embedding_dim], spec,
                            dtype, device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the whole table, and keeps this rank's part."""
        def fill(whole):
            self.init_method(whole)
            if self.padding_idx is not None:
                whole[self.padding_idx].zero_()

        _core.init_parameter(self.weight, fill)

    def forward(self, ids):
        return self._call(
            "parallel_embedding", ids, self.weight, self.num_embeddings,
            self.padding_idx, self.sequence_parallel_enabled,
            self.sequence_dimension, self.shard_across_embedding,
            self.embedding_dim, self.reduce_dtype)

    def extra_repr(self):
        padding = ("" if self.padding_idx is None
                   else f", padding_idx={self.padding_idx}")
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"

    @staticmethod
    def _sizes(dense):
        return dense.num_embeddings, dense.embedding_dim

    @staticmethod
    def _options(dense):
        return {"padding_idx": dense.padding_idx,
                "dtype": dense.weight.dtype, "max_norm": dense.max_norm,
                "scale_grad_by_freq": dense.scale_grad_by_freq,
                "sparse": dense.sparse}


def name_layers(model: nn.Module) -> None:
    """Tells the parallel layers of a model their names in it, such as
    "layers.7.mlp.down", so that errors say which layer a collective is of.
    Without it they say the kind of layer. To be called on every rank, or not,
    once the model is built; `parallelize` does."""
    for name, module in model.named_modules():
        if name and isinstance(module, _ParallelLayer):
            module.call_site = f"layer {name}"


class Dropout(nn.Dropout):
    """torch.nn.Dropout for activations that are split over ranks: draws from
    the rank's `tensor_parallel` generator, so that ranks drop different
    elements. In replicated regions use torch.nn.Dropout, which drops alike on
    all ranks."""

    def forward(self, x):
        if not self.training:
            return x
        with tensor_parallel_random():
            return super().forward(x)


def from_dense(dense: nn.Module, layer: type | None = None, **options):
    """The parallel form of an unsharded module, with this rank's part of its
    weights: a ParallelEmbedding of an embedding, a ColumnParallelLinear of a
    linear module, unless `layer` says otherwise. As `layer.from_dense`."""
    if layer is None:
        layer = (ParallelEmbedding if isinstance(dense, nn.Embedding)
                 else ColumnParallelLinear)
    return layer.from_dense(dense, **options)
