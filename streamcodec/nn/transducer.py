"""A network fed any number of rows at a time.

A network's `step` takes whole frames. A `Transducer` takes what comes, keeps the rows that do not fill a frame, runs
the prefill, the steps and the end, and gives back only rows of the true output, in order, none twice: concatenated
they are the network's `forward` of everything that was pushed.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import state as states
from ..state import State
from .layer import Edges, Layer, Schedule

__all__ = ["Network", "Progress", "Transducer"]

# A length that no signal reaches (186 years at 48 kHz): the end is not known yet. A decoder multiplies it by its hop
# length, below 2**14, so it stays clear of the end of int64.
UNKNOWN = 1 << 48


class Network:
    """A layer placed at the head of a stream, with what follows from that.

    rate: input rows per frame; look_ahead: input rows beyond its own frame on which an output frame depends. The input
    is made to trail by the part of a frame that the look-ahead leaves over, so that an output is never later than it
    must be.
    """

    def __init__(self, layer: Layer, channels: int, out_channels: int, rate: int, look_ahead: int = 0):
        self.layer, self.channels, self.out_channels = layer, channels, out_channels
        self.at = Schedule(rate, -look_ahead % rate)
        self.out = layer.schedule(self.at)
        self.prefill_frames = layer.prefill_frames()
        self.warmup_frames = layer.warmup_frames()

    @property
    def delay(self) -> int:
        """Output rows by which the stream trails its input once the rows of a whole frame are in."""
        return self.out.lag


class Progress(NamedTuple):
    """Where a stream stands. frames: frames run; received: rows of signal pushed; emitted: rows of true output made."""

    frames: int = 0
    received: int = 0
    emitted: int = 0


class Transducer:
    """One stream (or a batch of streams that advance together) through a `Network`."""

    def __init__(self, network: Network, batch: int, device: torch.device, dtype: torch.dtype, max_frames: int = 75):
        self.network = network
        self.max_frames = max_frames
        network.layer.refresh()
        zeros = torch.zeros(batch, network.at.lag, network.channels, device=device, dtype=dtype)
        self.progress = Progress()
        self.skip = network.out.lag
        if network.prefill_frames:  # the state comes with the first frames
            self.state: State | None = None
            self.pending, self.skip = zeros[:, :0], 0
        else:
            self.state = states.init(network.layer.state_spec(), batch, device)
            self.pending = zeros

    def fork_primed(self, batch: int) -> "Transducer":
        """A stream of `batch` rows that goes on from this one (batch 1), which must have run its prefill and no more.

        Its output begins with the first frame after what this one was given.
        """
        other = Transducer(self.network, batch, self.pending.device, self.pending.dtype, self.max_frames)
        other.state = states.expand(self.state, batch)
        other.pending = self.pending.expand(batch, -1, -1).clone()
        other.progress, other.skip = self.progress, self.network.out.lag
        return other

    @property
    def frames_ready(self) -> int:
        """Whole frames waiting in `pending`."""
        lag = self.network.at.lag if self.state is None else 0
        return (self.pending.shape[1] + lag) // self.network.at.rate

    @torch.inference_mode()
    def push(self, x: Tensor) -> Tensor:
        """Rows of signal, [B, n, C], any n; returns the rows of true output that are now final, [B, m, C']."""
        self.pending = torch.cat([self.pending, x], 1) if self.pending.shape[1] else x
        self.progress = self.progress._replace(received=self.progress.received + x.shape[1])
        outputs = []
        while self.frames_ready and (self.state is not None or self.frames_ready >= self.network.prefill_frames):
            outputs.append(self._advance(min(self.frames_ready, self.max_frames)))
        if outputs or self.pending is x:
            # Hold neither the caller's memory nor a whole push for the sake of its last rows.
            self.pending = self.pending.clone()
        return self._emit(outputs, x)

    def _advance(self, frames: int) -> Tensor:
        if self.state is None:
            frames = max(frames, self.network.prefill_frames)
            y, self.state = self.network.layer.prefill(self._take(self.network.at.rows(frames)))
        else:
            y = self._step(self._take(frames * self.network.at.rate), UNKNOWN)
        self.progress = self.progress._replace(frames=self.progress.frames + frames)
        return y

    def _take(self, rows: int) -> Tensor:
        taken, self.pending = self.pending[:, :rows], self.pending[:, rows:]
        return taken

    def _step(self, x: Tensor, length: int) -> Tensor:
        edges = None
        if self.progress.frames < self.network.warmup_frames or length != UNKNOWN:
            batch = x.shape[0]
            position = torch.full((batch,), self.progress.frames, device=x.device)
            edges = Edges(position, torch.full((batch,), length, device=x.device))
        y, self.state = self.network.layer.step(x, self.state, edges)
        return y

    def _emit(self, outputs: list[Tensor], like: Tensor) -> Tensor:
        y = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0] if outputs else None
        if y is None:
            y = like.new_zeros(like.shape[0], 0, self.network.out_channels)
        if self.skip:
            dropped = min(self.skip, y.shape[1])
            self.skip -= dropped
            y = y[:, dropped:]
        self.progress = self.progress._replace(emitted=self.progress.emitted + y.shape[1])
        return y

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The end of the signal; returns all the output that is left."""
        length = self.progress.received
        layer = self.network.layer
        if self.state is None:
            return self._emit([layer(self.pending)], self.pending)
        if self.network.prefill_frames:
            return self._emit([layer.finish(self.pending, self.state, length)], self.pending)
        return self._emit(self._end_steps(length), self.pending)

    def _end_steps(self, length: int) -> list[Tensor]:
        """Steps fed zeros until the last row of output is through; the edges keep the zeros out of the signal."""
        rate, total = self.network.at.rate, self.network.layer.output_length(length)
        outputs, x = [], self.pending
        while self.network.out.rows(self.progress.frames) < total:
            # All that is left at once: a step of many frames costs far less than as many steps.
            frames = min(self.network.out.frames(total) - self.progress.frames, self.max_frames)
            outputs.append(self._step(torch.nn.functional.pad(x, (0, 0, 0, frames * rate - x.shape[1])), length))
            self.progress = self.progress._replace(frames=self.progress.frames + frames)
            x = x[:, :0]
        if outputs:
            surplus = self.network.out.rows(self.progress.frames) - total
            outputs[-1] = outputs[-1][:, : outputs[-1].shape[1] - surplus]
        return outputs
