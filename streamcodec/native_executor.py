"""A program run in C++ on the CPU, in float32: the whole step in one call (see `streamcodec_kernels.native`).

Weights are packed once for an executor. A `Workspace` has the memory of a step of one size, and the plan that says
where everything lies, in the structures of the library's source/plan.h.

Every value of a result is made by one chain of operations, in an order that depends on nothing but the program. So on
one instruction set a stream's output has the same bits in steps of any size, in a batch of any size, beside any others.
"""

import ctypes
import shlex
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from streamcodec_kernels.native import library
from streamcodec_kernels.native.compiler import CannotCompileError, compiler, library_file
from streamcodec_kernels.native.library import InstructionSet
from streamcodec_kernels.native.memory import together
from torch import Tensor

from .errors import BackendError, DtypeError, ShapeError
from .program import (
    Buffer,
    Depthwise,
    Edges,
    Input,
    LSTMCell,
    Normalise,
    Op,
    Product,
    Program,
    Rows,
    Window,
)
from .state import State
from .workspaces import Workspaces

__all__ = ["NativeExecutor", "about", "instruction_set", "lacks"]

FLOAT = 4  # bytes
# Floats after the rows of a buffer: the last row too is read in whole vectors.
SPARE = 16
FUNCTIONS = {"identity": "copy", "band_features": "band_features", "band_gains": "band_gains"}

Weights = dict[str, Tensor]


def instruction_set() -> InstructionSet:
    """What it runs on. Raises BackendError where there is no library, and none can be made."""
    try:
        return library.chosen()
    except CannotCompileError as error:
        raise BackendError(f"the native executor cannot run here: {error}. Use backend='auto' or 'torch'") from error


def about() -> str:
    """What it runs on here, or why it does not, in a few words. Compiles nothing."""
    if library_file().exists():
        try:
            return f"{instruction_set().name} (of {', '.join(library.instruction_sets())})"
        except BackendError as error:
            return str(error)
    command = compiler()
    if command is None:
        return "not here: no C++ compiler (for one: pip install ziglang)"
    return f"not compiled yet; backend 'native' does that, by {shlex.join(command)}"


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
        elif not isinstance(op, (Input, Product, Depthwise, Normalise, LSTMCell)):
            return type(op).__name__
    kinds = (buffer.activation.kind for buffer in program.buffers if buffer.activation is not None)
    return next((f"activation {kind!r}" for kind in kinds if kind not in library.ACTIVATIONS), None)


class NativeExecutor:
    """Runs one program. Threads may share it: each has workspaces of its own. Raises BackendError."""

    def __init__(self, program: Program):
        self.program, self.instruction_set = program, instruction_set()
        with torch.inference_mode(False), torch.no_grad():
            packer = _Packer(self.instruction_set)
            weights = _together([packer.weights(op) for op in program.ops])
            snakes = [packer.snake(program, index) for index in range(len(program.buffers))]
        self._workspaces = Workspaces(partial(Workspace, program, self.instruction_set, weights, snakes))

    def workspace(self, batch: int, frames: int) -> "Workspace":
        """Memory for steps of `batch` streams by `frames` frames; the calling thread's own."""
        return self._workspaces.get(batch, frames)

    def step(self, work: "Workspace", x: Tensor, state: State, edges: Edges | None = None) -> Tensor:
        """Whole frames of rows [B, frames * rate, C] to rows of output, in memory of their own; moves `state` on.

        Pass `edges` unless no row of the batch touches an edge of its signal. Raises ShapeError or DtypeError.
        """
        work.check(x, state, edges)
        return work.run(x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous(), state, edges)


def _together(weights: Sequence[Weights]) -> list[Weights]:
    """The same, in one stretch of memory."""
    tensors = iter(together([tensor for of in weights for tensor in of.values()]))
    return [{name: next(tensors) for name in of} for of in weights]


class _Packer:
    """Weights as the library reads them."""

    def __init__(self, instruction_set: InstructionSet):
        self.lanes, self.panel = instruction_set.lanes, instruction_set.lanes * instruction_set.panel

    def weights(self, op: Op) -> Weights:
        """What an operation multiplies by, by the names of the library's `Operation`."""
        if isinstance(op, Product):
            return self._product(op.matrix, op.bias)
        if isinstance(op, Depthwise):
            return {"weights": self._filled(op.weight)} | self._bias(op.bias)
        if isinstance(op, Normalise):
            return {"weights": self._filled(op.weight)}
        if isinstance(op, LSTMCell):
            w_ih, w_hh, b_ih, b_hh = op.weights
            return self._product(w_ih.t(), b_ih + b_hh) | {"recurrent": self._panels(w_hh.t())}
        return {}

    def snake(self, program: Program, index: int) -> Weights:
        """Its factors, as often as the columns of a window's result repeat the channels."""
        buffer, op = program.buffers[index], program.ops[program.source(index)]
        if buffer.activation is None or buffer.activation.alpha is None or buffer.activation.gain is None:
            return {}
        times = op.spread if isinstance(op, Product) else 1
        factors = {"alpha": buffer.activation.alpha, "inverse": buffer.activation.gain}
        return {name: self._filled(factor.repeat(times)) for name, factor in factors.items()}

    def _product(self, matrix: Tensor, bias: Tensor | None) -> Weights:
        packed = matrix.flatten().contiguous() if matrix.shape[1] == 1 else self._panels(matrix)
        return {"weights": packed} | self._bias(bias)

    def _bias(self, bias: Tensor | None) -> Weights:
        return {} if bias is None else {"bias": self._filled(bias)}

    def _filled(self, rows: Tensor) -> Tensor:
        """Rows [..., C], each filled up with zeros to whole vectors."""
        return F.pad(rows, (0, -rows.shape[-1] % self.lanes)).contiguous()

    def _panels(self, matrix: Tensor) -> Tensor:
        """[K, N] as panels of columns; a panel holds its rows one after the other. The last has fewer vectors."""
        whole = matrix.shape[1] // self.panel * self.panel
        panels = matrix[:, :whole].reshape(matrix.shape[0], -1, self.panel).transpose(0, 1)
        return torch.cat([panels.flatten(), self._filled(matrix[:, whole:]).flatten()])


class Workspace:
    """A step of one size, laid out. memory: that of each buffer, [B, history + new, C]; nbytes: of all it holds."""

    def __init__(
        self,
        program: Program,
        instruction_set: InstructionSet,
        weights: Sequence[Weights],
        snakes: Sequence[Weights],
        batch: int,
        frames: int,
    ):
        self.program, self.batch, self.frames, self._set = program, batch, frames, instruction_set
        self._snakes, self.nbytes = snakes, 0
        self._kept: list[Any] = [weights]  # all that the plan points to
        self.memory = [self._room(b.history + frames * b.at.rate, b.channels) for b in program.buffers]
        self._holds: dict[str, Tensor] = {}
        operations = [self._operation(i, of) for i, of in enumerate(weights)]
        self._call = library.Call()
        self._plan = self._planned(operations)
        out = program.buffers[program.out]
        self._input = (batch, frames * program.at.rate, program.values[0].channels)
        self._output = (batch, frames * out.at.rate, out.channels)

    # -- running -----------------------------------------------------------------------------------------------------

    def check(self, x: Tensor, state: State, edges: Edges | None) -> None:
        """The library writes to memory: whatever it is given has to be of this size."""
        if tuple(x.shape) != self._input:
            raise ShapeError(f"the input of this step is {list(x.shape)}; it must be {list(self._input)}")
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise DtypeError(f"the input of this step is {x.dtype} on {x.device}; it must be float32 on a CPU")
        if state.batch != self.batch or (state.spec is not self.program.state and state.spec != self.program.state):
            raise ShapeError(f"the state is that of {state.batch} streams or of another network; here are {self.batch}")
        if state.bytes.device.type != "cpu":
            raise DtypeError(f"the state of this step is on {state.bytes.device}; it must be on a CPU")
        for name, numbers in edges._asdict().items() if edges is not None else ():
            if numbers.dtype != torch.int64 or numbers.shape != (self.batch,) or not numbers.is_contiguous():
                raise ShapeError(f"{name} is {numbers.dtype} {list(numbers.shape)}; it must be int64 [{self.batch}]")

    def run(self, x: Tensor, state: State, edges: Edges | None) -> Tensor:
        """The step; everything is of the right size."""
        out, call = torch.empty(self._output), self._call
        call.x, call.x_stream, call.x_row = x.data_ptr(), x.stride(0), x.stride(1)
        call.state, call.state_stream = state.bytes.data_ptr(), state.bytes.stride(0)
        if edges is None:
            call.position = call.length = None
        else:
            call.position, call.length = edges.position.data_ptr(), edges.length.data_ptr()
        call.out = out.data_ptr()
        self._set.step(ctypes.byref(self._plan), ctypes.byref(call))
        return out

    # -- laying out --------------------------------------------------------------------------------------------------

    def _room(self, *shape: int) -> Tensor:
        """[B, *shape]; a step writes to all of it before it reads."""
        count = self.batch
        for size in shape:
            count *= size
        memory = torch.empty(count + SPARE)
        self._kept.append(memory)
        self.nbytes += memory.nbytes
        return memory[:count].view(self.batch, *shape)

    def _array(self, kind: Any, items: Sequence[Any]) -> Any:
        """The address of an array of the library's structures."""
        array = (kind * len(items))(*items)
        self._kept.append(array)
        return ctypes.addressof(array)

    def _planned(self, operations: Sequence[Any]) -> Any:
        buffers = [self._buffer(i, b) for i, b in enumerate(self.program.buffers)]
        lengths, leaves = [library.Length(*length) for length in self.program.lengths], list(self._leaves())
        signal = torch.empty(self.batch * len(lengths), dtype=torch.int64)
        self._kept.append(signal)
        return library.Plan(
            self.batch,
            self._array(library.Operation, operations), len(operations),
            self._array(library.Buffer, buffers), len(buffers),
            self._array(library.Leaf, leaves), len(leaves),
            self._array(library.Length, lengths), signal.data_ptr(), len(lengths),
            self.program.out,
        )  # fmt: skip

    def _buffer(self, index: int, buffer: Buffer) -> Any:
        memory, padding = self.memory[index], buffer.padding
        return library.Buffer(
            memory.data_ptr(), memory.shape[1], buffer.history, buffer.channels, memory.stride(0),
            buffer.at.rate, buffer.at.lag, buffer.length,
            library.PADDINGS[padding.mode], padding.left, padding.right, padding.extend, buffer.stride,
        )  # fmt: skip

    def _leaves(self) -> Iterable[Any]:
        """Where each leaf of the state is copied to, and from."""
        places = {name: (held, held) for name, held in self._holds.items()}
        for buffer, memory in zip(self.program.buffers, self.memory, strict=True):
            if buffer.history:
                places[buffer.leaf] = memory, memory[:, memory.shape[1] - buffer.history :]
        offsets = State(self.program.state, 1)
        for name, leaf in offsets.leaves.items():
            before, after = places[name]
            offset = leaf.data_ptr() - offsets.bytes.data_ptr()
            yield library.Leaf(before.data_ptr(), after.data_ptr(), before.stride(0), leaf.numel(), offset)

    def _operation(self, index: int, weights: Weights) -> Any:
        op, value = self.program.ops[index], self.program.values[index]
        spread = op.spread if isinstance(op, Product) else 1
        rows, columns = self.frames * value.at.rate // spread, spread * value.channels
        made = library.Operation(rows=rows, columns=columns)
        segments = [segment for window in op.windows for segment in self._segments(op, window)]
        made.segments, made.segment_count = self._array(library.Segment, segments), len(segments)
        targets = [self._target(buffer, columns) for buffer in op.into]
        made.targets, made.target_count = self._array(library.Target, targets), len(targets)
        if op.add is not None:
            added = self.memory[op.add]
            made.add, made.add_row, made.add_stream = added.data_ptr(), columns, added.stride(0)
        for name, tensor in weights.items():
            setattr(made, name, tensor.data_ptr())
        made.kind = library.KINDS[self._own(op, made)]
        return made

    def _segments(self, op: Op, window: Window) -> Iterable[Any]:
        """A window as stretches of memory: one, or where its rows lie apart, one a row."""
        memory = self.memory[window.buffer]
        channels, stream = memory.shape[2], memory.stride(0)
        together = window.dilation == 1 or isinstance(op, Depthwise)
        for tap in range(1 if together else window.taps):
            first = memory.data_ptr() + FLOAT * channels * (window.first + tap * window.dilation)
            width = channels * (window.taps if together else 1)
            yield library.Segment(first, window.stride * channels, stream, width)

    def _target(self, index: int, columns: int) -> Any:
        buffer, memory = self.program.buffers[index], self.memory[index]
        made = library.Target(memory[:, buffer.history :].data_ptr(), columns, memory.stride(0), index)
        made.activation = library.ACTIVATIONS[None if buffer.activation is None else buffer.activation.kind]
        for name, tensor in self._snakes[index].items():
            setattr(made, name, tensor.data_ptr())
        return made

    def _own(self, op: Op, made: Any) -> str:
        """Write what an operation alone has to `made`; returns what kind it is."""
        if isinstance(op, Product):
            return "dot" if made.columns == 1 else "product"
        if isinstance(op, Depthwise):
            made.taps, made.tap = op.window.taps, op.window.dilation * made.columns
            return "depthwise"
        if isinstance(op, Normalise):
            made.numbers[0] = op.epsilon
            return "normalise"
        if isinstance(op, LSTMCell):
            self._own_lstm(op, made)
            return "lstm"
        if isinstance(op, Rows):
            return self._own_rows(op, made)
        return "copy"

    def _own_lstm(self, op: LSTMCell, made: Any) -> None:
        width, at = made.columns, self.program.buffers[op.buffer].at
        self._holds |= {op.hidden: self._room(width), op.cell: self._room(width)}
        made.hidden, made.cell = self._holds[op.hidden].data_ptr(), self._holds[op.cell].data_ptr()
        made.gates = self._room(made.rows, 4 * width).data_ptr()
        made.lag, made.rate = at.lag, at.rate

    def _own_rows(self, op: Rows, made: Any) -> str:
        assert op.known is not None
        if op.known.bands:
            made.bands = self._array(ctypes.c_int64, op.known.bands)
            made.band_count = len(op.known.bands) - 1
            made.row = self._room(made.columns).data_ptr()
        for i, number in enumerate(op.known.numbers):
            made.numbers[i] = number
        return FUNCTIONS[op.known.name]
