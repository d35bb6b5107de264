"""Decoders whose steps are batched: codes to audio."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from ..codecs.framed import FramedCore
from ..codes import Codes
from ..counts import DecoderCount
from ..errors import StateError
from ..nn.transducer import Transducer
from ..stream import Start
from .batched import BatchedLane, BatchedSide, Plan, load_rows
from .lane import Saved

__all__ = ["BatchedDecoders"]

# In a saved queue of codes, a codebook that a frame does not have.
ABSENT = -1


class DecoderSide(BatchedSide):
    """Codes wait in the queue, as rows [n, codebooks]; how many codebooks may differ from piece to piece."""

    lane: "BatchedDecoders"

    def __init__(self, lane: "BatchedDecoders", slot: int, owner: Any, stream: Transducer):
        super().__init__(lane, slot, owner, stream)
        self.count = DecoderCount(lane.codec)
        self._heard: Tensor | None = None  # rows that were run last

    @property
    def queued(self) -> int:
        return self.queue.rows

    def put(self, item: Codes, bounded: bool = True) -> None:
        frames = item.data.shape[2]
        self.count.take(item, lambda: self.lane.check_room(self.queue.rows, frames if bounded else 0, "frames", 1))
        rows = item.data[0].t()
        if bounded:  # the caller may go on writing to theirs
            rows = rows.to(self.lane.device).clone(memory_format=torch.contiguous_format)
        self.queue.put(rows)
        self.received += frames
        self.lane.wake(self)

    def drop(self, rows: int) -> None:
        self.hear(self.queue.peek(rows))
        super().drop(rows)

    def hear(self, pieces: list[Tensor]) -> None:
        """These were run."""
        if pieces:
            self._heard = pieces[-1]

    @property
    def last(self) -> Tensor | None:
        """The last frame that was run, [1, codebooks]."""
        return None if self._heard is None else self._heard[-1:]

    def cut(self, fade: int) -> None:
        dropped = 0 if self.ended else self.queue.rows
        self.queue.drop(dropped)
        last = self.last
        lacking = self.count.cut(fade, dropped, more=not self.ended and last is not None)
        if last is not None:
            self.queue.put(last.expand(lacking, -1))
        self.received += lacking - dropped
        super().end()

    def save(self) -> Saved:
        saved = self._save(self._padded(self.queue.peek(self.queue.rows)), self.count.save())
        if self.last is None:
            return saved
        return saved._replace(tensors=saved.tensors | {"last": self._padded([self.last])})

    def _padded(self, pieces: list[Tensor]) -> Tensor:
        """Rows [n, codebooks] of any widths as one tensor."""
        widest = self.lane.codec.spec.num_codebooks
        rows = [torch.nn.functional.pad(piece, (0, widest - piece.shape[1]), value=ABSENT) for piece in pieces]
        return torch.cat(rows).cpu() if rows else torch.zeros(0, widest, dtype=torch.int64)


class BatchedDecoders(BatchedLane):
    """Codes to audio."""

    def _core(self, start: Start, bandwidth: float) -> FramedCore:
        core = self.codec.decoder_core(1, start, bandwidth)
        assert isinstance(core, FramedCore)
        return core

    def _make(self, slot: int, owner: Any, stream: Transducer, bandwidth: float, saved: Saved | None) -> DecoderSide:
        side = DecoderSide(self, slot, owner, stream)
        if saved is not None:
            for piece in self._saved_codes(saved.tensors.get("queue")):
                side.queue.put(piece)
            if "last" in saved.tensors:
                side.hear(self._saved_codes(saved.tensors["last"]))
            load_rows(saved, side)
            side.count.load(saved.numbers.get("count"))
        return side

    def _saved_codes(self, queue: Tensor | None) -> list[Tensor]:
        spec = self.codec.spec
        if queue is None or queue.dim() != 2 or queue.shape[1] != spec.num_codebooks or queue.dtype != torch.int64:
            raise StateError("saved session lacks the codes that wait, or has them in another shape")
        self.check_restored(queue.shape[0])
        counts = (queue != ABSENT).sum(1)
        present = torch.arange(spec.num_codebooks) < counts[:, None]
        if bool((counts < 1).any() | (queue >= spec.codebook_size).any() | ((queue < 0) == present).any()):
            raise StateError("saved session has codes outside the codebook")
        pieces, place = [], 0
        for codebooks, run in groupby(counts.tolist()):
            frames = len(list(run))
            pieces.append(queue[place : place + frames, :codebooks].to(self.device))
            place += frames
        return pieces

    def _fill(self, plans: list[Plan], x: Tensor) -> Tensor:
        """All codes of the step to latents, those of as many codebooks in one call."""
        by_codebooks: dict[int, list[Tensor]] = {}
        places: dict[int, list[tuple[int, int]]] = {}
        for row, plan in enumerate(plans):
            place = 0
            for piece in plan.side.queue.peek(plan.rows):
                by_codebooks.setdefault(piece.shape[1], []).append(piece)
                places.setdefault(piece.shape[1], []).append((row, place))
                place += piece.shape[0]
            if place < plan.rows:
                x[row, place:] = 0
        for codebooks, pieces in by_codebooks.items():
            latents = self.codec.quantizer.decode(torch.cat(pieces)[None])
            sizes = [piece.shape[0] for piece in pieces]
            if sizes == [x.shape[1]] * len(x):
                return latents.view(x.shape)
            for part, (row, place) in zip(latents[0].split(sizes), places[codebooks], strict=True):
                x[row, place : place + part.shape[0]] = part
        return x

    def _blank(self, frames: int) -> Tensor:
        return torch.zeros(frames, self.codec.spec.num_codebooks, dtype=torch.int64, device=self.device)

    def _int16(self, side: DecoderSide) -> bool:
        return side.owner.int16 and not side.count.fade  # which is of what is not rounded yet

    def _asked(self, plans: list[Plan]) -> int:
        return 0

    def _finish(self, y: Tensor, asked: int) -> Tensor:
        return y

    def _handed(self, output: Tensor) -> Sequence[Tensor]:
        with torch.inference_mode(False):  # what is copied here is the callers'
            return output.transpose(1, 2).clone(memory_format=torch.contiguous_format).split(1)

    @property
    def _nothing(self) -> Tensor:
        return torch.zeros(1, self.network.out_channels, 0, dtype=self.dtype, device=self.device)

    def _result(self, side: DecoderSide, output: Tensor, rows: int, last: bool) -> Tensor:
        emitted = side.count.emit(rows)
        if emitted < rows:
            output = output[:, :, :emitted]
        if not side.count.fade and output.is_contiguous():
            return output
        with torch.inference_mode(False):
            return side.count.faded(output.mT).mT.contiguous()
