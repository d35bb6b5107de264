"""A program run in C++ on the CPU, in float32: the whole step in one call (see `streamcodec_kernels.native`).

Weights are packed once for an executor. A `Workspace` has what a step of one size takes, and a `Layout` says where that
lies.

Every value of a result is made by one chain of operations, in an order that depends on nothing but the program. So on
one instruction set a stream's output has the same bits in steps of any size, in a batch of any size, beside any others.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from streamcodec_kernels.native import library
from streamcodec_kernels.native.library import InstructionSet
from torch import Tensor

from .errors import DtypeError, ShapeError
from .native_int8 import is_rounded
from .native_layout import FUNCTIONS, Layout
from .native_push import NativePush
from .native_quantizers import RVQLookup, RVQSearch
from .native_support import CPU, floats, instruction_set
from .native_weights import FLOAT, FloatPanels, Packer, is_split, lying_together, terms_of
from .program import (
    Attention,
    Depthwise,
    DepthwiseTransposed,
    Edges,
    GroupedProduct,
    Input,
    LayerNorm,
    LocalAttention,
    LSTMCell,
    Noise,
    Normalise,
    Product,
    Program,
    Reshape,
    Rows,
)
from .state import Lent, State
from .workspaces import Workspaces

__all__ = ["NativeExecutor", "lacks"]

T = TypeVar("T")

# Multiply-adds of a step from which on it is shared among threads: some milliseconds of one.
SHARED_WORK = 100_000_000
# In the place of a stream's number: what a step made of a row is not kept.
NOBODY = -1
# What the library has an operation for, some in parts.
OPERATIONS = (
    *(Input, Product, GroupedProduct, Depthwise, DepthwiseTransposed, LayerNorm, Normalise, LSTMCell, Attention),
    *(LocalAttention, Noise, Reshape),
)


def lacks(program: Program) -> str | None:
    """The first thing in a program that it cannot run, or None."""
    if program.dtype != torch.float32:
        return f"arithmetic in {program.dtype}, only in float32"
    if program.device.type != "cpu":
        return f"way to run on {program.device}, only on a CPU"
    for op in program.ops:
        if isinstance(op, Rows):
            if op.known is None or op.known.name not in FUNCTIONS:
                return f"function {getattr(op.function, '__qualname__', op.function)} of rows"
        elif not isinstance(op, OPERATIONS):
            return type(op).__name__
    kinds = (buffer.activation.kind for buffer in program.buffers if buffer.activation is not None)
    return next((f"activation {kind!r}" for kind in kinds if kind not in library.ACTIVATIONS), None)


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "streamcodec-native")


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # a child has none of its parent's threads


_own = threading.local()


def _own_halves(count: int) -> Tensor:
    """The calling thread's own room for so many values in bfloat16, whatever step it helps with."""
    halves: Tensor | None = getattr(_own, "halves", None)
    if halves is None or len(halves) < count:
        halves = _own.halves = torch.zeros(count, dtype=torch.int16, device=CPU)
    return halves


class NativeExecutor:
    """Runs one program; what pays of its products in `precision` (one of `precisions.PRECISIONS`). Threads may share
    it: each has workspaces of its own.

    A long step is shared among as many threads as torch has (`torch.set_num_threads`); its bits are the same.

    Raises BackendError.
    """

    any_batch = pushes = True

    def __init__(self, program: Program, precision: str = "float32"):
        self.program, self.instruction_set = program, instruction_set()
        int8 = precision == "int8"
        with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
            packer = Packer(self.instruction_set)
            each = list(zip(program.ops, program.values, strict=True))
            rounds = {i for i, (op, value) in enumerate(each) if int8 and is_rounded(op, value)}
            terms = [terms_of(op, value, precision) for op, value in each]
            packed = [
                packer.split(op) if is_split(op, value, terms[i])
                else packer.low(op, terms[i]) if terms[i] and isinstance(op, Product)
                else packer.weights(op, i in rounds)
                for i, (op, value) in enumerate(each)
            ]  # fmt: skip
            weights = lying_together(packed)
            snakes = [packer.snake(program, index) for index in range(len(program.buffers))]
        self.weights = weights  # of each part of each operation
        exact = (i for i, of in enumerate(packed) if "int8_weights" in of[0] and i not in rounds)
        self.floats = FloatPanels(packer, {i: op.matrix for i in exact if isinstance(op := program.ops[i], Product)})
        here = self.instruction_set
        layout = partial(Layout, program, here, weights, self.floats, snakes, terms)
        self._workspaces = Workspaces(lambda *size: Workspace(layout(*size), here))

    def workspace(self, batch: int, frames: int, part: int = 0) -> "Workspace":
        """Memory for steps of at least `batch` streams by `frames` frames; the calling thread's own, another for each
        `part`.

        Steps of fewer streams use a part of it, so there are few sizes: the powers of two.
        """
        return self._workspaces.get(1 << max(0, batch - 1).bit_length(), frames, part)

    def push(
        self, batch: int, frames: int, state: State, quantize: Callable[[Tensor], Tensor], stages: int
    ) -> NativePush | None:
        """As `executors.Executor` has it: where the library quantizes too, and for mono."""
        if not isinstance(quantize, (RVQSearch, RVQLookup)):
            return None
        if quantize.instruction_set != self.instruction_set:  # its tables lie otherwise
            return None
        return self.workspace(batch, frames).push(state, quantize, stages)

    def step(self, work: "Workspace", x: Tensor, state: State | Lent, edges: Edges | None = None) -> Tensor:
        """Whole frames of rows [B, frames * rate, C] to rows of output, in memory of their own; moves `state` on.

        Pass `edges` unless no row of the batch touches an edge of its signal. Raises ShapeError or DtypeError.
        """
        work.check(x, state, edges)
        return work.run(x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous(), state, edges)


class Workspace:
    """A step of up to `batch` streams, laid out. memory: that of each buffer, [B, history + new, C]; nbytes: of all it
    holds.
    """

    def __init__(self, layout: Layout, instruction_set: InstructionSet):
        program, batch, frames = layout.program, layout.batch, layout.frames
        self.program, self.batch, self._set = program, batch, instruction_set
        self._layout, self._plan = layout, layout.plan
        self._halves = layout.scratch.take(2 * max(1, layout.halves)).view(torch.int16)
        self.memory, self.nbytes = layout.memory, layout.nbytes + self._halves.nbytes
        self._each, self._lent = ((ctypes.c_int64 * batch)(*range(batch)) for _ in range(2))
        self._work = program.multiply_adds * frames  # of a stream
        self._call = library.Call(turn=library.OVER, halves=self._halves.data_ptr())
        out = program.buffers[program.out]
        self._input = (frames * program.at.rate, program.values[0].channels)
        self._output = (frames * out.at.rate, out.channels)
        # For pushes: what goes into a step, and what comes out.
        self._given, self._made = (self._room(*size) for size in (self._input, self._output))

    def _room(self, rows: int, channels: int) -> Tensor:
        """[B * rows, channels] in the memory that steps share."""
        memory = self._layout.scratch.take(FLOAT * self.batch * rows * channels)
        return memory.view(torch.float32).view(-1, channels)

    def check(self, x: Tensor, state: State | Lent, edges: Edges | None) -> None:
        """The library writes to memory: whatever it is given has to be of this size."""
        batch = x.shape[0]
        if x.shape[1:] != self._input or batch > self.batch:
            allowed = f"[{self.batch} or fewer, {self._input[0]}, {self._input[1]}]"
            raise ShapeError(f"the input of this step is {list(x.shape)}; it must be {allowed}")
        if x.dtype != torch.float32 or not x.is_cpu:
            raise DtypeError(f"the input of this step is {x.dtype} on {x.device}; it must be float32 on a CPU")
        if isinstance(state, Lent):
            self._check_state(batch, len(state.streams), state.state)
            first, last, there = min(state.streams), max(state.streams), state.state.batch
            if first < 0 or last >= there:
                raise ShapeError(f"streams {first} to {last} are lent; the state has {there}")
        else:
            self._check_state(batch, state.batch, state)
        for name, numbers in edges._asdict().items() if edges is not None else ():
            if numbers.dtype != torch.int64 or numbers.shape != (batch,) or not numbers.is_contiguous():
                raise ShapeError(f"{name} is {numbers.dtype} {list(numbers.shape)}; it must be int64 [{batch}]")

    def _check_state(self, batch: int, streams: int, state: State) -> None:
        """streams: of the state, on which a step of `batch` runs."""
        spec = self.program.state
        if streams != batch or (state.spec is not spec and state.spec != spec):
            raise ShapeError(f"the state is that of {streams} streams or of another network; here are {batch}")
        if not state.bytes.is_cpu:
            raise DtypeError(f"the state of this step is on {state.bytes.device}; it must be on a CPU")

    def push(self, state: State, quantize: RVQSearch | RVQLookup, stages: int) -> NativePush | None:
        """What pushes the frames of this step for streams of `state`; None where these are not mono, or where other
        latents are quantized.
        """
        encodes = isinstance(quantize, RVQSearch)
        samples, latents = (self._input, self._output) if encodes else (self._output, self._input)
        self._check_state(state.batch, state.batch, state)
        if samples[1] != 1 or latents[1] != quantize.dimension:
            return None
        call = library.Call(turn=library.OVER, halves=self._halves.data_ptr())
        rooms = (self._given, self._made) if encodes else (self._made, self._given)
        return NativePush(partial(self._pushing, call), call, state, samples[0], *rooms, quantize, stages)

    def _pushing(self, call: library.Call, push: library.Push) -> Callable[[], int]:
        """What runs a push."""
        run = partial(self._set.push, ctypes.byref(self._plan), ctypes.byref(call), ctypes.byref(push))
        return partial(self.shared, call, run) if self.batch * self._work >= SHARED_WORK else run

    def run(self, x: Tensor, state: State | Lent, edges: Edges | None) -> Tensor:
        """The step; everything is of the right size."""
        batch = x.shape[0]
        out, call = floats(batch, *self._output), self._call
        call.batch, call.x, call.x_stream, call.x_row = batch, x.data_ptr(), x.stride(0), x.stride(1)
        if isinstance(state, Lent):
            self._lent[:batch] = [*map(int, state.streams)]
            memory, call.places, call.keeps = state.state.bytes, ctypes.addressof(self._lent), False
            state.wait(partial(self._keep, state.state))
        else:
            memory, call.places, call.keeps = state.bytes, ctypes.addressof(self._each), True
        call.state, call.state_stream = memory.data_ptr(), memory.stride(0)
        if edges is None:
            call.position = call.length = None
        else:
            call.position, call.length = edges.position.data_ptr(), edges.length.data_ptr()
        call.out = out.data_ptr()
        self.shared(call, partial(self._set.step, ctypes.byref(self._plan), ctypes.byref(call)))
        return out

    def _keep(self, state: State, rows: Sequence[int] | slice, streams: Sequence[int] | Tensor) -> None:
        """Write what the last step made of some of its rows to as many streams of `state`, which it was lent."""
        batch = self._call.batch
        self._lent[:batch] = [NOBODY] * batch
        for row, stream in zip(range(batch)[rows] if isinstance(rows, slice) else rows, streams, strict=True):
            self._lent[row] = int(stream)
        self._set.keep(ctypes.byref(self._plan), ctypes.byref(self._call))

    def profile(self, run: Callable[[], object]) -> list[float]:
        """Call `run`, which makes steps here; returns which part of them each operation of the program took, and what
        was copied, last.
        """
        spent = (ctypes.c_int64 * (len(self._layout.of) + 1))()
        self._call.spent = ctypes.addressof(spent)
        try:
            run()
        finally:
            self._call.spent = None
        parts = [0.0] * (len(self.program.ops) + 1)
        for op, ticks in zip([*self._layout.of, -1], spent, strict=True):
            parts[op] += ticks / max(1, sum(spent))
        return parts

    def shared(self, call: library.Call, run: Callable[[], T]) -> T:
        """What `run` returns, which makes the step of this call. If that is long, other threads help, if they can come.
        They hold on to the workspace.
        """
        threads = torch.get_num_threads() if call.batch * self._work >= SHARED_WORK else 1
        if threads == 1:
            return run()
        call.shared, call.turn = True, library.WAITING
        try:
            for _ in range(threads - 1):
                _helpers().submit(self._help, call)
            return run()
        finally:
            call.shared, call.turn = False, library.OVER

    def _help(self, call: library.Call) -> int:
        return self._set.help(ctypes.byref(self._plan), ctypes.byref(call), _own_halves(len(self._halves)).data_ptr())
