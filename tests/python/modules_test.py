"""What people do with modules, on each of the three layers."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune, stateless
from torch.utils.checkpoint import checkpoint

import colonnade
from colonnade import parallel_layers as pl
from colonnade import parallel_state as ps
from tensor_parallel import ON_PROCESSES, run_tensor_parallel

IDS = torch.tensor([[0, 3, 11], [5, 3, 1]])
# The class, its sizes, an input.
LAYERS = {
    "column": (pl.ColumnParallelLinear, (8, 12), torch.ones(2, 3, 8)),
    "row": (pl.RowParallelLinear, (8, 12), torch.ones(2, 3, 8)),
    "embedding": (pl.ParallelEmbedding, (12, 8), IDS),
}


class Layer:
    """A layer under test."""

    def __init__(self, kind):
        self.kind, self.sizes, self.x = LAYERS[kind]
        self.tp = ps.get_tensor_model_parallel_size()

    def make(self, **options):
        return self.kind(*self.sizes, **options)

    def check(self, layer, like=None):
        """It runs, forward and backward, and its shards are marked."""
        assert_sharded(layer)
        if layer.weight.requires_grad:
            layer.zero_grad()
        y = layer(self.x.to(layer.weight.dtype)
                  if self.x.is_floating_point() else self.x)
        if like is not None:
            torch.testing.assert_close(y, like)
        if y.requires_grad:
            y.sum().backward()
            assert layer.weight.grad is not None
        return y.detach()


def assert_sharded(layer, tensors=None):
    tensors = tensors or dict(layer.named_parameters())
    names = {"weight"}
    if isinstance(layer, pl.ColumnParallelLinear) and layer.bias is not None:
        names.add("bias")
    for name in names:
        attributes = pl.get_tensor_parallel_attributes(tensors[name])
        assert attributes is not None, name
        assert attributes.group == "tp"
        assert tensors[name].tensor_model_parallel is True
        assert tensors[name].partition_dim == attributes.spec.dim
        assert tensors[name].partition_stride == 1


def same_parameters(a, b):
    return all(torch.equal(x, y)
               for x, y in zip(a.parameters(), b.parameters()))


PROBES = {}


def probe(function):
    PROBES[function.__name__] = function
    return function


@probe
def forward_and_backward(t):
    t.check(t.make())


@probe
def parameters_are_pythons(t):
    layer = t.make()
    assert all(type(p) is nn.Parameter for p in layer.parameters())
    assert "weight" in dict(layer.named_parameters())


@probe
def state_dict_and_back(t):
    one, two = t.make(), t.make()
    state = one.state_dict()
    assert_sharded(one, state)
    assert two.load_state_dict(state).missing_keys == []
    assert same_parameters(one, two)
    t.check(two)


@probe
def state_dict_inside_a_container(t):
    model = nn.ModuleDict({"a": nn.Sequential(t.make())})
    state = model.state_dict(prefix="model.")
    assert pl.get_tensor_parallel_attributes(state["model.a.0.weight"])


@probe
def state_dict_keeps_vars(t):
    layer = t.make()
    assert layer.state_dict(keep_vars=True)["weight"] is layer.weight


@probe
def state_dict_of_another_shape_is_refused(t):
    with pytest.raises(RuntimeError, match="size mismatch"):
        t.make().load_state_dict({**t.make().state_dict(),
                                  "weight": torch.zeros(3, 3)})


@probe
def state_dict_is_assigned(t):
    one, two = t.make(), t.make(device="meta")
    plain = {name: p.clone() for name, p in one.state_dict().items()}
    two.load_state_dict(plain, assign=True)
    assert same_parameters(one, two)
    t.check(two)


@probe
def forward_hooks(t):
    seen = []
    layer = t.make()
    layer.register_forward_pre_hook(lambda m, args: seen.append("pre"))
    layer.register_forward_hook(lambda m, args, y: y * 2)
    plain = copy.deepcopy(layer)
    plain._forward_hooks.clear()
    torch.testing.assert_close(layer(t.x), plain(t.x) * 2)
    assert seen == ["pre", "pre"]


@probe
def backward_hooks(t):
    seen = []
    layer = t.make()
    layer.register_full_backward_hook(lambda m, gi, go: seen.append("full"))
    layer.weight.register_hook(lambda g: seen.append("tensor"))
    layer.weight.register_post_accumulate_grad_hook(
        lambda p: seen.append("accumulated"))
    t.check(layer)
    assert sorted(seen) == ["accumulated", "full", "tensor"]


@probe
def state_dict_hooks(t):
    seen = []
    layer = t.make()
    layer.register_state_dict_post_hook(lambda *a: seen.append("save"))
    layer.register_load_state_dict_pre_hook(lambda *a: seen.append("load"))
    layer.load_state_dict(layer.state_dict())
    assert seen == ["save", "load"]


@probe
def deepcopy(t):
    layer = t.make()
    y = t.check(layer)
    copied = copy.deepcopy(layer)
    assert copied.weight is not layer.weight and same_parameters(copied, layer)
    t.check(copied, like=y)


@probe
def deepcopy_inside_a_container(t):
    model = nn.Sequential(t.make(), t.make())
    model[1].weight = model[0].weight  # a tie
    copied = copy.deepcopy(model)
    assert copied[0].weight is copied[1].weight
    assert_sharded(copied[0])


@probe
def shallow_copy(t):
    layer = t.make()
    copied = copy.copy(layer)
    assert copied.weight is layer.weight
    t.check(copied)


@probe
def pickled(t):
    layer = t.make()
    again = pickle.loads(pickle.dumps(layer))
    assert same_parameters(again, layer)
    t.check(again, like=t.check(layer))


@probe
def saved_by_torch(t):
    layer = t.make()
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    t.check(torch.load(file, weights_only=False), like=t.check(layer))


@probe
def state_saved_by_torch(t):
    layer = t.make()
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert torch.equal(state["weight"], layer.weight)


@probe
def meta_and_to_empty(t):
    layer = t.make(device="meta")
    assert layer.weight.is_meta
    assert_sharded(layer)
    layer.to_empty(device="cpu")
    colonnade.manual_seed(1)
    layer.reset_parameters()
    colonnade.manual_seed(1)
    assert same_parameters(layer, t.make())
    t.check(layer)


@probe
def meta_forward(t):
    layer = t.make(device="meta")
    assert layer(t.x.to("meta")).is_meta


@probe
def meta_as_default_device(t):
    with torch.device("meta"):
        layer = t.make()
    assert layer.weight.is_meta


@probe
def skip_init(t):
    layer = nn.utils.skip_init(t.kind, *t.sizes)
    assert not layer.weight.is_meta
    assert_sharded(layer)


@probe
def moved_from_meta(t):
    layer = t.make(device="meta")
    weight = layer.weight
    pl.move_model_to_device(layer, "cpu")
    assert layer.weight is weight and not weight.is_meta
    assert_sharded(layer)


@probe
def moved_to_a_dtype(t):
    layer = t.make()
    weight = layer.weight
    layer.to(torch.float64)
    assert layer.weight is weight and weight.dtype == torch.float64
    t.check(layer)
    t.check(layer.bfloat16())
    t.check(layer.float())


@probe
def moved_to_a_device(t):
    t.check(t.make().to("cpu").cpu())


@probe
def another_dtype_from_the_start(t):
    layer = t.make(dtype=torch.float64)
    assert layer.weight.dtype == torch.float64
    t.check(layer)


@probe
def compiled_whole(t):
    layer = t.make()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(t.x), layer(t.x))


@probe
def compiled_backward(t):
    layer = t.make()
    y = t.check(layer)
    wanted = layer.weight.grad.clone()
    layer.zero_grad()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    out = compiled(t.x)
    torch.testing.assert_close(out, y)
    out.sum().backward()
    torch.testing.assert_close(layer.weight.grad, wanted)


@probe
def functional_call(t):
    layer = t.make()
    twice = {name: p * 2 for name, p in layer.named_parameters()}
    y = torch.func.functional_call(layer, twice, (t.x,))
    torch.testing.assert_close(y, layer(t.x) * 2)


@probe
def reparametrized(t):
    layer = t.make()
    with stateless._reparametrize_module(
            layer, {"weight": torch.zeros_like(layer.weight)}):
        layer(t.x)
    t.check(layer)


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x

    def right_inverse(self, x):
        return x / 2


@probe
def parametrized(t):
    layer = t.make()
    y = layer(t.x)
    parametrize.register_parametrization(layer, "weight", Doubled())
    torch.testing.assert_close(layer(t.x), y)
    layer(t.x).sum().backward()
    original = layer.parametrizations.weight.original
    assert original.grad is not None
    assert pl.get_tensor_parallel_attributes(original) is not None
    parametrize.remove_parametrizations(layer, "weight")
    t.check(layer)


@probe
def pruned(t):
    layer = t.make()
    prune.l1_unstructured(layer, "weight", amount=0.5)
    layer(t.x).sum().backward()
    prune.remove(layer, "weight")
    t.check(layer)


@probe
def subclassed(t):
    class Scaled(t.kind):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.scale = nn.Parameter(torch.full((1,), 3.0))

        def forward(self, x):
            return self.scale * super().forward(x)

    layer = Scaled(*t.sizes)
    torch.testing.assert_close(layer(t.x), 3 * t.kind.forward(layer, t.x))
    t.check(layer)


@probe
def checkpointed(t):
    layer = t.make()
    y = t.check(layer)
    wanted = layer.weight.grad.clone()
    for reentrant in (False, True):
        layer.zero_grad()
        x = t.x.clone()
        if x.is_floating_point():
            x.requires_grad_()
        elif reentrant:
            continue  # needs an input that requires grad
        out = checkpoint(layer, x, use_reentrant=reentrant)
        torch.testing.assert_close(out, y)
        out.sum().backward()
        torch.testing.assert_close(layer.weight.grad, wanted)


@probe
def optimized(t):
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW,
                 torch.optim.Adagrad, torch.optim.RMSprop):
        layer = t.make()
        before = layer.weight.clone()
        optimizer = kind(layer.parameters(), lr=0.1)
        t.check(layer)
        optimizer.step()
        assert not torch.equal(layer.weight, before)
        t.check(layer)


@probe
def autocast(t):
    layer = t.make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(t.x)
    assert y.dtype == (torch.float32 if t.kind is pl.ParallelEmbedding
                       else torch.bfloat16)
    y.sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@probe
def frozen(t):
    layer = t.make().requires_grad_(False)
    assert not layer(t.x).requires_grad
    layer.requires_grad_()
    t.check(layer)


@probe
def without_gradients(t):
    layer = t.make()
    wanted = layer(t.x)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y = layer(t.x)
            assert not y.requires_grad
            assert torch.equal(y, wanted)


@probe
def trained_and_evaluated(t):
    layer = t.make()
    assert layer.training and not layer.eval().training
    t.check(layer.train())


@probe
def applied(t):
    layer = t.make()
    layer.apply(lambda m: nn.init.ones_(m.weight))
    assert (layer.weight == 1).all()
    t.check(layer)


@probe
def gradients_zeroed(t):
    layer = t.make()
    t.check(layer)
    layer.zero_grad(set_to_none=False)
    assert (layer.weight.grad == 0).all()


@probe
def parameter_replaced(t):
    layer = t.make()
    layer.weight = nn.Parameter(torch.zeros_like(layer.weight))
    t.check(layer)


@probe
def data_replaced(t):
    layer = t.make()
    layer.weight.data = torch.zeros_like(layer.weight)
    t.check(layer)


@probe
def in_a_sequence(t):
    layer = t.make()
    torch.testing.assert_close(nn.Sequential(layer, nn.Identity())(t.x),
                               layer(t.x))


@probe
def as_a_vector(t):
    layer = t.make()
    vector = nn.utils.parameters_to_vector(layer.parameters())
    nn.utils.vector_to_parameters(vector * 0, layer.parameters())
    assert (layer.weight == 0).all()
    t.check(layer)


@probe
def averaged(t):
    layer = t.make()
    average = torch.optim.swa_utils.AveragedModel(layer)
    average.update_parameters(layer)
    assert_sharded(average.module)
    torch.testing.assert_close(average(t.x), layer(t.x))


@probe
def in_shared_memory(t):
    layer = t.make()
    layer.share_memory()
    assert layer.weight.is_shared()
    t.check(layer)


@probe
def shown(t):
    text = repr(t.make())
    assert text.startswith(t.kind.__name__ + "(")
    assert all(str(size) in text for size in t.sizes)


@probe
def differentiated_twice(t):
    layer = t.make(dtype=torch.float64)
    x = t.x.double() if t.x.is_floating_point() else t.x
    y = layer(x).pow(3).sum()
    grad, = torch.autograd.grad(y, layer.weight, create_graph=True)
    second, = torch.autograd.grad(grad.pow(2).sum(), layer.weight)
    assert second.shape == layer.weight.shape and second.isfinite().all()
    assert (second != 0).any()


@probe
def counted(t):
    whole = t.sizes[0] * t.sizes[1]
    assert t.make().weight.numel() == whole // t.tp


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", PROBES)
def test_probe(name, kind):
    # torch.compile traces with state of the whole process: no other thread may
    # call a module meanwhile. Ranks that are processes test it at 2.
    tp = 1 if name.startswith("compiled") and not ON_PROCESSES else 2
    run_tensor_parallel(tp, lambda rank: PROBES[name](Layer(kind)))


def test_there_are_enough_probes():
    assert len(PROBES) * len(LAYERS) >= 70
