"""A network fed any number of rows at a time.

A network's `step` takes whole frames. A `Transducer` takes what comes, keeps the rows that do not fill a frame, runs
the steps, and gives back only rows of the true output, in order, none twice: concatenated they are the network's
`forward` of everything that was pushed.
"""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from .. import ops, stamps
from ..executors import Executor, Push
from ..program import Edges, Program, Schedule
from ..state import Lent, Spec, State
from .layer import Layer

__all__ = ["UNKNOWN", "Network", "Progress", "Transducer", "Whole"]

# A length that no signal reaches (186 years at 48 kHz): the end is not known yet. A decoder multiplies it by its hop
# length, below 2**14, so it stays clear of the end of int64.
UNKNOWN = 1 << 48


class Network:
    """A layer at the head of a stream: its program, and the executor that runs it.

    rate: input rows per frame; look_ahead: input rows beyond its own frame on which an output frame depends, None for
    what the layer itself says. The input is made to trail by the part of a frame that the look-ahead leaves over, so
    that an output is never later than it must be. backend: as for `ops.executor`.

    at, out: where input and output stand; prefill_frames: what the first step must have; warmup_frames: during which a
    step may touch the start of the signal.
    """

    def __init__(
        self,
        layer: Layer,
        channels: int,
        out_channels: int,
        rate: int,
        look_ahead: int | None = None,
        backend: str = "auto",
    ):
        self.layer, self.channels, self.out_channels, self.backend = layer, channels, out_channels, backend
        self.precision = "float32"
        self._stamp: stamps.Stamp | None = None
        self._executor: Executor | None = None
        self.at = Schedule(rate, 0)
        if look_ahead is None:
            look_ahead = max(0, self.program.last_input(0) + 1 - rate)
        self.look_ahead = look_ahead
        if look_ahead % rate:
            self.at, self._stamp = Schedule(rate, -look_ahead % rate), None
        program = self.program
        self.out = program.buffers[program.out].at
        self._lengths = program.output_lengths
        self.prefill_frames, self.warmup_frames = program.prefill_frames, program.warmup_frames

    def _lowered(self) -> Program:
        weights = chain(self.layer.parameters(), self.layer.buffers())
        like = next((weight for weight in weights if weight.is_floating_point()), torch.zeros(0))
        program = Program(self.channels, self.at, like)
        program.finish(self.layer.lower(program, program.values[0], ""))
        return program

    def refresh(self) -> None:
        """Notice weights that changed. Called when a stream opens: looking at every step would cost too much."""
        stamp = stamps.stamp(stamps.weights(stamps.modules(self.layer), buffers=False))
        if stamp != self._stamp:
            self._program, self._executor, self._stamp = self._lowered(), None, stamp

    def use(self, backend: str, precision: str = "float32") -> None:
        """Run on another backend from now on, in that precision (`precisions.PRECISIONS`).

        Raises BackendError where that cannot run the network, ConfigError for a precision that there is not.
        """
        ops.runner(self.program, backend)
        ops.check_precision(backend, precision)
        self.backend, self.precision, self._executor = backend, precision, None

    @property
    def served_by(self) -> str:
        """The name of what runs the steps, and in which precision where that is not float32."""
        name = ops.runner(self.program, self.backend)
        return name if self.precision == "float32" else f"{name} in {self.precision}"

    @property
    def program(self) -> Program:
        """The step, with the weights as they were when `refresh` was called last."""
        if self._stamp is None:
            self.refresh()
        return self._program

    @property
    def executor(self) -> Executor:
        """What runs it, made for the first step: it packs the weights."""
        if self._executor is None:
            self._executor = ops.executor(self.program, self.backend, self.precision)
        return self._executor

    def runs_on(self, executor: Executor) -> bool:
        """Whether that is still what runs it."""
        return self._executor is executor

    @property
    def spec(self) -> Spec:
        """The state of one stream."""
        return self.program.state

    def step(self, x: Tensor, state: State | Lent, edges: Edges | None = None, part: int = 0) -> Tensor:
        """Whole frames of rows [B, frames * rate, C] to rows of output; moves `state` on, in place, or once it is
        written where it is lent.

        Pass `edges` unless no row of the batch touches an edge of its signal. The first step of a stream needs
        `prefill_frames`. part: as for `Executor.workspace`.
        """
        executor = self.executor
        return executor.step(executor.workspace(x.shape[0], x.shape[1] // self.at.rate, part), x, state, edges)

    def output_length(self, length: int) -> int:
        """Rows of output for a signal of `length` rows."""
        for step in self._lengths:
            length = step.of(length)
        return length

    @property
    def delay(self) -> int:
        """Output rows by which the stream trails its input once the rows of a whole frame are in."""
        return self.out.lag

    def __getstate__(self) -> dict[str, object]:
        """Without what is made of the weights: packed memory is opaque, and a copy's weights are its own."""
        kept = {name: value for name, value in self.__dict__.items() if name != "_program"}
        return kept | {"_stamp": None, "_executor": None}


class Progress(NamedTuple):
    """Where a stream stands. frames: frames run; received: rows of signal pushed; emitted: rows of true output made."""

    frames: int = 0
    received: int = 0
    emitted: int = 0

    def after(self, frames: int, rows: int, made: int) -> "Progress":
        """Where it stands after so many more of each."""
        # Without the function in Python that a named tuple is made by.
        return tuple.__new__(Progress, (self[0] + frames, self[1] + rows, self[2] + made))


class Whole:
    """Pushes of whole frames through a `Transducer` far from the edges, by `push`, which quantizes too.

    rows: of signal that a push takes, or latents; frames: which these are; made: rows of output; codes: as `Push`.
    """

    def __init__(self, stream: "Transducer", push: Push, frames: int):
        self._stream, self._push, self.frames, self.codes = stream, push, frames, push.codes
        network = stream.network
        self.rows, self.made = frames * network.at.rate, frames * network.out.rate
        self._found = network.executor, stream.state, stream.pending

    def __call__(self, given: int, made: int, row: int = 1, width: int = 1, column: int = 1) -> bool:
        """Push what lies at `given`, as `Push`; False where nothing was done, and the stream is as it was.

        So it is where weights were replaced since, or something else was pushed that left a part of a frame.
        """
        stream, (executor, state, pending) = self._stream, self._found
        if not (stream.network._executor is executor and stream.state is state and stream.pending is pending):
            return False
        if not self._push((given, 0, self.rows, row, width, column), (made, False), (0,)):
            return False
        stream.progress = stream.progress.after(self.frames, self.rows, self.made)
        return True


class Transducer:
    """One stream (or a batch of streams that advance together) through a `Network`."""

    def __init__(self, network: Network, batch: int, device: torch.device, dtype: torch.dtype, max_frames: int = 75):
        self.network, self.max_frames = network, max_frames
        network.refresh()
        self.progress = Progress()
        self.skip = network.out.lag
        self.state = State(network.spec, batch, device)
        self.pending = torch.zeros(batch, network.at.lag, network.channels, device=device, dtype=dtype)

    def fork_primed(self, batch: int) -> "Transducer":
        """A stream of `batch` rows that goes on from this one (batch 1), which must have run its prefill and no more.

        Its output begins with the first frame after what this one was given.
        """
        other = Transducer(self.network, batch, self.pending.device, self.pending.dtype, self.max_frames)
        other.state = self.state.expand(batch)
        other.pending = self.pending.expand(batch, -1, -1).clone()
        other.progress = self.progress
        return other

    @property
    def frames_needed(self) -> int:
        """The fewest frames that the next step takes."""
        return 1 if self.progress.frames else max(1, self.network.prefill_frames)

    def push(self, x: Tensor) -> Tensor:
        """Rows of signal, [B, n, C], any n; returns the rows of true output that are now final, [B, m, C'].

        They are in memory of their own. Where gradients are recorded, x must need none. A push that fails leaves the
        stream as it was.
        """
        (done, received, emitted), rate = self.progress, self.network.at.rate
        received += x.shape[1]
        held = self.pending.shape[1]
        if held:
            x = torch.cat([self.pending, x], 1)
        steps, ready = list[int](), x.shape[1] // rate
        while ready >= (needed := 1 if steps else self.frames_needed):
            steps.append(max(needed, min(ready, self.max_frames)))
            ready -= steps[-1]
        frames = sum(steps)
        taken = frames * rate
        # Hold neither the caller's memory nor a whole push for the sake of its last rows.
        pending = x[:, taken:].clone() if held or taken < x.shape[1] else self.pending
        y = self._run(x, steps, UNKNOWN)
        self.pending, self.skip = pending, max(0, self.skip - frames * self.network.out.rate)
        self.progress = Progress(done + frames, received, emitted + y.shape[1])
        return y

    def takes_whole(self, rows: int) -> bool:
        """Whether the executor may have a `push` of `rows` rows: one step of whole frames of a single stream, far from
        the edges.
        """
        network, done = self.network, self.progress.frames
        if not network.executor.pushes:
            return False
        frames, rest = divmod(rows, network.at.rate)
        far = done >= network.warmup_frames and not self.skip and self.pending.shape[:2] == (1, 0)
        return far and not rest and self.frames_needed <= frames <= self.max_frames

    def whole(self, rows: int, quantize: Callable[[Tensor], Tensor], stages: int) -> Whole | None:
        """Such pushes (`takes_whole`) from here on, with what is bound (`ops.Bound.run`); None where it has none."""
        frames = rows // self.network.at.rate
        push = self.network.executor.push(1, frames, self.state, quantize, stages)
        return None if push is None else Whole(self, push, frames)

    def _run(self, x: Tensor, steps: list[int], length: int, surplus: int = 0) -> Tensor:
        """Steps of so many frames of the rows of `x`; returns their true rows, without the last `surplus`."""
        if not steps:
            return x.new_zeros(x.shape[0], 0, self.network.out_channels)
        # A single step changes the state as its last act.
        before = self.state.clone() if len(steps) > 1 or self.skip or surplus else None
        try:
            done, first, outputs = self.progress.frames, 0, list[Tensor]()
            for frames in steps:
                outputs.append(self._step(x, first, frames, done, length))
                done, first = done + frames, first + frames * self.network.at.rate
            y = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
            if self.skip or surplus:
                y = y[:, min(self.skip, y.shape[1]) : max(0, y.shape[1] - surplus)].clone()
            return y
        except BaseException:
            if before is not None:
                self.state.bytes.copy_(before.bytes)
            raise

    def _step(self, x: Tensor, first: int, frames: int, done: int, length: int) -> Tensor:
        """A step of the rows from `first` on, and of zeros where they do not suffice."""
        network = self.network
        rows, edges = frames * network.at.rate, None
        if first or x.shape[1] != rows:
            x = x[:, first : first + rows]
            if x.shape[1] < rows:
                x = torch.nn.functional.pad(x, (0, 0, 0, rows - x.shape[1]))
        if done < network.warmup_frames or length != UNKNOWN:
            position = torch.full((x.shape[0],), done, device=x.device)
            edges = Edges(position, torch.full((x.shape[0],), length, device=x.device))
        return network.step(x, self.state, edges)

    def flush(self) -> Tensor:
        """The end of the signal; returns all the output that is left. One that fails leaves the stream as it was.

        Steps are fed zeros until the last row of output is through; the edges keep the zeros out of the signal.
        """
        network, (done, received, emitted) = self.network, self.progress
        total, steps = network.output_length(received), list[int]()
        left = network.out.frames(total) - done if total else 0
        while left > 0:
            # All that is left at once: a step of many frames costs far less than as many steps.
            steps.append(max(1 if steps else self.frames_needed, min(left, self.max_frames)))
            left -= steps[-1]
        frames = sum(steps)
        surplus = network.out.rows(done + frames) - total if steps else 0
        y = self._run(self.pending, steps, received, surplus)
        self.pending = self.pending[:, frames * network.at.rate :]
        self.skip = max(0, self.skip - frames * network.out.rate)
        self.progress = Progress(done + frames, received, emitted + y.shape[1])
        return y
