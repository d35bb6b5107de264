"""Where everything of a native step lies: its memory, and the plan that says so in the structures of the library's
source/plan.h.
"""

import ctypes
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from streamcodec_kernels.native import library
from streamcodec_kernels.native.library import InstructionSet
from streamcodec_kernels.native.memory import Scratch
from torch import Tensor

from .native_int8 import DEPTH
from .native_lapped import divided, room
from .native_memory import lives, placed
from .native_support import floats
from .native_weights import FLOAT, WIDE, FloatPanels, Weights
from .program import (
    Attention,
    Buffer,
    Depthwise,
    DepthwiseTransposed,
    GroupedProduct,
    LappedProduct,
    LayerNorm,
    LocalAttention,
    LSTMCell,
    Noise,
    Normalise,
    Op,
    Product,
    Program,
    Rows,
    Window,
)
from .state import State
from .vector_math import angles

__all__ = ["FUNCTIONS", "Layout"]

# Bytes beside the buffers: for the other things that a step needs while it runs.
BESIDE = 1 << 20
# Floats after the rows of a buffer: the last row too is read in whole vectors.
SPARE = 16
# The most stretches of memory that a window in bfloat16 may lie in.
STRETCHES = 64
# Bytes of windows in bfloat16 that are made at once; and weights, and columns, up to which it is few rows at a time,
# whose results are written side by side: the weights are used again while a cache holds them.
HALVES_BYTES, HELD, SIDE_BY_SIDE = 1 << 20, 1 << 18, 12 * WIDE
# Rows of a panel in floats that are split at once where several blocks of rows share them.
SPLIT_ROWS = 512
# Bytes of a value in whole numbers: one a digit.
DIGITS = 4
FUNCTIONS = {"identity": "copy"} | {name: name for name in ("band_features", "band_gains", "gated_silu")}


class Part(NamedTuple):
    """What the library runs at once of an operation: `columns` of its result from `column` on, made of `channels` of
    each row of a window from `channel` on.
    """

    column: int
    columns: int
    channel: int
    channels: int


def _parts(op: Op, channels: int, outputs: int) -> list[Part]:
    """The parts of an operation whose windows' rows have `channels`, and its result `outputs`. Most have one."""
    if isinstance(op, GroupedProduct) and len(op.matrix) > 1:
        inputs, own = channels // len(op.matrix), outputs // len(op.matrix)
        each = itertools.product(range(len(op.matrix)), range(op.spread))
        return [Part(row * outputs + group * own, own, group * inputs, inputs) for group, row in each]
    if isinstance(op, DepthwiseTransposed):
        return [Part(row * outputs, outputs, 0, channels) for row in range(op.spread)]
    return [Part(0, op.spread * outputs, 0, channels)]


def _halved(program: Program, terms: Sequence[int]) -> set[int]:
    """The buffers that products on tiles of one term write, and alone read: values are rounded as they are written.

    The size of a step makes no difference: what one has rounded, one of another size goes on with.
    """
    low = {i for i, count in enumerate(terms) if count == 1}
    written = {buffer for i in low for buffer in program.ops[i].into}
    read = {window.buffer for i in low for window in program.ops[i].windows}
    others = {window.buffer for i, op in enumerate(program.ops) if i not in low for window in op.windows}
    added = {op.add for op in program.ops if op.add is not None}
    return (written & read) - others - added - {program.out}


def _offsets(program: Program) -> dict[str, int]:
    """Where each leaf lies in a stream's state, in bytes."""
    state = State(program.state, 1)
    return {name: leaf.data_ptr() - state.bytes.data_ptr() for name, leaf in state.leaves.items()}


class Layout:
    """Memory of a step of up to `batch` streams, and its plan.

    memory: that of each buffer, [B, history + new, C], float32 or bfloat16, in the `scratch` that steps share; nbytes:
    of all, what is shared included; plan: the library's; of: which operation of the program each of the plan's is;
    halves: values in bfloat16 that a thread needs room for.
    """

    def __init__(
        self,
        program: Program,
        instruction_set: InstructionSet,
        weights: Sequence[Sequence[Weights]],
        floats: FloatPanels,
        snakes: Sequence[Weights],
        terms: Sequence[int],
        batch: int,
        frames: int,
        part: int,
    ):
        self.program, self.batch, self.frames, self._set = program, batch, frames, instruction_set
        self._snakes, self._terms, self._floats, self.nbytes, self.halves = snakes, terms, floats, 0, 0
        self._kept: list[Any] = [weights]  # all that the plan points to
        self._halved = _halved(program, terms)
        self.memory = self._memories([b.history + frames * b.at.rate for b in program.buffers], part)
        # By leaf, [B, ...]: as an operation finds it, as it leaves it, and which operation of the program that is.
        self._holds: dict[str, tuple[Tensor, Tensor, int]] = {}
        self._offsets = _offsets(program)
        self._looked: dict[tuple[str, int, float], Any] = {}
        self.of = [i for i, of in enumerate(weights) for _ in of]
        self.plan = self._planned([made for i, of in enumerate(weights) for made in self._operations(i, of)])

    def _room(self, *shape: int) -> Tensor:
        """[B, *shape]; a step writes to all of it before it reads."""
        count = self.batch
        for size in shape:
            count *= size
        return self._keep(floats(count + SPARE))[:count].view(self.batch, *shape)

    def _memories(self, rows: Sequence[int], part: int) -> list[Tensor]:
        """Of each buffer, [B, rows, C], in one stretch."""
        shapes = [
            (self.batch, count, buffer.channels) for count, buffer in zip(rows, self.program.buffers, strict=True)
        ]
        kinds = [torch.bfloat16 if i in self._halved else torch.float32 for i in range(len(shapes))]
        sizes = [
            kind.itemsize * (math.prod(shape) + self._spare(i))
            for i, (shape, kind) in enumerate(zip(shapes, kinds, strict=True))
        ]
        starts, end = placed(sizes, lives(self.program))
        self.scratch = Scratch(end + BESIDE, part)
        memory = self._keep(self.scratch.take(end))
        each = zip(starts, shapes, kinds, strict=True)
        return [
            memory[start : start + kind.itemsize * math.prod(shape)].view(kind).view(shape)
            for start, shape, kind in each
        ]

    def _spare(self, index: int) -> int:
        """Values of any content behind the last row of a buffer. Tiles read whole ones, so many rows."""
        if index not in self._halved:
            return SPARE
        strides = [window.stride for op in self.program.ops for window in op.windows if window.buffer == index]
        return max(strides) * WIDE * self.program.buffers[index].channels + SPARE

    def _keep(self, tensor: Tensor) -> Tensor:
        """The same, kept as long as the plan points to it."""
        self._kept.append(tensor)
        self.nbytes += tensor.nbytes
        return tensor

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
            index in self._halved,
        )  # fmt: skip

    def _leaves(self) -> Iterable[Any]:
        """What is copied from the state before the operation that writes a buffer, and to it after that; rings stay
        where they are. In the order of the operations.
        """
        places = dict(self._holds)
        for index, (buffer, memory) in enumerate(zip(self.program.buffers, self.memory, strict=True)):
            if buffer.history:
                before, after = memory[:, : buffer.history], memory[:, memory.shape[1] - buffer.history :]
                places[buffer.leaf] = before, after, self.program.source(index)
        for name, (before, after, op) in sorted(places.items(), key=lambda item: item[1][2]):
            halved, each = before.dtype == torch.bfloat16, max(1, before.element_size() // FLOAT)
            stream, count = before.stride(0) * each, before[0].numel() * each
            first = self.of.index(op)
            made = library.Leaf(before.data_ptr(), after.data_ptr(), self._room(count).data_ptr())
            made.stream, made.count, made.offset, made.halved = stream, count, self._offsets[name], halved
            made.first, made.last = first, first + self.of.count(op) - 1
            yield made

    def _operations(self, index: int, weights: Sequence[Weights]) -> Iterable[Any]:
        op, outputs = self.program.ops[index], self.program.values[index].channels
        channels = self.program.buffers[op.windows[0].buffer].channels if op.windows else 0
        for place, part in enumerate(_parts(op, channels, outputs)):
            made = self._operation(index, part, weights[place])
            if self.batch * made.rows > self._set.int8 and (panels := self._floats.of(index)) is not None:
                made.weights = panels.data_ptr()
            yield made

    def _operation(self, index: int, part: Part, weights: Weights) -> Any:
        op, value = self.program.ops[index], self.program.values[index]
        row = op.spread * value.channels  # of the result of one window
        made = library.Operation(rows=self.frames * value.at.rate // op.spread, columns=part.columns)
        made.terms = self._terms[index]
        segments = [segment for window in op.windows for segment in self._segments(op, window, part)]
        made.segments, made.segment_count = self._array(library.Segment, segments), len(segments)
        targets = [self._target(buffer, row, part.column) for buffer in op.into]
        made.targets, made.target_count = self._array(library.Target, targets), len(targets)
        if op.add is not None:
            added = self.memory[op.add]
            made.add, made.add_row, made.add_stream = added.data_ptr() + FLOAT * part.column, row, added.stride(0)
        for name, tensor in weights.items():
            setattr(made, name, tensor.data_ptr())
        made.kind = library.KINDS[self._own(index, made)]
        return made

    def _segments(self, op: Op, window: Window, part: Part) -> Iterable[Any]:
        """A window as stretches of memory: one, or where its rows lie apart, one a row."""
        memory = self.memory[window.buffer]
        channels, stream, size = memory.shape[2], memory.stride(0), memory.element_size()
        whole = part.channels == channels or len(op.windows) > 1  # windows side by side are of whole rows
        together = isinstance(op, (Depthwise, DepthwiseTransposed)) or (whole and window.dilation == 1)
        for tap in range(1 if together else window.taps):
            first = channels * (window.first + tap * window.dilation) + (0 if whole else part.channel)
            width = channels * window.taps if together else channels if whole else part.channels
            place, row = memory.data_ptr() + size * first, window.stride * channels
            yield library.Segment(place, row, stream, width, window.buffer in self._halved)

    def _target(self, index: int, row: int, column: int) -> Any:
        buffer, memory = self.program.buffers[index], self.memory[index]
        first = memory[:, buffer.history :].data_ptr() + memory.element_size() * column
        made = library.Target(first, row, memory.stride(0), index, halved=index in self._halved)
        made.activation = library.ACTIVATIONS[None if buffer.activation is None else buffer.activation.kind]
        for name, tensor in self._snakes[index].items():
            setattr(made, name, tensor.data_ptr() + FLOAT * column)
        return made

    def _own(self, index: int, made: Any) -> str:
        """Write what an operation alone has to `made`; returns what kind it is."""
        op = self.program.ops[index]
        if isinstance(op, LappedProduct):
            made.inner, made.outer = divided(op.hop, self._set.lanes)
            made.row = self._keep(floats(room(op.hop, self._set.lanes))).data_ptr()
            return "overlap_add" if op.back else "lapped"
        if made.terms and isinstance(op, Product):
            return self._own_low(op, made)
        if made.int8_tiles and isinstance(op, (Product, GroupedProduct)):
            self._make_room(made, op.matrix.shape[-2])
            return "int8_product"
        if isinstance(op, (Product, GroupedProduct)):
            return "dot" if made.columns == 1 else "product"
        if isinstance(op, (Depthwise, DepthwiseTransposed)):
            made.taps, made.tap = op.window.taps, op.window.dilation * made.columns
            return "depthwise"
        if isinstance(op, LayerNorm):
            made.numbers[0] = op.epsilon
            return "layer_norm"
        if isinstance(op, Attention):
            self._own_attention(index, op, made)
            return "attention"
        if isinstance(op, LocalAttention):
            self._own_local_attention(op, made)
            return "local_attention"
        if isinstance(op, Noise):
            made.seed, made.lag = op.seed, self.program.buffers[op.buffer].at.lag
            made.heard = self._heard(index, op.heard)
            return "noise"
        if isinstance(op, Normalise):
            made.numbers[0] = op.epsilon
            return "normalise"
        if isinstance(op, LSTMCell):
            self._own_lstm(index, op, made)
            return "lstm"
        if isinstance(op, Rows):
            return self._own_rows(op, made)
        return "copy"

    def _own_low(self, op: Product, made: Any) -> str:
        width = -(-op.matrix.shape[0] // WIDE) * WIDE
        held = not made.weights and made.columns <= SIDE_BY_SIDE and width * made.columns <= HELD
        rows = -(-self.batch * made.rows // WIDE) * WIDE
        if made.rows >= WIDE and self._lie_in_tiles(op):
            sources = [self._source(window) for window in op.windows]
            made.sources, made.source_count = self._array(library.Source, sources), len(sources)
            most = WIDE if held else HALVES_BYTES // 2 // sum(s.stride * (s.channels | WIDE) for s in sources)
            made.halves_rows = min(rows, max(WIDE, most // WIDE * WIDE))
            overlap = self.batch * max((s.taps - 1) * s.dilation + 1 for s in sources)
            each = ((made.halves_rows * s.stride + overlap + WIDE * s.stride) * (s.channels | WIDE) for s in sources)
            room = sum(each)
        else:
            most = WIDE if held else max(WIDE, HALVES_BYTES // 2 // width // WIDE * WIDE)
            made.halves_rows = min(rows, most)
            room = made.halves_rows * width
        made.halves_term = room + WIDE
        split = made.terms * WIDE * (SPLIT_ROWS + WIDE) if made.weights else 0
        self.halves = max(self.halves, made.terms * made.halves_term + split)
        return "low_product"

    def _make_room(self, made: Any, width: int) -> None:
        """For one window of at most `width` values, and for exponents and digits of as many as are made at once."""
        width = -(-width // DEPTH) * DEPTH
        most = max(WIDE, HALVES_BYTES // (DIGITS * width) // WIDE * WIDE)
        rows = made.halves_rows = min(-(-self.batch * made.rows // WIDE) * WIDE, most)
        self.halves = max(self.halves, (FLOAT * (width + rows) + DIGITS * width * rows) // 2)

    def _lie_in_tiles(self, op: Product) -> bool:
        """Whether the rows of the windows fill whole tiles, and are in few enough stretches."""
        whole = all(self.memory[window.buffer].shape[2] % WIDE == 0 for window in op.windows)
        return whole and sum(window.taps for window in op.windows) <= STRETCHES

    def _source(self, window: Window) -> Any:
        """The rows that windows are of."""
        memory = self.memory[window.buffer]
        channels, stream = memory.shape[2], memory.stride(0)
        first = memory.data_ptr() + memory.element_size() * channels * window.first
        halved = window.buffer in self._halved
        return library.Source(first, stream, channels, window.stride, window.taps, window.dilation, halved)

    def _own_lstm(self, index: int, op: LSTMCell, made: Any) -> None:
        width, at = made.columns, self.program.buffers[op.buffer].at
        hidden, cell = self._room(width), self._room(width)
        self._holds |= {op.hidden: (hidden, hidden, index), op.cell: (cell, cell, index)}
        made.hidden, made.cell = hidden.data_ptr(), cell.data_ptr()
        made.gates = self._room(made.rows, 4 * width).data_ptr()
        made.lag, made.rate = at.lag, at.rate
        if made.int8_tiles or made.recurrent_tiles:
            self._make_room(made, max(weight.shape[1] for weight in op.weights[:2]))

    def _own_attention(self, index: int, op: Attention, made: Any) -> None:
        size = op.width // op.heads
        made.heads, made.reach, made.lag = op.heads, op.reach, self.program.buffers[op.buffer].at.lag
        made.keys, made.values = self._offsets[op.keys], self._offsets[op.values]
        turned = self._keep(floats(size + self.batch * made.rows * op.width))
        made.turned, made.scores = turned.data_ptr(), self._keep(floats(op.reach)).data_ptr()
        # Attentions that stand alike share the angles, which the first of them makes.
        key = (op.heard, size, op.base)
        made.looks = key not in self._looked
        if made.looks:
            half = size // 2
            frequencies = self._keep(op.base ** -(torch.arange(half, dtype=torch.float64) / half))
            self._looked[key] = frequencies, self._room(made.rows, size)
        frequencies, turns = self._looked[key]
        made.heard, made.frequencies, made.angles = (
            self._heard(index, op.heard),
            frequencies.data_ptr(),
            turns.data_ptr(),
        )

    def _heard(self, index: int, leaf: str) -> int:
        """Where it is counted, [B, 2], how many rows came before a step, and after it."""
        if leaf not in self._holds:
            heard = self._keep(torch.zeros(self.batch, 2, dtype=torch.int64))
            self._holds[leaf] = heard[:, :1], heard[:, 1:], index
        return self._holds[leaf][0].data_ptr()

    def _own_local_attention(self, op: LocalAttention, made: Any) -> None:
        size = op.width // op.heads
        made.heads, made.reach = op.heads, op.spread
        turns = angles(op.spread, size, op.base, torch.device("cpu"))
        made.angles = self._keep(torch.cat([turns.cos(), turns.sin()], 1).float()).data_ptr()
        made.turned = self._keep(floats(size + op.spread * op.width)).data_ptr()
        made.scores = self._keep(floats(op.spread)).data_ptr()

    def _own_rows(self, op: Rows, made: Any) -> str:
        assert op.known is not None
        if op.known.bands:
            made.bands = self._array(ctypes.c_int64, op.known.bands)
            made.band_count = len(op.known.bands) - 1
            made.row = self._room(made.columns).data_ptr()
        for i, number in enumerate(op.known.numbers):
            made.numbers[i] = number
        return FUNCTIONS[op.known.name]
