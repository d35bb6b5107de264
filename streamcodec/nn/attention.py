"""Causal attention to a bounded past, and the transformer of the codecs that have one (Vaswani et al. 2017)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..program import Attention, Known, LayerNorm, Program, Value
from ..vector_math import angles, turned
from .conv import Conv1d
from .layer import Elementwise, Layer, Sequential
from .residual import Residual
from .rms_norm import RMSNorm
from .scaled import Scaled

__all__ = ["Gated", "NormalisedRows", "SelfAttention", "transformer_layer"]

BLOCK = 512  # rows whose scores are made at once: of an hour they would fill gigabytes


class NormalisedRows(Layer):
    """Each row less its mean, at unit variance, times `weight` plus `bias` (Ba et al. 2016), [B, T, C] to the same."""

    def __init__(self, channels: int, epsilon: float):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        op = LayerNorm(program.buffer(x), self.weight.detach(), self.bias.detach(), self.epsilon)
        return program.emit(op, x.channels, x.at, x.length)


class SelfAttention(Layer):
    """What each row takes of itself and the ``reach - 1`` rows before it, [B, T, C] to [B, T, heads * head_size].

    inputs: one product, to the queries, keys and values of each row; base: of the rotary positions (Su et al. 2021),
    which turn values i and i + head_size / 2 of a head together.
    """

    def __init__(self, channels: int, heads: int, head_size: int, reach: int, base: float):
        super().__init__()
        if head_size % 2 or reach < 2:
            raise ConfigError(f"heads of {head_size} values that see {reach} rows: an even number and 2 are the least")
        self.heads, self.width, self.reach, self.base = heads, heads * head_size, reach, base
        self.inputs = Conv1d(channels, 3 * self.width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inputs(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        angle = angles(x.shape[1], query.shape[3], self.base, x.device)
        query, key = (turned(part, angle.cos().to(x.dtype), angle.sin().to(x.dtype)) for part in (query, key))
        blocks = [self._block(query, key, value, start) for start in range(0, x.shape[1], BLOCK)]
        return torch.cat(blocks, 2).transpose(1, 2).flatten(2) if blocks else x.new_zeros(x.shape[0], 0, self.width)

    def _block(self, query: Tensor, key: Tensor, value: Tensor, start: int) -> Tensor:
        """[B, heads, n, d], of the rows from `start` on."""
        stop, first = min(query.shape[2], start + BLOCK), max(0, start - self.reach + 1)
        rows, seen = torch.arange(start, stop)[:, None], torch.arange(first, stop)
        mask = ((seen <= rows) & (seen > rows - self.reach)).to(query.device)
        parts = (query[:, :, start:stop], key[:, :, first:stop], value[:, :, first:stop])
        return F.scaled_dot_product_attention(*parts, attn_mask=mask)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        y = self.inputs.lower(program, x, f"{path}inputs.")
        ring = (self.heads, self.reach - 1, self.width // self.heads)
        keys, values = (program.leaf(f"{path}{name}", ring, ring=True) for name in ("keys", "values"))
        heard = program.leaf(f"heard.{x.at.rate}.{x.at.lag}", (1,), torch.int64)
        op = Attention(program.buffer(y), self.heads, self.reach, self.base, keys, values, heard, self.width)
        return program.emit(op, self.width, x.at, x.length)


class Gated(Layer):
    """SwiGLU (Shazeer 2020): the first half of a row's channels through SiLU, times the second, [B, T, 2 C] to
    [B, T, C].
    """

    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, 2)
        return F.silu(gate) * value

    def lower(self, program: Program, x: Value, path: str) -> Value:
        return program.rows(self.forward, x, Known("gated_silu"))


def transformer_layer(
    channels: int, heads: int, head_size: int, inner: int, *, reach: int, base: float, epsilon: float, scale: float,
    kind: str = "gelu",
) -> Sequential:  # fmt: skip
    """Attention, and products up to `inner` channels and back: each after a norm, scaled, and added to its input.

    kind: what is between the two products, "gelu" or another activation of single values, with norms by mean and
    variance; or "gated", with norms by root mean square.
    """
    gated = kind == "gated"
    norm = RMSNorm if gated else NormalisedRows
    attention = SelfAttention(channels, heads, head_size, reach, base)
    out = Scaled(Conv1d(heads * head_size, channels, 1, bias=False), scale)
    up = Conv1d(channels, 2 * inner if gated else inner, 1, bias=False)
    down = Scaled(Conv1d(inner, channels, 1, bias=False), scale)
    between = Gated() if gated else Elementwise(kind)
    return Sequential(
        [
            Residual(Sequential([norm(channels, epsilon), attention, out])),
            Residual(Sequential([norm(channels, epsilon), up, between, down])),
        ]
    )
