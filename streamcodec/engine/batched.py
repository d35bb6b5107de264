"""Sessions whose steps are batched: framed networks, at any place of their streams.

A step copies the states of the ready slots to scratch memory, runs there, and copies them back. What goes wrong before
that leaves every slot as it was. Each side's stream is a `Transducer` whose state is its slot; what a batch cannot do,
the mirrored start and end, the transducer does alone.
"""

from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..codecs import Codec
from ..codecs.framed import FramedCore
from ..errors import StateError
from ..nn.layer import Edges
from ..nn.transducer import UNKNOWN, Network, Progress, Transducer
from ..state import Spec
from ..stream import Start
from .arena import Arena, Batch
from .counts import whole_numbers
from .lane import Lane, Result, Saved, Side
from .queue import Queue

__all__ = ["BatchedLane", "BatchedSide", "Plan", "load_rows"]


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
    """What the next step does for a side. frames: how many it moves on by, and rows, those of its input.

    start, stop: its true rows among those that come out; last: nothing comes after them.
    """

    side: BatchedSide
    frames: int
    rows: int
    start: int
    stop: int
    last: bool


class Bench(NamedTuple):
    """What a thread runs a step on. inputs: [B, rows, channels] for each number of frames; batch: the states.

    Scratch rows hold leftovers.
    """

    inputs: dict[int, Tensor]
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
        step_frames: tuple[int, ...],
        frames_at_once: int | None,
        max_queue: int,
        threads: int,
        pool: ThreadPoolExecutor | None,
    ):
        super().__init__(codec, kind, slots, step_frames[0], max_queue)
        self.step_frames, self.frames_at_once = step_frames, frames_at_once
        self.network, self.batch_sizes = network, batch_sizes
        self.device, self.dtype = codec.device, codec.dtype
        self.threads, self.pool = threads, pool
        spec = network.layer.state_spec()
        self.arena = Arena(spec, slots, self.device)
        self.benches = [self._bench(spec) for _ in range(threads)]

    def _bench(self, spec: Spec) -> Bench:
        largest, network = self.batch_sizes[-1], self.network
        shapes = {frames: (largest, frames * network.at.rate, network.channels) for frames in self.step_frames}
        inputs = {frames: torch.zeros(s, device=self.device, dtype=self.dtype) for frames, s in shapes.items()}
        return Bench(inputs, Batch(spec, largest, self.device))

    @property
    def nbytes(self) -> int:
        return sum(rows.bytes.numel() for rows in (self.arena, *(bench.batch for bench in self.benches)))

    def prepare(self) -> None:
        """Run every size and length of step once, on scratch memory: it makes what is made on first use."""
        for size, bench in product(self.batch_sizes, self.benches):
            edges = self._edge_tensors([(0, UNKNOWN)] * size)
            for frames, edge in [(frames, None) for frames in self.step_frames] + [(self.frames, edges)]:
                y, _ = self.network.layer.step(bench.inputs[frames][:size], bench.batch.state(size), edge)
                self._finish_batch(y, [])

    # -- slots -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def _core(self, start: Start, bandwidth: float) -> FramedCore: ...

    @abstractmethod
    def _make(
        self, slot: int, owner: Any, stream: Transducer, bandwidth: float, saved: Saved | None
    ) -> BatchedSide: ...

    def open(self, owner: Any, start: Start, bandwidth: float, saved: Saved | None = None) -> BatchedSide:
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
        for frames, sides in self._by_frames(together).items():
            for done in self._run_batches(sides, frames):
                results += self._commit(done)
        return [result for result in results if not result.side.closed]

    def _by_frames(self, sides: list[BatchedSide]) -> dict[int, list[BatchedSide]]:
        """The sides by the frames that they move on by: as many as wait, but no more than half of the sides have.

        So most of them share one batch, of at most `frames_at_once`. Who has more is served again by the next step.
        """
        if not sides:
            return {}
        waiting = [self._waiting(side) for side in sides]
        most = sorted(waiting)[len(sides) // 2]
        if self.frames_at_once is not None:
            most = min(most, self.frames_at_once // len(sides))
        found: dict[int, list[BatchedSide]] = {}
        for side, frames in zip(sides, waiting, strict=True):
            found.setdefault(self._allowed(min(frames, most)), []).append(side)
        return found

    def _allowed(self, frames: int) -> int:
        """The longest step of at most so many frames, or the shortest of all."""
        return max((step for step in self.step_frames if step <= frames), default=self.frames)

    def _waiting(self, side: BatchedSide) -> int:
        """Whole frames that a step could take; of an ended side, those that are left."""
        if side.ended and not self.network.prefill_frames:
            return self.network.out.frames(self._total(side)) - side.stream.progress.frames
        return side.queue.rows // self.network.at.rate

    def _run_batches(self, sides: list[BatchedSide], frames: int) -> Iterator[Done]:
        """One step for all of `sides`, shared evenly among the threads, in batches no larger than the largest."""
        share = min(self.batch_sizes[-1], -(-len(sides) // self.threads))
        rounds = [sides[start : start + share] for start in range(0, len(sides), max(1, share))]
        for start in range(0, len(rounds), self.threads):
            plans = [
                [self._plan(side, frames) for side in part if not side.closed]
                for part in rounds[start:][: self.threads]
            ]
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
                yield self._compute([self._plan(plan.side, plan.frames)], done.bench)

    def _plan(self, side: BatchedSide, frames: int) -> Plan:
        network, stream = self.network, side.stream
        rows, surplus, last = frames * network.out.rate, 0, False
        if side.ended and not network.prefill_frames:
            beyond = network.out.rows(stream.progress.frames + frames) - self._total(side)
            surplus, last = max(0, beyond), beyond >= 0
        start = min(stream.skip, rows)
        return Plan(side, frames, frames * network.at.rate, start, max(start, rows - surplus), last)

    @torch.inference_mode()
    def _compute(self, plans: list[Plan], bench: Bench) -> Done:
        """Run a step, the same frames for all, on `bench`; changes nothing else: any thread may, and it may fail."""
        size = next(size for size in self.batch_sizes if size >= len(plans))
        try:
            self.arena.gather(self._index([plan.side.slot for plan in plans]), bench.batch)
            x = bench.inputs[plans[0].frames]
            self._fill(plans, x)
            edges = self._edges(plans, size)
            y, _ = self.network.layer.step(x[:size], bench.batch.state(size), edges)
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
        self.batches += 1
        self.rows += len(plans)
        self.frames_run += len(plans) * plans[0].frames
        self.padding += size - len(plans)
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
        stream.progress = Progress(frames + plan.frames, received, emitted)
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


def load_rows(saved: Saved, side: BatchedSide) -> None:
    """The counters that both directions save."""
    received, ended = saved.numbers.get("received"), saved.numbers.get("ended")
    whole_numbers({"received": received, "ended": ended}, {"received", "ended"})
    assert isinstance(received, int)
    side.received, side.ended = received, bool(ended)
