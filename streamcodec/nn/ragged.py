"""Signals of unequal lengths through a network together, in steps: the lengths are known, so every edge is.

A row of the batch is run for as many frames as its own output takes, and no longer: signals are run with the longest
first, and those that are through leave the batch. Memory is that of one step, whatever the lengths.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..program import Edges
from ..state import State
from .transducer import Network

__all__ = ["run_together"]

Map = Callable[[Tensor], Tensor]


@torch.no_grad()
def run_together(
    network: Network,
    signals: Sequence[Tensor],
    lengths: Sequence[int],
    frames: int,
    before: Map | None = None,
    after: Map | None = None,
) -> list[Tensor]:
    """Each signal [n, ...] to `after` of the network's output for it, [m, ...], as if it were alone.

    lengths: rows of each signal, with the zeros that follow what is there of it; frames: of a step, at most (and at
    least as many as the first one needs); before: rows [B, r, ...] of the signals to the network's input [B, r, C];
    after: rows of output, [B, r, C'], to what is kept of them, row by row.
    """
    network.refresh()
    order = sorted(range(len(signals)), key=lambda i: lengths[i], reverse=True)
    kept = _run(network, [signals[i] for i in order], [lengths[i] for i in order], frames, before, after)
    results = [torch.empty(0)] * len(signals)
    for place, index in enumerate(order):
        results[index] = kept[place]
    return results


def _run(
    network: Network,
    signals: list[Tensor],
    lengths: list[int],
    frames: int,
    before: Map | None,
    after: Map | None,
) -> list[Tensor]:
    """`run_together` for signals with the longest first."""
    totals = [network.output_length(length) for length in lengths]
    needed = [network.out.frames(total) if total else 0 for total in totals]
    device = signals[0].device
    state, extent = State(network.spec, len(signals), device), torch.tensor(lengths, device=device)
    kept: list[list[Tensor]] = [[] for _ in signals]
    start = 0
    while active := sum(count > start for count in needed):
        size = max(min(frames, needed[0] - start), 1 if start else max(1, network.prefill_frames))
        if active < state.batch:
            state = state.rows(slice(active)).clone()
        first = network.at.rows(start)
        x = _between(signals[:active], first, network.at.rows(start + size))
        edges = Edges(torch.full((active,), start, device=device), extent[:active])
        inside = start >= network.warmup_frames and network.at.rows(start + size) <= lengths[active - 1]
        y = network.step(x if before is None else before(x), state, None if inside else edges)
        y = y if after is None else after(y)
        _keep(kept, y, network.out.rows(start), totals)
        start += size
    nothing = _nothing(network, signals[0], before, after)
    return [torch.cat(parts) if parts else nothing for parts in kept]


def _between(signals: list[Tensor], first: int, stop: int) -> Tensor:
    """The rows `first` to `stop` of each signal, [B, stop - first, ...]; zeros where there are none."""
    x = signals[0].new_zeros(len(signals), stop - first, *signals[0].shape[1:])
    for row, signal in zip(x, signals, strict=True):
        part = signal[max(0, first) : max(0, stop)]
        row[max(0, -first) : max(0, -first) + len(part)] = part
    return x


def _keep(kept: list[list[Tensor]], y: Tensor, place: int, totals: list[int]) -> None:
    """Append what rows `y` [B, r, ...], the first of which stands at `place` of the output, add to each output."""
    for parts, row, total in zip(kept, y, totals, strict=False):
        part = row[max(0, -place) : max(0, total - place)]
        if len(part):
            parts.append(part.clone())


def _nothing(network: Network, signal: Tensor, before: Map | None, after: Map | None) -> Tensor:
    """The output of a signal that gives no row, [0, ...]."""
    like = signal[None, :0] if before is None else before(signal[None, :0])
    rows = like.new_zeros(1, 0, network.out_channels)
    return (rows if after is None else after(rows))[0]
