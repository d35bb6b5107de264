"""What every streaming layer can do, and how layers are joined.

Inside the package time comes before channels: a layer maps ``[B, T, C_in]`` to ``[B, T', C_out]``.

A layer runs a signal in one of two ways that give the same numbers:

- ``forward(x)``: the whole signal at once (offline), differentiable.
- ``step(x, state)``: a piece at a time. Rows come in whole *frames*, and a layer with look-ahead trails: the output
  of a step lags behind its input by a fixed number of rows, so that every step has the same shape.

Two edges need care. Where a layer pads with zeros, the edge lies inside the ordinary steps: `Edges` says where each
batch row's signal begins and ends, and rows outside are zeroed before a layer sees them. Where a layer mirrors the
signal into its padding, the start needs real rows first (``prefill``) and the end needs the end (``finish``).

Positions. After m frames have been pushed a layer has received the rows ``[0, m * rate - lag)`` of its true input,
where `rate` is its input rows per frame and `lag` the rows by which its input trails. `Layer.schedule` hands both
down the network, once, when the network is built.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..state import Spec, State

__all__ = ["Edges", "Elementwise", "Layer", "Schedule", "Sequential"]


class Schedule(NamedTuple):
    """Where a layer stands in its network: `rate` rows arrive per frame, `lag` rows late."""

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

    position: [B] int64, frames pushed before this step; length: [B] int64, rows of the whole signal at this layer
    (a huge number while the end is unknown).
    """

    position: Tensor
    length: Tensor

    def mask(self, x: Tensor, schedule: Schedule) -> Tensor:
        """`x` [B, T, C] with the rows outside the signal set to zero."""
        index = self.row_index(x, schedule)
        inside = (index >= 0) & (index < self.length[:, None])
        return torch.where(inside[:, :, None], x, torch.zeros((), dtype=x.dtype, device=x.device))

    def row_index(self, x: Tensor, schedule: Schedule) -> Tensor:
        """The true index of each row of `x`, [B, T]."""
        start = self.position * schedule.rate - schedule.lag
        return start[:, None] + torch.arange(x.shape[1], device=x.device)


class Layer(nn.Module):
    """A layer with explicit state. Subclasses override what differs from a memoryless, row-by-row map."""

    at: Schedule = Schedule(1, 0)

    def schedule(self, at: Schedule) -> Schedule:
        """Place the layer; returns where its successor stands."""
        self.at = at
        return at

    def state_spec(self) -> Spec:
        """The state of one stream, as a tree of `TensorSpec`."""
        return ()

    def output_length(self, length: int) -> int:
        """Rows that `forward` gives for `length` rows."""
        return length

    def output_edges(self, edges: Edges) -> Edges:
        """The edges as the next layer sees them."""
        return edges

    def last_input(self, row: int) -> int:
        """The last input row on which output row `row` depends, far from the edges."""
        return row

    def prefill_frames(self) -> int:
        """Frames that must arrive at once before the first step: 0 unless the layer mirrors its start."""
        return 0

    def warmup_frames(self) -> int:
        """Frames during which a step may still touch the start of the signal and needs `Edges`."""
        return 0

    def refresh(self) -> None:
        """Notice weights that changed. Called when a stream opens: looking at every step would cost too much."""
        for child in self.children():
            if isinstance(child, Layer):
                child.refresh()

    def forward(self, x: Tensor) -> Tensor:
        """The whole signal, [B, T, C_in] to [B, output_length(T), C_out]; here the identity."""
        return x

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        """Whole frames of rows; consumes `state`. Pass `edges` unless no row of the batch touches an edge."""
        return self.forward(x), state

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        """The first frames as one block: rows ``[0, at.rows(m))`` of the signal for some m >= prefill_frames."""
        return self.forward(x), ()

    def finish(self, x: Tensor, state: State, length: int) -> Tensor:
        """All that is left: the rows of the signal (`length` rows in all) that no step has consumed."""
        return self.forward(x)


class Elementwise(Layer):
    """A memoryless layer made of a function that maps rows [B, T, C] to rows of the same shape, zero to zero.

    in_steps: the same function, as steps of a stream compute it, where that is another way.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], in_steps: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.function, self.in_steps = function, in_steps or function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        return self.in_steps(x), state


class Sequential(Layer):
    """Layers one after the other; its state is the tuple of their states."""

    def __init__(self, layers: Iterable[Layer]):
        super().__init__()
        self.chain: tuple[Layer, ...] = tuple(layers)
        self.layers = nn.ModuleList(self.chain)

    def schedule(self, at: Schedule) -> Schedule:
        self.at = at
        self._reached = 0
        for layer in self.chain:
            at = layer.schedule(at)
            self._reached = max(self._reached, at.frames(0))
        return at

    def state_spec(self) -> Spec:
        return tuple(layer.state_spec() for layer in self.chain)

    def output_length(self, length: int) -> int:
        for layer in self.chain:
            length = layer.output_length(length)
        return length

    def output_edges(self, edges: Edges) -> Edges:
        for layer in self.chain:
            edges = layer.output_edges(edges)
        return edges

    def last_input(self, row: int) -> int:
        for layer in reversed(self.chain):
            row = layer.last_input(row)
        return row

    def prefill_frames(self) -> int:
        frames = max((layer.prefill_frames() for layer in self.chain), default=0)
        # A prefill runs through every layer, so that none may still be waiting for the start of the signal.
        return max(frames, self._reached) if frames else 0

    def warmup_frames(self) -> int:
        return max((layer.warmup_frames() for layer in self.chain), default=0)

    def refresh(self) -> None:
        for layer in self.chain:
            layer.refresh()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.chain:
            x = layer(x)
        return x

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        after = []
        for layer, before in zip(self.chain, state, strict=True):
            x, new = layer.step(x, before, edges)
            after.append(new)
            if edges is not None:
                edges = layer.output_edges(edges)
        return x, tuple(after)

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        after = []
        for layer in self.chain:
            x, state = layer.prefill(x)
            after.append(state)
        return x, tuple(after)

    def finish(self, x: Tensor, state: State, length: int) -> Tensor:
        for layer, before in zip(self.chain, state, strict=True):
            x = layer.finish(x, before, length)
            length = layer.output_length(length)
        return x
