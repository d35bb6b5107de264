"""Encoders whose steps are batched: audio to codes."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..codecs.framed import FramedCore
from ..codes import Codes
from ..counts import EncoderCount
from ..errors import StateError
from ..nn.transducer import Transducer
from ..stream import Start
from .bandwidths import Bandwidths
from .batched import BatchedLane, BatchedSide, Plan, load_rows
from .lane import Saved
from .queue import Queue

__all__ = ["BatchedEncoders"]


class EncoderSide(BatchedSide):
    """Audio waits in the queue, as rows [n, channels]."""

    def __init__(self, lane: "BatchedEncoders", slot: int, owner: Any, stream: Transducer, bandwidth: float):
        lagging = stream.pending[0].clone()
        super().__init__(lane, slot, owner, stream)
        self.queue.put(lagging)
        self.count, self.bandwidths = EncoderCount(lane.codec), Bandwidths(bandwidth)

    @property
    def queued(self) -> int:
        return min(self.queue.rows, self.count.samples)  # not the zeros, or the silence, before the signal

    def put(self, item: Tensor, bounded: bool = True) -> None:
        rows, hop = item.shape[1], self.lane.network.at.rate
        self.lane.check_room(self.queued, rows, "samples", hop)
        self.queue.put(item[0])  # `as_rows` gave memory of its own
        self.received += rows
        self.count.samples += rows
        self.lane.wake(self)

    def end(self) -> None:
        """The zeros that complete the signal join the queue; nobody's samples, they are not counted."""
        missing = self.lane.codec.missing(self.count.samples)
        if missing:
            self.queue.put(self.stream.pending.new_zeros(missing, self.lane.network.channels))
            self.received += missing
        super().end()

    def change(self, bandwidth: float) -> None:
        self.bandwidths.change(self.count.frames + self.frames_due(), bandwidth)

    def save(self) -> Saved:
        waiting = self.queue.peek(self.queue.rows)
        queue = torch.cat(waiting) if waiting else self.stream.pending[0]
        saved = self._save(queue, self.count.save())
        return saved._replace(numbers=saved.numbers | {"bandwidths": self.bandwidths.save()})


class BatchedEncoders(BatchedLane):
    """Audio to codes."""

    @cached_property
    def _codebooks(self) -> dict[float, int]:
        """By bandwidth."""
        spec = self.codec.spec
        return {bandwidth: spec.codebooks(bandwidth) for bandwidth in spec.bandwidths}

    def _core(self, start: Start, bandwidth: float) -> FramedCore:
        core = self.codec.encoder_core(1, start)
        assert isinstance(core, FramedCore)
        return core

    def _make(self, slot: int, owner: Any, stream: Transducer, bandwidth: float, saved: Saved | None) -> EncoderSide:
        if saved is None:
            return EncoderSide(self, slot, owner, stream, bandwidth)
        queue = saved.tensors.get("queue")
        if queue is None or queue.dim() != 2 or queue.shape[1] != self.network.channels or queue.dtype != self.dtype:
            raise StateError("saved session lacks the audio that waits, or has it in another shape")
        side = EncoderSide(self, slot, owner, stream, bandwidth)
        side.queue = Queue()
        side.queue.put(queue.to(self.device))
        load_rows(saved, side)
        side.count.load(saved.numbers.get("count"))
        zeros = self.codec.missing(side.count.samples) if side.ended else 0
        self.check_restored((queue.shape[0] - zeros) // self.network.at.rate)
        limit = side.count.frames + side.frames_due()
        side.bandwidths = Bandwidths.load(saved.numbers.get("bandwidths"), self.codec.spec.bandwidths, limit)
        return side

    def _fill(self, plans: list[Plan], x: Tensor) -> Tensor:
        """In one call for all."""
        pieces: list[Tensor] = []
        for plan in plans:
            queue = plan.side.queue
            pieces += queue.peek(plan.rows)
            if queue.rows < plan.rows:
                pieces.append(x.new_zeros(plan.rows - queue.rows, x.shape[2]))
        torch.cat(pieces, out=(x if len(x) == len(plans) else x[: len(plans)]).flatten(0, 1))
        return x

    def _blank(self, frames: int) -> Tensor:
        return torch.zeros(frames * self.network.at.rate, self.network.channels, device=self.device, dtype=self.dtype)

    def _int16(self, side: EncoderSide) -> bool:
        return False

    def _asked(self, plans: list[Plan]) -> int:
        """The codebooks of the highest bandwidth of any; the stages of a lower one are the first of a higher."""
        asked = [bandwidth for plan in plans for _, bandwidth in self._runs(plan.side, plan.stop - plan.start)]
        return self._codebooks[max(asked, default=self.codec.spec.bandwidths[-1])]

    def _finish(self, y: Tensor, asked: int) -> Tensor:
        """Codes [B, T, K]."""
        return self.codec.quantizer.encode(y, asked)

    @staticmethod
    def _runs(side: Any, frames: int) -> list[tuple[int, float]]:
        return side.bandwidths.of(side.count.frames, frames)

    def _handed(self, output: Tensor) -> Sequence[Tensor]:
        return output.transpose(1, 2).split(1)

    @property
    def _nothing(self) -> Tensor:
        return torch.zeros(1, self.codec.spec.num_codebooks, 0, dtype=torch.int64, device=self.device)

    def _result(self, side: EncoderSide, output: Tensor, rows: int, last: bool) -> list[Codes]:
        """Pieces of codes, one for each stretch of the same bandwidth."""
        runs = self._runs(side, rows)
        lengths = side.count.lengths([frames for frames, _ in runs], side.ended, last)
        pieces, place = [], 0
        for (frames, bandwidth), length in zip(runs, lengths, strict=True):
            if frames or length:
                part, codebooks = output, self._codebooks[bandwidth]
                if frames < rows or codebooks < output.shape[1]:
                    part = output[:, :codebooks, place : place + frames]
                pieces.append(Codes(part, None, length))
            place += frames
        side.bandwidths.forget(side.count.frames)
        return pieces
