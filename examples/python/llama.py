"""A Llama of parallel layers. Parameters have the names of Hugging Face's, and
of the C++ Llama's: the program `colonnade` reads its checkpoints.
"""
import dataclasses

import torch
from torch import nn
from torch.nn import functional as F

from colonnade import parallel_layers as pl
from colonnade import parallel_state


@dataclasses.dataclass
class Config:
    vocab_size: int = 256
    hidden_size: int = 64
    intermediate_size: int = 160
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 16
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    max_positions: int = 512
    tie_embeddings: bool = False
    init_std: float = 0.02
    dtype: str = "float32"


def column(inputs, outputs):
    return pl.ColumnParallelLinear(inputs, outputs, bias=False,
                                   gather_output=False)


def row(inputs, outputs):
    return pl.RowParallelLinear(inputs, outputs, bias=False,
                                input_is_parallel=True)


class Rotary(nn.Module):
    """The cosines and sines by which positions turn queries and keys."""

    def __init__(self, config):
        super().__init__()
        half = config.head_dim // 2
        powers = torch.arange(half, dtype=torch.float64) / half
        self.register_buffer("speed", config.rope_theta ** -powers,
                             persistent=False)

    def forward(self, positions):
        angle = torch.outer(positions.double(), self.speed)
        return angle.cos().float(), angle.sin().float()


def rotate(x, turn):
    cos, sin = turn
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        hidden, size = config.hidden_size, config.head_dim
        self.q_proj = column(hidden, config.num_heads * size)
        self.k_proj = column(hidden, config.num_kv_heads * size)
        self.v_proj = column(hidden, config.num_kv_heads * size)
        self.o_proj = row(config.num_heads * size, hidden)

    def forward(self, x, turn, cache):
        q, k, v = (  # [batch, heads of this rank, seq, head_dim]
            project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(q, turn), rotate(k, turn)
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True,
                                               enable_gqa=True)
        else:
            y = cache.attend(self.layer, q, k, v)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = column(config.hidden_size, config.intermediate_size)
        self.up_proj = column(config.hidden_size, config.intermediate_size)
        self.down_proj = row(config.intermediate_size, config.hidden_size)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = Mlp(config)
        self.input_layernorm, self.post_attention_layernorm = (
            nn.RMSNorm(config.hidden_size, config.norm_eps) for _ in range(2))

    def forward(self, x, turn, cache):
        x = x + self.self_attn(self.input_layernorm(x), turn, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = pl.ParallelEmbedding(config.vocab_size,
                                                 config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer)
                                    for layer in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.rotary = Rotary(config)

    def forward(self, ids, cache=None):
        positions = (torch.arange(ids.size(1)) if cache is None
                     else cache.positions(ids))
        turn = self.rotary(positions)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, turn, cache)
        return self.norm(x)


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = LlamaModel(config)
        self.lm_head = column(config.hidden_size, config.vocab_size)

    def loss(self, ids, targets):
        """The mean cross entropy; logits stay split over the ranks."""
        logits = self.lm_head(self.model(ids))
        return pl.parallel_cross_entropy(logits, targets).mean()


class KvCache(nn.Module):
    """Keys and values of this rank's heads, in buffers: a traced model that
    writes to them keeps them from call to call."""

    def __init__(self, config, max_length):
        super().__init__()
        rank = parallel_state.get_tensor_model_parallel_rank()
        heads = pl.utils.divide(
            config.num_kv_heads,
            parallel_state.get_tensor_model_parallel_size())
        # Which of the whole's heads these are: valid at any degree.
        spec = pl.ShardSpec(dim=1, whole_size=config.num_kv_heads,
                            ranges=[(rank * heads, (rank + 1) * heads)],
                            local_size=heads)
        for layer in range(config.num_layers):
            for name in ("keys", "values"):
                memory = torch.zeros(1, heads, max_length, config.head_dim)
                pl.set_tensor_parallel_attributes(
                    memory, pl.TensorParallelAttributes(spec, "tp"))
                self.register_buffer(f"{name}_{layer}", memory)
        self.register_buffer("length", torch.zeros((), dtype=torch.int64))

    def positions(self, ids):
        return torch.ops.colonnade.cache_positions(self.length, ids,
                                                   self.keys_0)

    def attend(self, layer, q, k, v):
        return torch.ops.colonnade.cached_attention(
            q, k, v, getattr(self, f"keys_{layer}"),
            getattr(self, f"values_{layer}"), self.length)


class Decoder(nn.Module):
    """A Llama that remembers what it has read. Takes [1, seq], and returns the
    logits of what follows, [1, vocabulary]."""

    def __init__(self, llama, max_length):
        super().__init__()
        self.model, self.lm_head = llama.model, llama.lm_head
        self.cache = KvCache(llama.config, max_length)

    def forward(self, ids):
        last = self.model(ids, self.cache)[:, -1]
        self.cache.length += ids.size(1)
        return pl.gather_from_tensor_model_parallel_region(self.lm_head(last))
