"""What a step of a network is: a flat list of operations on buffers of rows, ready for any executor.

Layers write a program (`nn.layer.Layer.lower`); an executor runs it. Neither knows the other.

A *buffer* holds rows [B, history + new, C]: the rows of this step, after those that the next windows still need of the
steps before. An operation reads *windows* of one or several buffers and its result is written to one or several
buffers, each with an activation of its own. So a buffer has what one reader wants, ready to be read::

    buffer of a convolution of kernel 3, in a step of four rows        out
      history      new rows
    [ x2  x3  |  x4  x5  x6  x7 ]   windows of 3 rows, 1 apart   ->   [ y4  y5  y6  y7 ]
                         └──────── the history of the next step

Positions. A network moves on in *frames*. After m frames a buffer has had the rows ``[0, m * rate - lag)`` of its
signal (`Schedule`). Rows outside the signal, before its first and after its last one, are there too, since every step
has the same shape: where a step may touch an edge, `Edges` says where the signal lies, and each buffer's `Padding` how
the rows outside are made, in zeros or of the signal itself. An edge is no special step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import ConfigError
from .state import TensorSpec

__all__ = [
    "MODES",
    "Activation",
    "Attention",
    "Buffer",
    "Depthwise",
    "DepthwiseTransposed",
    "Edges",
    "GroupedProduct",
    "Input",
    "Known",
    "LSTMCell",
    "LappedProduct",
    "LayerNorm",
    "Length",
    "LocalAttention",
    "Noise",
    "Normalise",
    "Op",
    "Padding",
    "Product",
    "Program",
    "Reshape",
    "Rows",
    "Schedule",
    "Value",
    "Window",
]

MODES = ("constant", "reflect", "replicate")


class Schedule(NamedTuple):
    """Where something stands in its network: `rate` rows arrive per frame, `lag` rows late."""

    rate: int
    lag: int

    def rows(self, frames: int) -> int:
        """Rows of the true signal that have arrived once `frames` frames were pushed (negative: none yet)."""
        return frames * self.rate - self.lag

    def frames(self, rows: int) -> int:
        """Frames to push until `rows` rows of the true signal have arrived."""
        return -(-(rows + self.lag) // self.rate)


class Edges(NamedTuple):
    """Where each batch row's signal begins and ends, for a step that may touch an edge.

    position: [B] int64, frames pushed before this step; length: [B] int64, rows of the network's whole input (a huge
    number while the end is unknown).
    """

    position: Tensor
    length: Tensor


class Padding(NamedTuple):
    """Rows added before and after a signal.

    mode: "constant" (zeros), "reflect" (the end row not repeated) or "replicate"; extend: add up to stride - 1 rows
    more on the right, so that no input row is left out of the last stride.
    """

    left: int = 0
    right: int = 0
    mode: str = "constant"
    extend: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether padding takes rows from the signal, so that the start of a stream has to wait for them."""
        return self.mode != "constant" and self.left > 0

    def rows_needed(self) -> int:
        """Rows of the signal without which the left padding cannot be made."""
        if not self.mirrored:
            return 0
        return self.left + 1 if self.mode == "reflect" else 1

    def right_total(self, length: int, stride: int) -> int:
        """Rows added on the right of a signal of `length` rows."""
        return self.right + (-length % stride if self.extend else 0)

    def source(self, index: Tensor, length: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Of which row of a signal of `length` rows the row `index` of a mirrored padding is a copy, and which rows are
        zero instead.

        EnCodec's rule (Défossez et al. 2022, `pad1d` of the reference code): a signal too short to be mirrored is first
        extended with zeros on the right, and as many rows are cut from the right end in the end.
        """
        if self.mode == "replicate":
            source = torch.where(index < 0, 0, length - 1)
            return source, (length < 1).expand_as(source)
        right = self.right + (-length % stride if self.extend else length * 0)
        end = length + (right.clamp_min(self.left) - length + 1).clamp_min(0)
        source = torch.where(index < 0, -index, torch.where(index >= end, 2 * (end - 1) - index, index))
        return source, source >= length

    def memory(self, stride: int) -> int:
        """Rows of history from which the right padding can be made, wherever the end falls among the steps."""
        if self.mode == "constant":
            return 0
        return 2 * (self.right + (stride - 1 if self.extend else 0))


class Length(NamedTuple):
    """How long a signal is, by the length `source` of another one of the program.

    That one is made longer, where `extend`, until `down` divides it; then it is
    ``(up * length + add) // down``, at least 0, and an empty signal stays empty.
    """

    source: int
    up: int = 1
    add: int = 0
    down: int = 1
    extend: bool = False

    def of(self, length: int) -> int:
        """The length for one of `length` rows."""
        if length == 0:
            return 0
        if self.extend:
            length += -length % self.down
        return max(0, (self.up * length + self.add) // self.down)

    def of_each(self, length: Tensor) -> Tensor:
        """The same for [B] int64."""
        extended = length + -length % self.down if self.extend else length
        rows = torch.div(self.up * extended + self.add, self.down, rounding_mode="floor").clamp_min(0)
        return torch.where(length > 0, rows, 0)


class Activation(NamedTuple):
    """A function of single values, zero to zero. kind: "elu", "gelu", "gelu_tanh", "hardtanh" (limited to -1..1),
    "leaky_relu" (0.3 below 0), "tanh", "silu" or "snake", ``x + gain * sin(alpha x)^2``; alpha, gain: [C], of Snake.
    """

    kind: str
    alpha: Tensor | None = None
    gain: Tensor | None = None


class Value(NamedTuple):
    """The result of operation `op` as a layer hands it on, with an activation still to be applied. length: which of
    the program's lengths is its own.
    """

    op: int
    channels: int
    at: Schedule
    length: int
    activation: Activation | None = None


class Buffer(NamedTuple):
    """Rows [B, history + new, channels] as one reader wants them.

    history: rows kept from step to step, under the name `leaf` of the state; at, length: where they stand; padding: how
    rows outside the signal are made, for windows `stride` rows apart.
    """

    channels: int
    history: int
    leaf: str
    at: Schedule
    length: int
    activation: Activation | None
    padding: Padding
    stride: int


class Window(NamedTuple):
    """`taps` rows of a buffer, `dilation` apart, side by side; such a window every `stride` rows from `first` on."""

    buffer: int
    first: int = 0
    stride: int = 1
    taps: int = 1
    dilation: int = 1


@dataclass
class Op:
    """An operation. into: the buffers that its result is written to; add: a buffer whose rows, from its first one on,
    are added to it first.
    """

    into: list[int] = field(default_factory=list, kw_only=True)
    add: int | None = field(default=None, kw_only=True)
    spread = 1  # rows of result for each window

    @property
    def windows(self) -> tuple[Window, ...]:
        """What it reads."""
        return ()

    @property
    def multiply_adds(self) -> int:
        """Of one window, in its weights; what it computes besides is not counted."""
        return 0


@dataclass
class Input(Op):
    """The rows that the step is given."""


@dataclass
class Product(Op):
    """Windows side by side, [B, n, K], times `matrix` [K, spread * C], plus `bias`: [B, n * spread, C]."""

    reads: tuple[Window, ...]
    matrix: Tensor
    bias: Tensor | None
    spread: int = 1

    @property
    def windows(self) -> tuple[Window, ...]:
        return self.reads

    @property
    def multiply_adds(self) -> int:
        return self.matrix.numel()


@dataclass
class LappedProduct(Product):
    """A product whose matrix is that of a lapped transform (`nn.lapped`), forth or `back`: executors may know a faster
    way to the same result.
    """

    back: bool = False

    @property
    def hop(self) -> int:
        """Samples of a hop."""
        return self.matrix.shape[0] // 2


@dataclass
class GroupedProduct(Op):
    """As `Product`, of groups of channels: group g of a window's channels, [taps * C / G], times ``matrix[g]`` gives
    group g of `spread` rows' channels. matrix: [G, taps * C / G, spread * C' / G]; bias: [C'].
    """

    window: Window
    matrix: Tensor
    bias: Tensor | None
    spread: int = 1

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.window,)

    @property
    def multiply_adds(self) -> int:
        return self.matrix.numel()


@dataclass
class Depthwise(Op):
    """Every channel's windows times its own weights, [taps, C], plus `bias` [C]: [B, n, C]."""

    window: Window
    weight: Tensor
    bias: Tensor | None

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.window,)

    @property
    def multiply_adds(self) -> int:
        return self.weight.numel()


@dataclass
class DepthwiseTransposed(Op):
    """Every channel's windows times its own weights, [taps, spread, C], plus `bias` [C]: [B, n * spread, C]."""

    window: Window
    weight: Tensor
    bias: Tensor | None
    spread: int

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.window,)

    @property
    def multiply_adds(self) -> int:
        return self.weight.numel()


@dataclass
class Normalise(Op):
    """Each row divided by the root of its mean square plus `epsilon`, times `weight` [C]."""

    buffer: int
    weight: Tensor
    epsilon: float

    @property
    def windows(self) -> tuple[Window, ...]:
        return (Window(self.buffer),)


@dataclass
class LayerNorm(Op):
    """Each row less its mean, divided by the root of its variance plus `epsilon`, times `weight`, plus `bias` [C]."""

    buffer: int
    weight: Tensor
    bias: Tensor
    epsilon: float

    @property
    def windows(self) -> tuple[Window, ...]:
        return (Window(self.buffer),)


@dataclass
class Attention(Op):
    """What each row takes of itself and of the ``reach - 1`` rows before it, by attention: [B, n, heads * d].

    The buffer's rows are queries, keys and values side by side, [B, n, 3 * heads * d]. Queries and keys are turned by
    their place in the stream first (rotary positions): of each head, values i and i + d / 2 by the angle
    ``place * base ** (-2 i / d)``. A row sees no row from before the signal.

    keys, values: leaves of the state [B, heads, reach - 1, d], rings: the row at place p, turned, is at ``p % (reach -
    1)``. heard: a leaf [B, 1] int64, how many rows came before this step; attentions that stand alike share it.
    """

    buffer: int
    heads: int
    reach: int
    base: float
    keys: str
    values: str
    heard: str
    width: int  # heads * d

    @property
    def windows(self) -> tuple[Window, ...]:
        return (Window(self.buffer),)

    @property
    def multiply_adds(self) -> int:
        return 2 * self.reach * self.width


@dataclass
class LocalAttention(Op):
    """What each row of a window takes of all of its rows, by attention: [B, n * spread, heads * d].

    window: of `spread` rows, which no other window has, each with queries, keys and values side by side, 3 * heads * d.
    Queries and keys are turned as `Attention` does, by their place in the window.
    """

    window: Window
    heads: int
    base: float
    width: int  # heads * d
    spread: int

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.window,)

    @property
    def multiply_adds(self) -> int:
        return 2 * self.spread**2 * self.width


@dataclass
class Reshape(Op):
    """The rows of a window side by side, cut into `spread` rows: [B, n * spread, taps * C / spread]. Nothing is
    computed.
    """

    window: Window
    spread: int = 1

    @property
    def windows(self) -> tuple[Window, ...]:
        return (self.window,)


@dataclass
class Noise(Op):
    """Each row times the number that `noise.normal_at` gives for `seed` and its place in the signal.

    heard: a leaf of the state, [B, 1] int64: how many rows came before this step.
    """

    buffer: int
    seed: int
    heard: str

    @property
    def windows(self) -> tuple[Window, ...]:
        return (Window(self.buffer),)


@dataclass
class LSTMCell(Op):
    """One LSTM layer over the rows of a buffer; its state [B, H] has the names `hidden` and `cell`.

    weights: torch's `weight_ih` [4H, C], `weight_hh` [4H, H], `bias_ih` and `bias_hh` [4H].
    """

    buffer: int
    weights: tuple[Tensor, Tensor, Tensor, Tensor]
    hidden: str
    cell: str

    @property
    def windows(self) -> tuple[Window, ...]:
        return (Window(self.buffer),)

    @property
    def multiply_adds(self) -> int:
        return self.weights[0].numel() + self.weights[1].numel()


class Known(NamedTuple):
    """What executors that do not call torch know of a function of rows.

    name: "identity", or what a layer calls its own; bands: first columns of bands, and their end; numbers: constants.
    """

    name: str
    bands: tuple[int, ...] = ()
    numbers: tuple[float, ...] = ()


@dataclass
class Rows(Op):
    """A function of single rows, [B, n, C] to [B, n, C'], written in torch: what no other operation says.

    known: what others need to run it; without that only the torch executor can.
    """

    buffer: int
    function: Callable[[Tensor], Tensor]
    known: Known | None = None

    @property
    def windows(self) -> tuple[Window, ...]:
        return (Window(self.buffer),)


def _identity(x: Tensor) -> Tensor:
    return x


class Program:
    """Operations in the order in which they run, the buffers between them, and the leaves of the state.

    channels: of the input; at: where it stands; like: a tensor of the network's dtype and device.
    """

    def __init__(self, channels: int, at: Schedule, like: Tensor):
        self.at, self.dtype, self.device = at, like.dtype, like.device
        self.ops: list[Op] = [Input()]
        self.values = [Value(0, channels, at, 0)]  # the result of each operation
        self.buffers: list[Buffer] = []
        self.lengths = [Length(0)]
        self.state: dict[str, TensorSpec] = {}
        self.out = -1  # the buffer that holds the output

    # -- what layers call --------------------------------------------------------------------------------------------

    def buffer(
        self, value: Value, history: int = 0, leaf: str = "", padding: Padding | None = None, stride: int = 1
    ) -> int:
        """A place for `value`, with `history` rows of what came before it, kept in the state as `leaf`."""
        padding = padding or Padding()
        if padding.mode not in MODES:
            raise ConfigError(f"padding mode is {padding.mode!r}; supported are {', '.join(MODES)}")
        place = Buffer(value.channels, history, leaf, value.at, value.length, value.activation, padding, stride)
        self.buffers.append(place)
        self.ops[value.op].into.append(len(self.buffers) - 1)
        if history:
            self.leaf(leaf, (history, value.channels))
        return len(self.buffers) - 1

    def leaf(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None, ring: bool = False) -> str:
        """A tensor [B, *shape] of the state, of the program's element type or `dtype`; returns its name.

        ring: see `state.Ring`.
        """
        self.state[name] = TensorSpec(shape, dtype or self.dtype, ring)
        return name

    def length(self, source: int, up: int, add: int, down: int, extend: bool = False) -> int:
        """Another length of the program (see `Length`)."""
        self.lengths.append(Length(source, up, add, down, extend))
        return len(self.lengths) - 1

    def emit(self, op: Op, channels: int, at: Schedule, length: int) -> Value:
        """Append an operation; returns its result."""
        self.ops.append(op)
        value = Value(len(self.ops) - 1, channels, at, length)
        self.values.append(value)
        return value

    def rows(self, function: Callable[[Tensor], Tensor], x: Value, known: Known | None = None) -> Value:
        """Append a function of single rows, [B, n, C] to [B, n, C']; `known`, as `Rows` has it."""
        with torch.no_grad():
            channels = function(torch.zeros(1, 1, x.channels, dtype=self.dtype, device=self.device)).shape[2]
        return self.emit(Rows(self.buffer(x), function, known), channels, x.at, x.length)

    def settled(self, x: Value) -> Value:
        """`x` as the result of an operation of its own, its activation applied."""
        return self.rows(_identity, x, Known("identity"))

    def finish(self, output: Value) -> None:
        """Say what the program's output is."""
        self.out = self.buffer(output)

    def __str__(self) -> str:
        """One operation a line: what it reads, what it computes, and the buffers that it writes to."""
        return "\n".join(self._line(op) for op in self.ops)

    def _line(self, op: Op) -> str:
        reads = ", ".join(f"b{w.buffer}[{w.first}::{w.stride}, {w.taps} rows]" for w in op.windows)
        added = "" if op.add is None else f" + b{op.add}"
        writes = ", ".join(self._place(b) for b in op.into)
        return f"{type(op).__name__.lower()} {reads}{added} -> {writes}".replace("  ", " ")

    def _place(self, buffer: int) -> str:
        b = self.buffers[buffer]
        activation = "" if b.activation is None else f"{b.activation.kind} "
        history = f"{b.history} + " if b.history else ""
        return f"{activation}b{buffer} ({history}{b.at.rate} rows of {b.channels})"

    # -- what follows from it ----------------------------------------------------------------------------------------

    @property
    def warmup_frames(self) -> int:
        """Frames during which a step may still touch the start of the signal and needs `Edges`."""
        read = [self.buffers[window.buffer] for op in self.ops for window in op.windows]
        return max((max(b.at.frames(0), b.padding.mirrored) for b in read), default=0)

    @property
    def prefill_frames(self) -> int:
        """Frames that the first step must have: 0 unless a start is mirrored, which takes rows of the signal itself."""
        waiting = [b.at.frames(b.padding.rows_needed()) for b in self.buffers if b.padding.mirrored]
        # In that step every buffer must reach the start of its signal, none may still be waiting for it.
        needed = max(*waiting, self.warmup_frames, self.buffers[self.out].at.frames(0)) if waiting else 0
        return needed if needed > 1 else 0  # every step has a frame

    @property
    def memory_frames(self) -> int | None:
        """Frames before a step on which its output may depend, at most; None where more than rows is kept (an LSTM).

        A decoder's noise is left out: one that begins later has another noise, and the same sound in it.
        """
        histories, counts = (
            [b for b in self.buffers if b.history],
            {op.heard for op in self.ops if isinstance(op, Noise)},
        )
        if self.state.keys() - counts != {b.leaf for b in histories}:
            return None
        return math.ceil(sum(b.history / b.at.rate for b in histories))

    @property
    def multiply_adds(self) -> int:
        """Of a frame, in products, convolutions, attentions and LSTMs; functions of values or rows do not count."""
        each = zip(self.ops, self.values, strict=True)
        return sum(op.multiply_adds * (value.at.rate // op.spread) for op, value in each)

    def source(self, buffer: int) -> int:
        """The operation whose result a buffer holds."""
        return next(i for i, op in enumerate(self.ops) if buffer in op.into)

    @property
    def output_lengths(self) -> list[Length]:
        """The way from the input's length to the output's."""
        chain, which = [], self.buffers[self.out].length
        while which:
            chain.append(self.lengths[which])
            which = self.lengths[which].source
        return chain[::-1]

    def last_input(self, row: int) -> int:
        """The last row of the input on which row `row` of the output depends, far from the edges."""
        needed = {self.source(self.out): row}  # by operation, the last row of its result
        for index in range(len(self.ops) - 1, 0, -1):
            if index not in needed:
                continue
            op, place = self.ops[index], needed[index] + self.values[index].at.lag  # its place in a first step
            reads = [
                (w.buffer, w.first + place // op.spread * w.stride + (w.taps - 1) * w.dilation) for w in op.windows
            ]
            reads += [(op.add, place)] if op.add is not None else []
            for buffer, last in reads:
                b, source = self.buffers[buffer], self.source(buffer)
                needed[source] = max(needed.get(source, 0), last - b.history - b.at.lag)
        return needed[0]
