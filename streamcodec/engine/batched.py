"""Sessions whose steps are batched: framed networks, at any place of their streams.

A step is lent the states of the ready slots (`state.Lent`). What it makes of them is written when all went well: what
goes wrong before that leaves every slot as it was. Each side's stream is a `Transducer` whose state is its slot.

An executor may have one call for all of a step (`pushes`). On a GPU it is captured in a CUDA graph (`whole_steps`).
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..codecs import Codec
from ..codecs.framed import FramedCore
from ..counts import whole_numbers
from ..errors import StateError
from ..nn.transducer import UNKNOWN, Network, Progress, Transducer
from ..program import Edges
from ..state import Lent, State
from ..stream import Start
from .lane import Lane, Result, Saved, Side
from .pushes import Pushed, Pushes
from .queue import Queue
from .whole_steps import WholeSteps

__all__ = ["BatchedLane", "BatchedSide", "Plan", "load_rows"]


class BatchedSide(Side):
    """stream: where the side stands; its state is a view of the slot.

    received: rows of signal fed, what a primed start has heard included.
    """

    def __init__(self, lane: "BatchedLane", slot: int, owner: Any, stream: Transducer):
        super().__init__(slot, owner)
        self.lane, self.stream, self.queue = lane, stream, Queue()
        self.received = stream.progress.received
        stream.pending = stream.pending[:, :0]

    def end(self) -> None:
        self.ended = True
        self.lane.wake(self)

    def drop(self, rows: int) -> None:
        """Let go of the input of a step that ran."""
        self.queue.drop(rows)

    def frames_due(self) -> int:
        """Rows of output that what waits would give if it ran now."""
        network, frames = self.stream.network, self.queue.rows // self.stream.network.at.rate
        return max(0, frames * network.out.rate - self.stream.skip) if frames >= self.stream.frames_needed else 0

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


class Scratch(NamedTuple):
    """What a part of a step runs on. inputs: [B, rows, channels] for each number of frames; part: its number.

    Rows hold leftovers. views: of the inputs, by batch and frames, since a torch call whose code has left the caches
    takes 10 to 40 us.
    """

    inputs: dict[int, Tensor]
    part: int
    views: dict[tuple[int, int], Tensor]

    def rows(self, batch: int, frames: int) -> Tensor:
        """The input of a step: [batch, rows, channels]."""
        view = self.views.get((batch, frames))
        if view is None:
            view = self.views[batch, frames] = self.inputs[frames][:batch]
        return view


class Done(NamedTuple):
    """A step that ran, before anything is committed. outputs: of each plan, [1, channels or codebooks, n]; lent: the
    states of the plans' sides, but of a push and of a whole step, which have written them; error: the step failed.
    """

    plans: list[Plan]
    scratch: Scratch
    outputs: Sequence[Tensor] = ()
    lent: Lent | None = None
    error: Exception | None = None


def runs_whole(device: torch.device) -> bool:
    """Whether steps on a device are whole ones."""
    return device.type == "cuda"


class BatchedLane(Lane[Any]):
    """Slots of one network. states: of all of them.

    pool: threads that run parts of a step beside the caller's, or None. They read the slots and write to their own
    scratch memory; everything else happens on the caller's thread. On a GPU one thread launches all.
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
        whole = runs_whole(self.device)
        self.threads, self.pool = (1, None) if whole else (threads, pool)
        self.first_frames = max(step_frames[0], network.prefill_frames)  # of a session's first step
        self.states = State(network.spec, slots + whole, self.device)  # the last one is nobody's
        self.scratches = [self._scratch(part) for part in range(self.threads)]
        self.steps: WholeSteps | None = None
        if whole:
            inputs, largest = self.scratches[0].rows, batch_sizes[-1]
            self.steps = WholeSteps(network, codec.quantizer, self.states, largest, inputs, self._finish)
        # Other threads would write slots while the caller's runs Python, which may close a session.
        self.pushes = None if whole or self.pool is not None else Pushes(network, codec.quantizer, self.states)
        self._awake: dict[int, BatchedSide] = {}  # by slot: those that may be ready

    def _scratch(self, part: int) -> Scratch:
        largest, network = self.batch_sizes[-1], self.network
        shapes = {
            frames: (largest, frames * network.at.rate, network.channels)
            for frames in {*self.step_frames, self.first_frames}
        }
        inputs = {frames: torch.zeros(s, device=self.device, dtype=self.dtype) for frames, s in shapes.items()}
        return Scratch(inputs, part, {})

    @property
    def nbytes(self) -> int:
        return self.states.bytes.numel()

    def prepare(self) -> None:
        """Run every size and length of step once, on scratch memory: it makes what is made on first use."""
        # Each thread has things of its own to make: none may take the part of another.
        together = Barrier(len(self.scratches))
        others = [self.pool.submit(self._prepare, part, together) for part in self.scratches[1:]] if self.pool else []
        self._prepare(self.scratches[0], together)
        for other in others:
            other.result()

    @torch.inference_mode()
    def _prepare(self, scratch: Scratch, together: Barrier) -> None:
        together.wait()
        for size in reversed(self.batch_sizes):  # of what a thread has no room to keep, the largest go
            if self.steps is not None:
                self.steps.prepare(size, self.step_frames, self.first_frames, self._asked([]))
                continue
            edges = [(0, UNKNOWN)] * size
            for frames, edge in [(frames, None) for frames in self.step_frames] + [(self.first_frames, edges)]:
                if self._prepare_push(size, frames, edge):
                    continue
                lent = Lent(self.states, [0] * size)  # it is not written
                at = None if edge is None else self._edge_tensors(edge)
                y = self.network.step(scratch.inputs[frames][:size], lent, at, scratch.part)
                self._finish(y, self._asked([]))

    def _prepare_push(self, size: int, frames: int, edges: list[tuple[int, int]] | None) -> bool:
        """Whether such a step was run in one call. It writes to slots, so all have to be free: who takes one first
        writes its own state there.
        """
        if self.pushes is None or any(self.sides):
            return False
        size = min(size, len(self.sides))
        sides = [Pushed(slot, [self._blank(frames)], False) for slot in range(size)]
        edges = edges and edges[:size]
        return self.pushes.run(sides, frames, self._asked([]), edges) is not None

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
            tensors = {name: tensor for name, tensor in saved.tensors.items() if name not in ("queue", "last")}
            core.load(tensors, whole_core(saved.numbers))
        stream = core.transducer
        side = self._make(slot, owner, stream, bandwidth, saved)
        if saved is not None:
            self._check_place(side)
        self._settle(side)
        self.sides[slot] = side
        self.wake(side)
        return side

    def _settle(self, side: BatchedSide) -> None:
        """Move the stream's state into its slot."""
        slot = self.states.rows(slice(side.slot, side.slot + 1))
        slot.bytes.copy_(side.stream.state.bytes)
        side.stream.state = slot

    def _check_place(self, side: BatchedSide) -> None:
        """Refuse counters that contradict each other: they could keep a session busy without end."""
        network, waiting = self.network, side.queue.rows
        consumed, past_end = network.at.rows(side.stream.progress.frames), side.ended and not waiting
        if side.received >= 1 << 40 or not (
            consumed + waiting == side.received or (past_end and self._steps_done(side))
        ):
            raise StateError("saved session has counters that contradict each other")
        if side.stream.skip > network.out.lag or side.stream.pending.shape[1]:
            raise StateError("saved session has a wrong place in its stream")

    def _steps_done(self, side: BatchedSide) -> bool:
        frames, needed = side.stream.progress.frames, self.network.out.frames(self._total(side))
        return self.network.at.rows(frames) > side.received and frames < max(needed, 1) + self.first_frames

    # -- steps -----------------------------------------------------------------------------------------------------

    def wake(self, side: BatchedSide) -> None:
        """It was given something, and may be ready."""
        self._awake[side.slot] = side

    def any_ready(self) -> bool:
        return any(not side.closed and self.ready(side) for side in self._awake.values())

    def _ready(self) -> list[BatchedSide]:
        """Those that a step would move on, in the order of their slots; the others sleep until they are given more."""
        self._awake = {slot: side for slot, side in self._awake.items() if not side.closed and self.ready(side)}
        return [side for _, side in sorted(self._awake.items())]

    def ready(self, side: BatchedSide) -> bool:
        return not side.done and (side.ended or side.queue.rows >= self._least(side) * self.network.at.rate)

    def _least(self, side: BatchedSide) -> int:
        """The fewest frames that a side's next step can have."""
        return self.frames if side.stream.progress.frames else self.first_frames

    def _total(self, side: BatchedSide) -> int:
        return self.network.output_length(side.received)

    def _is_over(self, side: BatchedSide) -> bool:
        """Whether every row of an ended side is out: only the length is still to be told."""
        total = self._total(side)
        return not total or self.network.out.rows(side.stream.progress.frames) >= total

    def run(self) -> list[Result]:
        ready = self._ready()
        results = [self._tell(side) for side in ready if side.ended and self._is_over(side)]
        for frames, sides in self._by_frames([side for side in ready if not side.done]).items():
            for done in self._run_batches(sides, frames):
                results += self._commit(done)
        return [result for result in results if not result.side.closed]

    def _tell(self, side: BatchedSide) -> Result:
        side.done = True
        with torch.inference_mode(False):
            return Result(side, self._result(side, self._nothing, 0, True))

    @property
    @abstractmethod
    def _nothing(self) -> Tensor:
        """No output, as `_result` takes it."""

    def _by_frames(self, sides: list[BatchedSide]) -> dict[int, list[BatchedSide]]:
        """The sides by the frames that they move on by: as many as wait, but no more than half of the sides have.

        So most of them share one batch, of at most `frames_at_once`. Who has more is served again by the next step, and
        who has half as many before its end takes part with zeros.
        Mirrored starts, which take more frames than ordinary steps, make a batch of their own.
        """
        found: dict[int, list[BatchedSide]] = {}
        starting = [side for side in sides if self._least(side) > self.frames]
        if starting:
            room = None if self.frames_at_once is None else max(1, self.frames_at_once // self.first_frames)
            found[self.first_frames] = starting[:room]
            sides = [side for side in sides if self._least(side) == self.frames]
        if not sides:
            return found
        waiting = [self._waiting(side) for side in sides]
        most = sorted(waiting)[len(sides) // 2]
        if self.frames_at_once is not None:
            most = min(most, self.frames_at_once // len(sides))
        usual = self._allowed(most)
        for side, frames in zip(sides, waiting, strict=True):
            own = self._allowed(min(frames, most))
            # What lies beyond an end is cut: that costs less than a batch of its own, unless it is most of the step.
            found.setdefault(usual if side.ended and usual <= 2 * own else own, []).append(side)
        return found

    def _allowed(self, frames: int) -> int:
        """The longest step of at most so many frames, or the shortest of all."""
        return max((step for step in self.step_frames if step <= frames), default=self.frames)

    def _waiting(self, side: BatchedSide) -> int:
        """Whole frames that a step could take; of an ended side, those that are left."""
        if side.ended:
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
            work = [(part, scratch) for part, scratch in zip(plans, self.scratches, strict=False) if part]
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
                yield self._compute([self._plan(plan.side, plan.frames)], done.scratch)

    def _plan(self, side: BatchedSide, frames: int) -> Plan:
        network, stream = self.network, side.stream
        rows, surplus, last = frames * network.out.rate, 0, False
        if side.ended:
            beyond = network.out.rows(stream.progress.frames + frames) - self._total(side)
            surplus, last = max(0, beyond), beyond >= 0
        start = min(stream.skip, rows)
        return Plan(side, frames, frames * network.at.rate, start, max(start, rows - surplus), last)

    def _compute(self, plans: list[Plan], scratch: Scratch) -> Done:
        """Run a step, the same frames for all, on `scratch`; unless it is a push or a whole one, that changes nothing
        else: any thread may, and it may fail.
        """
        try:
            outputs = self._pushed(plans)
            return self._stepped(plans, scratch) if outputs is None else Done(plans, scratch, outputs)
        except Exception as error:
            return Done(plans, scratch, error=error)

    @torch.inference_mode()
    def _stepped(self, plans: list[Plan], scratch: Scratch) -> Done:
        """A step of any sessions."""
        size = self._rows(len(plans))
        frames, edges = plans[0].frames, self._edges(plans, size)
        if self.steps is not None:
            return Done(plans, scratch, self._handed(self._whole(self.steps, plans, size, edges)))
        slots = [plan.side.slot for plan in plans]
        lent = Lent(self.states, slots + slots[:1] * (size - len(slots)))
        x = self._fill(plans, scratch.rows(size, frames))
        at = None if edges is None else self._edge_tensors(edges)
        y = self.network.step(x, lent, at, scratch.part)
        y = y if size == len(plans) else y[: len(plans)]
        return Done(plans, scratch, self._handed(self._finish(y, self._asked(plans))), lent)

    def _whole(self, steps: WholeSteps, plans: list[Plan], size: int, edges: list[tuple[int, int]] | None) -> Tensor:
        def slots() -> list[int]:
            return [steps.nobody if plan.side.closed else plan.side.slot for plan in plans]

        return steps.run(size, plans[0].frames, self._asked(plans), edges, partial(self._fill, plans), slots)

    def _pushed(self, plans: list[Plan]) -> Sequence[Tensor] | None:
        """The outputs of a step in one call, which is over then; None where nothing was done."""
        if self.pushes is None:
            return None
        sides = [Pushed(plan.side.slot, plan.side.queue.peek(plan.rows), self._int16(plan.side)) for plan in plans]
        return self.pushes.run(sides, plans[0].frames, self._asked(plans), self._edges(plans, len(plans)))

    def _rows(self, sides: int) -> int:
        """Rows of a batch of so many sides: more, of no meaning, where each size of step takes memory of its own."""
        if self.steps is None and self.network.executor.any_batch:
            return sides
        return next(size for size in self.batch_sizes if size >= sides)

    @abstractmethod
    def _fill(self, plans: list[Plan], x: Tensor) -> Tensor:
        """The input of the step, as `x` is, whose first rows it is written to, where it is not elsewhere already. Zeros
        where the queue has too little.
        """

    @abstractmethod
    def _blank(self, frames: int) -> Tensor:
        """So many frames of no meaning, as they wait in a queue."""

    @abstractmethod
    def _int16(self, side: Any) -> bool:
        """Whether what is made of a side may be rounded to int16 as it comes out."""

    @abstractmethod
    def _asked(self, plans: list[Plan]) -> int:
        """What `_finish` has to make for these; for none, the most it may have to."""

    @abstractmethod
    def _finish(self, y: Tensor, asked: int) -> Tensor:
        """What is left to do for the whole batch, row by row; `y`: the network's output."""

    def _edges(self, plans: list[Plan], size: int) -> list[tuple[int, int]] | None:
        """Frames and length of each row. None where no side of the batch may touch an edge of its signal: then the step
        is cheaper.
        """
        if not any(plan.side.ended or plan.side.stream.progress.frames < self.network.warmup_frames for plan in plans):
            return None
        edges = [
            (plan.side.stream.progress.frames, plan.side.received if plan.side.ended else UNKNOWN) for plan in plans
        ]
        return edges + [(0, UNKNOWN)] * (size - len(edges))

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
        size = self._rows(len(plans))
        self.batches += 1
        self.rows += len(plans)
        self.frames_run += len(plans) * plans[0].frames
        self.padding += size - len(plans)
        if not kept:
            return []
        # A side that was closed during the step no longer owns its slot, which may be another's by now.
        if done.lent is not None:
            rows = slice(len(plans)) if len(kept) == len(plans) else kept  # a slice takes no copy
            with torch.inference_mode():
                done.lent.write(rows, [plans[i].side.slot for i in kept])
        return [self._advance(plans[i], done.outputs[i]) for i in kept]

    @abstractmethod
    def _handed(self, output: Tensor) -> Sequence[Tensor]:
        """What `_finish` gave, [B, n, channels or codebooks], as one of [1, channels or codebooks, n] for each row."""

    def _advance(self, plan: Plan, output: Tensor) -> Result:
        side, stream, rows = plan.side, plan.side.stream, plan.stop - plan.start
        side.drop(plan.rows)
        frames, received, emitted = stream.progress
        stream.progress = Progress(frames + plan.frames, received, emitted)
        stream.skip -= plan.start
        side.done = plan.last
        if rows < plan.frames * self.network.out.rate:
            output = output[:, :, plan.start : plan.stop]
        return Result(side, self._result(side, output, rows, plan.last))

    @abstractmethod
    def _result(self, side: Any, output: Tensor, rows: int, last: bool) -> Any:
        """What the session is given for its true output, [1, channels or codebooks, rows]."""


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
