"""Sessions whose steps are batched: framed networks, at any place of their streams.

A step copies the states of the ready slots to scratch memory, runs there, and copies them back. What goes wrong before
that leaves every slot as it was. Each side's stream is a `Transducer` whose state is its slot; what a batch cannot do,
the mirrored start and end, the transducer does alone.
"""

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..codecs import Codec
from ..codecs.framed import FramedCore
from ..codes import Codes
from ..errors import StateError
from ..nn.layer import Edges
from ..nn.transducer import UNKNOWN, Network, Progress, Transducer
from .arena import Arena, Batch
from .counts import Bandwidths, DecoderCount, EncoderCount, whole_numbers
from .lane import Lane, Result, Saved, Side
from .queue import Queue

__all__ = ["BatchedDecoders", "BatchedEncoders"]


class BatchedSide(Side):
    """stream: where the side stands; its state is views into the slot, or None before a mirrored start.

    received: rows of signal fed, what a primed start has heard included.
    """

    def __init__(self, lane: "BatchedLane", slot: int, owner: Any, stream: Transducer):
        super().__init__(slot, owner)
        self.lane, self.stream, self.queue = lane, stream, Queue()
        self.received = stream.progress.received
        stream.pending = stream.pending[:, :0]

    def end(self) -> None:
        self.ended = True

    @property
    def started(self) -> bool:
        return self.stream.state is not None

    def frames_due(self) -> int:
        """Rows of output that what waits would give if it ran now."""
        network, waiting = self.stream.network, self.queue.rows
        if self.started:
            return max(0, waiting // network.at.rate * network.out.rate - self.stream.skip)
        frames = (waiting + network.at.lag) // network.at.rate
        return network.out.rows(frames) if frames >= network.prefill_frames else 0

    def _save(self, queue: Tensor, count: dict[str, int]) -> Saved:
        tensors, core = FramedCore(self.stream).save()
        numbers = {"core": core, "count": count, "received": self.received, "ended": int(self.ended)}
        # Copies: views of one memory cannot be written side by side.
        return Saved({name: tensor.clone() for name, tensor in tensors.items()} | {"queue": queue.cpu()}, numbers)


class Plan(NamedTuple):
    """What the next step of frames does for a side. start, stop: its true rows among those that come out."""

    side: BatchedSide
    rows: int
    start: int
    stop: int
    last: bool


class Bench(NamedTuple):
    """What a thread runs a step on. input: [B, rows, channels]; batch: the states. Scratch rows hold leftovers."""

    input: Tensor
    batch: Batch


class Done(NamedTuple):
    """A step that ran, before anything is committed. output: what `_finish_batch` gave; error: the step failed."""

    plans: list[Plan]
    bench: Bench
    output: Any = None
    error: Exception | None = None


class BatchedLane(Lane[Any]):
    """Slots of one network, in an arena.

    pool: threads that run parts of a step beside the caller's, or None. They read the slots and write to their own
    bench; everything else happens on the caller's thread.
    """

    def __init__(
        self,
        codec: Codec,
        network: Network,
        kind: str,
        slots: int,
        batch_sizes: tuple[int, ...],
        frames: int,
        max_queue: int,
        threads: int,
        pool: ThreadPoolExecutor | None,
    ):
        super().__init__(codec, kind, slots, frames, max_queue)
        self.network, self.batch_sizes = network, batch_sizes
        self.device, self.dtype = codec.device, codec.dtype
        self.threads, self.pool = threads, pool
        spec = network.layer.state_spec()
        self.arena = Arena(spec, slots, self.device)
        shape = (batch_sizes[-1], frames * network.at.rate, network.channels)
        self.benches = [
            Bench(torch.zeros(shape, device=self.device, dtype=self.dtype), Batch(spec, batch_sizes[-1], self.device))
            for _ in range(threads)
        ]

    @property
    def nbytes(self) -> int:
        return sum(rows.bytes.numel() for rows in (self.arena, *(bench.batch for bench in self.benches)))

    def prepare(self) -> None:
        """Run every batch size once, on scratch memory, with and without edges: it makes what is made on first use."""
        for size in self.batch_sizes:
            for edges in (None, self._edge_tensors([(0, UNKNOWN)] * size)):
                for bench in self.benches:
                    y, _ = self.network.layer.step(bench.input[:size], bench.batch.state(size), edges)
                    self._finish_batch(y, [])

    # -- slots -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def _core(self, start: str, bandwidth: float) -> FramedCore: ...

    @abstractmethod
    def _make(
        self, slot: int, owner: Any, stream: Transducer, bandwidth: float, saved: Saved | None
    ) -> BatchedSide: ...

    def open(self, owner: Any, start: str, bandwidth: float, saved: Saved | None = None) -> BatchedSide:
        slot = self.admit()
        core = self._core("exact" if saved is not None else start, bandwidth)
        if saved is not None:
            tensors = {name: tensor for name, tensor in saved.tensors.items() if name != "queue"}
            core.load(tensors, whole_core(saved.numbers))
        stream = core.transducer
        side = self._make(slot, owner, stream, bandwidth, saved)
        if saved is not None:
            self._check_place(side)
        self._settle(side)
        self.sides[slot] = side
        return side

    def _settle(self, side: BatchedSide) -> None:
        """Move the stream's state into its slot."""
        if side.stream.state is not None:
            self.arena.put(side.slot, side.stream.state)
            side.stream.state = self.arena.slot(side.slot)

    def _check_place(self, side: BatchedSide) -> None:
        """Refuse counters that contradict each other: they could keep a session busy without end."""
        network, waiting = self.network, side.queue.rows
        consumed = network.at.rows(side.stream.progress.frames) if side.started else 0
        past_end = side.ended and not network.prefill_frames and not waiting
        total = network.layer.output_length(side.received)
        if side.received >= 1 << 40 or not (
            consumed + waiting == side.received or (past_end and self._steps_done(side, total))
        ):
            raise StateError("saved session has counters that contradict each other")
        if side.stream.skip > network.out.lag or side.stream.pending.shape[1]:
            raise StateError("saved session has a wrong place in its stream")

    def _steps_done(self, side: BatchedSide, total: int) -> bool:
        frames = side.stream.progress.frames
        needed = self.network.out.frames(total)
        return self.network.at.rows(frames) > side.received and frames < max(needed, 1) + self.frames

    # -- steps -----------------------------------------------------------------------------------------------------

    def ready(self, side: BatchedSide) -> bool:
        if side.done:
            return False
        if not side.started:
            return side.ended or side.queue.rows >= self.network.at.rows(self.network.prefill_frames)
        return side.ended or side.queue.rows >= self.frames * self.network.at.rate

    def _is_alone(self, side: BatchedSide) -> bool:
        """Whether a ready side's next move is no ordinary step."""
        if not side.started:
            return True
        if not side.ended:
            return False
        if self.network.prefill_frames:
            return side.queue.rows < self.frames * self.network.at.rate
        return self.network.out.rows(side.stream.progress.frames) >= self._total(side)

    def _total(self, side: BatchedSide) -> int:
        return self.network.layer.output_length(side.received)

    def run(self) -> list[Result]:
        ready = [side for side in self.sides if side is not None and self.ready(side)]
        together = [side for side in ready if not self._is_alone(side)]
        results = []
        for side in ready:
            if self._is_alone(side) and not side.closed:
                results.append(self._run_alone(side))
        for done in self._run_batches(together):
            results += self._commit(done)
        return [result for result in results if not result.side.closed]

    def _run_batches(self, sides: list[BatchedSide]) -> Iterator[Done]:
        """One step for all of `sides`, shared evenly among the threads, in batches no larger than the largest."""
        share = min(self.batch_sizes[-1], -(-len(sides) // self.threads))
        rounds = [sides[start : start + share] for start in range(0, len(sides), max(1, share))]
        for start in range(0, len(rounds), self.threads):
            plans = [[self._plan(side) for side in part if not side.closed] for part in rounds[start:][: self.threads]]
            work = [(part, bench) for part, bench in zip(plans, self.benches, strict=False) if part]
            others = [self.pool.submit(self._compute, *item) for item in work[1:]] if self.pool is not None else []
            ran = [self._compute(*item) for item in (work[:1] if others else work)]
            for done in ran + [other.result() for other in others]:
                yield from self._retried(done)

    def _retried(self, done: Done) -> Iterator[Done]:
        """A failed step once more, a side at a time: only those that fail alone are lost."""
        if done.error is None or len(done.plans) == 1:
            yield done
            return
        for plan in done.plans:
            if not plan.side.closed:
                yield self._compute([self._plan(plan.side)], done.bench)

    def _plan(self, side: BatchedSide) -> Plan:
        network, stream = self.network, side.stream
        rows = self.frames * network.out.rate
        surplus = 0
        if side.ended and not network.prefill_frames:
            surplus = max(0, network.out.rows(stream.progress.frames + self.frames) - self._total(side))
        last = side.ended and not network.prefill_frames
        last = last and network.out.rows(stream.progress.frames + self.frames) >= self._total(side)
        start = min(stream.skip, rows)
        return Plan(side, self.frames * network.at.rate, start, max(start, rows - surplus), last)

    @torch.inference_mode()
    def _compute(self, plans: list[Plan], bench: Bench) -> Done:
        """Run a step on `bench`; changes nothing else, so it may run on any thread, and may fail."""
        size = next(size for size in self.batch_sizes if size >= len(plans))
        try:
            self.arena.gather(self._index([plan.side.slot for plan in plans]), bench.batch)
            self._fill(plans, bench.input)
            edges = self._edges(plans, size)
            y, _ = self.network.layer.step(bench.input[:size], bench.batch.state(size), edges)
            return Done(plans, bench, self._finish_batch(y, plans))
        except Exception as error:
            return Done(plans, bench, error=error)

    @abstractmethod
    def _fill(self, plans: list[Plan], x: Tensor) -> None:
        """Write the input of the step to the first rows of `x`; zeros where the queue has too little."""

    @abstractmethod
    def _finish_batch(self, y: Tensor, plans: list[Plan]) -> Tensor:
        """What is left to do for the whole batch, row by row; `y`: the network's output, scratch rows included."""

    def _edges(self, plans: list[Plan], size: int) -> Edges | None:
        """None where no side of the batch may touch an edge of its signal: then the step is cheaper."""
        if not any(plan.side.ended or plan.side.stream.progress.frames < self.network.warmup_frames for plan in plans):
            return None
        edges = [
            (plan.side.stream.progress.frames, plan.side.received if plan.side.ended else UNKNOWN) for plan in plans
        ]
        return self._edge_tensors(edges + [(0, UNKNOWN)] * (size - len(edges)))

    def _edge_tensors(self, edges: list[tuple[int, int]]) -> Edges:
        return Edges(*(self._index(list(numbers)) for numbers in zip(*edges, strict=True)))

    def _index(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.device)

    def _commit(self, done: Done) -> list[Result]:
        """Make a step's states and rows the sides' own."""
        plans = done.plans
        kept = [i for i, plan in enumerate(plans) if not plan.side.closed]
        if done.error is not None:
            return [Result(plans[i].side, error=done.error) for i in kept]
        size = next(size for size in self.batch_sizes if size >= len(plans))
        self.batches, self.rows, self.padding = (
            self.batches + 1,
            self.rows + len(plans),
            self.padding + size - len(plans),
        )
        if not kept:
            return []
        # A side that was closed during the step no longer owns its slot, which may be another's by now.
        slots = self._index([plans[i].side.slot for i in kept])
        self.arena.scatter(slots, done.bench.batch, None if len(kept) == len(plans) else kept)
        with torch.inference_mode(False):  # what is copied from here on is the callers'
            return [self._advance(plans[i], done.output[i]) for i in kept]

    def _advance(self, plan: Plan, rows: Tensor) -> Result:
        side, stream = plan.side, plan.side.stream
        side.queue.drop(plan.rows)
        frames, received, emitted = stream.progress
        stream.progress = Progress(frames + self.frames, received, emitted)
        stream.skip -= plan.start
        side.done = plan.last
        return Result(side, self._result(side, rows[plan.start : plan.stop], plan.last))

    @abstractmethod
    def _result(self, side: Any, rows: Tensor, last: bool) -> Any:
        """What the session is given for its true rows of output."""

    # -- alone -----------------------------------------------------------------------------------------------------

    def _run_alone(self, side: BatchedSide) -> Result:
        self.alone += 1
        try:
            rows, last = self._move_alone(side)
        except Exception as error:
            return Result(side, error=error)
        if side.closed:
            return Result(side)
        side.done = last
        with torch.inference_mode(False):
            return Result(side, self._result(side, rows, last))

    def _move_alone(self, side: BatchedSide) -> tuple[Tensor, bool]:
        """The mirrored start of a side, or its end: rows of output, ready for `_result`, and whether that is all."""
        network, stream = self.network, side.stream
        frames = (side.queue.rows + network.at.lag) // network.at.rate
        if not side.started and frames >= network.prefill_frames:
            rows = network.at.rows(min(frames, max(stream.max_frames, network.prefill_frames)))
            y = stream.push(self._taken(side, rows))
            if not side.closed:
                side.queue.drop(rows)
                self._settle(side)
            return self._finish_alone(side, y), False
        if side.started and not network.prefill_frames:  # every row is out; only the length is still to be told
            return self._finish_alone(side, stream.pending.new_zeros(1, 0, network.out_channels)), True
        stream.pending = self._taken(side, side.queue.rows)
        stream.progress = stream.progress._replace(received=side.received)
        y = stream.flush()
        side.queue.drop(side.queue.rows)
        return self._finish_alone(side, y), True

    @abstractmethod
    def _taken(self, side: Any, rows: int) -> Tensor:
        """The first rows of the queue as the network's input, [1, rows, channels]; they stay in the queue."""

    @abstractmethod
    def _finish_alone(self, side: Any, y: Tensor) -> Tensor:
        """Output rows [1, n, C] of one side as `_result` takes them."""


def whole_core(numbers: dict[str, Any]) -> dict[str, int]:
    core = numbers.get("core")
    if not isinstance(core, dict):
        raise StateError("saved session lacks the place in its stream")
    return whole_numbers(core, set(core))


def own_rows(saved: Saved, lane: BatchedLane, side: BatchedSide) -> None:
    """The counters that both directions save."""
    received, ended = saved.numbers.get("received"), saved.numbers.get("ended")
    whole_numbers({"received": received, "ended": ended}, {"received", "ended"})
    assert isinstance(received, int)
    side.received, side.ended = received, bool(ended)


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
        self.queue.put(item[0].clone(memory_format=torch.contiguous_format))  # the caller may go on writing to theirs
        self.received += rows
        self.count.samples += rows

    def change(self, bandwidth: float) -> None:
        self.bandwidths.change(self.count.frames + self.frames_due(), bandwidth)

    def save(self) -> Saved:
        waiting = self.queue.peek(self.queue.rows)
        queue = torch.cat(waiting) if waiting else self.stream.pending[0]
        saved = self._save(queue, self.count.save())
        return saved._replace(numbers=saved.numbers | {"bandwidths": self.bandwidths.save()})


class BatchedEncoders(BatchedLane):
    """Audio to codes."""

    def _core(self, start: str, bandwidth: float) -> FramedCore:
        core = self.codec.encoder_core(1, start)
        assert isinstance(core, FramedCore)
        return core

    def _make(self, slot: int, owner: Any, stream: Transducer, bandwidth: float, saved: Saved | None) -> EncoderSide:
        if saved is None:
            return EncoderSide(self, slot, owner, stream, bandwidth)
        queue = saved.tensors.get("queue")
        if queue is None or queue.dim() != 2 or queue.shape[1] != self.network.channels or queue.dtype != self.dtype:
            raise StateError("saved session lacks the audio that waits, or has it in another shape")
        self.check_restored(queue.shape[0] // self.network.at.rate)
        side = EncoderSide(self, slot, owner, stream, bandwidth)
        side.queue = Queue()
        side.queue.put(queue.to(self.device))
        own_rows(saved, self, side)
        side.count.load(saved.numbers.get("count"))
        limit = side.count.frames + side.frames_due()
        side.bandwidths = Bandwidths.load(saved.numbers.get("bandwidths"), self.codec.spec.bandwidths, limit)
        return side

    def _fill(self, plans: list[Plan], x: Tensor) -> None:
        for row, plan in zip(x, plans, strict=False):
            place = 0
            for piece in plan.side.queue.peek(plan.rows):
                row[place : place + piece.shape[0]] = piece
                place += piece.shape[0]
            if place < plan.rows:
                row[place:] = 0

    def _finish_batch(self, y: Tensor, plans: list[Plan]) -> Tensor:
        """Codes [B, T, K] for the highest bandwidth of any; the stages of a lower one are the first of a higher."""
        spec = self.codec.spec
        asked = [bandwidth for plan in plans for _, bandwidth in self._runs(plan.side, plan.stop - plan.start)]
        return self.codec.quantizer.encode(
            y[: len(plans) or None], spec.codebooks(max(asked, default=spec.bandwidths[-1]))
        )

    @staticmethod
    def _runs(side: Any, frames: int) -> list[tuple[int, float]]:
        return side.bandwidths.of(side.count.frames, frames)

    def _taken(self, side: EncoderSide, rows: int) -> Tensor:
        pieces = side.queue.peek(rows)
        return torch.cat(pieces)[None] if pieces else side.stream.pending

    def _finish_alone(self, side: EncoderSide, y: Tensor) -> Tensor:
        highest = max(bandwidth for _, bandwidth in self._runs(side, y.shape[1]))
        return self.codec.quantizer.encode(y, self.codec.spec.codebooks(highest))[0]

    def _result(self, side: EncoderSide, rows: Tensor, last: bool) -> list[Codes]:
        """Pieces of codes, one for each stretch of the same bandwidth."""
        runs = self._runs(side, rows.shape[0])
        lengths = side.count.lengths([frames for frames, _ in runs], side.ended, last)
        pieces, place = [], 0
        for (frames, bandwidth), length in zip(runs, lengths, strict=True):
            if frames or length:
                part = rows[place : place + frames, : self.codec.spec.codebooks(bandwidth)]
                pieces.append(Codes(part.t()[None], None, length))  # views: copied where they are delivered
            place += frames
        side.bandwidths.forget(side.count.frames)
        return pieces


class DecoderSide(BatchedSide):
    """Codes wait in the queue, as rows [n, codebooks]; how many codebooks may differ from piece to piece."""

    lane: "BatchedDecoders"

    def __init__(self, lane: "BatchedDecoders", slot: int, owner: Any, stream: Transducer):
        super().__init__(lane, slot, owner, stream)
        self.count = DecoderCount(lane.codec)

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

    def save(self) -> Saved:
        widest = self.lane.codec.spec.num_codebooks
        pieces = [
            torch.nn.functional.pad(piece, (0, widest - piece.shape[1]), value=ABSENT)
            for piece in self.queue.peek(self.queue.rows)
        ]
        queue = torch.cat(pieces) if pieces else torch.zeros(0, widest, dtype=torch.int64)
        return self._save(queue, self.count.save())


# In a saved queue of codes, a codebook that a frame does not have.
ABSENT = -1


class BatchedDecoders(BatchedLane):
    """Codes to audio."""

    def _core(self, start: str, bandwidth: float) -> FramedCore:
        core = self.codec.decoder_core(1, start, bandwidth)
        assert isinstance(core, FramedCore)
        return core

    def _make(self, slot: int, owner: Any, stream: Transducer, bandwidth: float, saved: Saved | None) -> DecoderSide:
        side = DecoderSide(self, slot, owner, stream)
        if saved is not None:
            for piece in self._saved_codes(saved.tensors.get("queue")):
                side.queue.put(piece)
            own_rows(saved, self, side)
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

    def _fill(self, plans: list[Plan], x: Tensor) -> None:
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
            latents = self.codec.quantizer.decode(torch.cat(pieces)[None])[0]
            sizes = [piece.shape[0] for piece in pieces]
            if len(by_codebooks) == 1 and sizes == [self.frames] * len(plans):
                x[: len(plans)] = latents.view(len(plans), self.frames, -1)
                return
            for part, (row, place) in zip(latents.split(sizes), places[codebooks], strict=True):
                x[row, place : place + part.shape[0]] = part

    def _finish_batch(self, y: Tensor, plans: list[Plan]) -> Tensor:
        return y

    def _taken(self, side: DecoderSide, rows: int) -> Tensor:
        pieces = side.queue.peek(rows)
        latents = [self.codec.quantizer.decode(piece[None]) for piece in pieces]
        return torch.cat(latents, 1) if latents else side.stream.pending

    def _finish_alone(self, side: DecoderSide, y: Tensor) -> Tensor:
        return y[0]

    def _result(self, side: DecoderSide, rows: Tensor, last: bool) -> Tensor:
        return rows[: side.count.emit(rows.shape[0])].t()[None].clone(memory_format=torch.contiguous_format)
