"""A program run by torch: on any device and of any float type.

The shapes of a step are those of its number of streams and frames, and so are the places of all its rows. So the work
is laid out once, in a `Workspace`: memory for every buffer, and a list of calls with their views bound. A step copies
the state in, runs the list, and copies the state out. Until that last copy the state is what it was.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .matrix import Matrix
from .noise import normal_at
from .program import (
    Attention,
    Buffer,
    Depthwise,
    DepthwiseTransposed,
    Edges,
    GroupedProduct,
    LayerNorm,
    LocalAttention,
    LSTMCell,
    Noise,
    Normalise,
    Op,
    Product,
    Program,
    Reshape,
    Rows,
    Window,
)
from .state import Lent, State, without_rings
from .torch_attention import Attended, Places
from .vector_math import (
    Call,
    angles,
    elu_,
    gelu_,
    gelu_tanh_,
    hardtanh_,
    leaky_relu_,
    silu_,
    snake_,
    tanh,
    tanh_,
    turned,
)
from .workspaces import Workspaces

__all__ = ["TorchExecutor", "Workspace", "weights"]

Weights = dict[str, Any]  # of an operation, by name: here each is a `Matrix`

_FUNCTIONS = {
    "elu": elu_,
    "gelu": gelu_,
    "gelu_tanh": gelu_tanh_,
    "hardtanh": hardtanh_,
    "leaky_relu": leaky_relu_,
    "silu": silu_,
    "tanh": tanh_,
}

_FOREACH = getattr(torch, "_foreach_copy_", None)


class TorchExecutor:
    """Runs one program. Threads may share it: each has workspaces of its own."""

    any_batch = pushes = False

    def __init__(self, program: Program):
        self.program = program
        with torch.inference_mode(False), torch.no_grad():
            self._workspaces = Workspaces(self._maker())

    def _maker(self) -> Callable[[int, int, int], "Workspace"]:
        """What lays out a step of one size. It holds the weights, and nothing of this executor."""
        program, packed = self.program, [weights(op) for op in self.program.ops]
        return lambda batch, frames, part: Workspace(program, packed, batch, frames)

    def workspace(self, batch: int, frames: int, part: int = 0) -> "Workspace":
        """Memory for steps of `batch` streams by `frames` frames; the calling thread's own, another for each `part`."""
        return self._workspaces.get(batch, frames, part)

    def push(self, batch: int, frames: int, state: State, quantize: object, stages: int) -> None:
        """None: see `executors.Executor`."""

    def step(self, work: "Workspace", x: Tensor, state: State | Lent, edges: Edges | None = None) -> Tensor:
        """Whole frames of rows [B, frames * rate, C] to rows of output, in memory of their own; moves `state` on.

        Pass `edges` unless no row of the batch touches an edge of its signal.
        """
        self._run(work, x, work.borrow(state) if isinstance(state, Lent) else state, edges)
        return work.out.clone()  # outside inference mode, unless the caller is in it

    @torch.inference_mode()
    def _run(self, work: "Workspace", x: Tensor, state: State, edges: Edges | None) -> None:
        kept = work.bind(state)
        copy_all(work.before, kept)
        for rows in work.inputs:
            rows.copy_(x)
        if edges is None:
            for call in work.calls:
                call()
        else:
            work.run_at_edges(edges)
        copy_all(kept, work.after)
        work.keep()


@torch.inference_mode()
def _give_back(words: Tensor, state: State, streams: Sequence[int] | Tensor) -> None:
    state.words[:, : words.shape[1]].index_copy_(0, state.index(streams), words)


def copy_all(targets: tuple[Tensor, ...], sources: tuple[Tensor, ...]) -> None:
    """Copy every source to its target."""
    if not targets:
        return
    if _FOREACH is not None:  # in one call
        _FOREACH(targets, sources)
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def weights(op: Op) -> Weights:
    """The matrices of an operation, ready to be multiplied."""
    if isinstance(op, Product):
        return {"windows": Matrix(op.matrix, op.bias)}
    if isinstance(op, LSTMCell):
        w_ih, w_hh, b_ih, b_hh = (_sigmoids_first(weight) for weight in op.weights)
        bias = b_ih + b_hh
        return {
            "input": Matrix(w_ih.t().contiguous(), bias),
            "recurrent": Matrix(w_hh.t().contiguous(), None),
            "both": Matrix(torch.cat([w_ih, w_hh], 1).t().contiguous(), bias),
        }
    return {}


def _sigmoids_first(rows: Tensor) -> Tensor:
    """torch's gates are input, forget, candidate, output; here the three sigmoids lie side by side."""
    i, f, candidate, o = rows.chunk(4)
    return torch.cat([i, f, o, candidate])


class _Hold:
    """Which rows leave a recurrence as it is: [B, n], or None where all of them move it.

    Of its own, so that the calls which read it need no workspace: they are in one, and would keep it alive.
    """

    rows: Tensor | None = None

    def at(self, t: int) -> Tensor | None:
        """Those of row t, [B, 1]."""
        return None if self.rows is None else self.rows[:, t, None]


class Workspace:
    """A step of one size, laid out.

    before, after: where each leaf of the state is copied to, and from, but for rings; inputs: where the input goes;
    calls: what is run; out: the output.
    """

    def __init__(self, program: Program, weights: Sequence[Weights], batch: int, frames: int):
        self.program, self.batch = program, batch
        self.memory = [self._room(b.history + frames * b.at.rate, b.channels) for b in program.buffers]
        self.rows = [m[:, b.history :] for m, b in zip(self.memory, program.buffers, strict=True)]
        self.holds: dict[str, tuple[Tensor, Tensor]] = {}  # of leaves that are no history: before a step, and after it
        self.masked: set[int] = set()  # the buffers whose calls themselves make the rows outside the signal
        self._hold = _Hold()
        self._rings: list[Attended] = []
        self._places: dict[tuple[str, int, float, int], Places] = {}
        steps = [self._lay_out(op, of) for op, of in zip(program.ops, weights, strict=True)]
        self.calls = [call for step in steps for call in step]
        self._steps = steps
        self.inputs = [self.rows[b] for b in program.ops[0].into]
        self.out = self.memory[program.out]
        before, after = self._leaves()
        self._copied = [leaf for leaf in program.state if leaf in before]
        self.before, self.after = (tuple(places[leaf] for leaf in self._copied) for places in (before, after))
        self.nbytes = sum(memory.nbytes for memory in self.memory)
        self._copy: State | None = None  # of streams that are lent

    def _room(self, *shape: int) -> Tensor:
        """[B, *shape]; a step writes to all of it before it reads."""
        return torch.empty(self.batch, *shape, dtype=self.program.dtype, device=self.program.device)

    @torch.inference_mode()
    def borrow(self, lent: Lent) -> State:
        """A copy of streams that are lent, of all but their rings: a step moves it on, and then they are written."""
        if self._copy is None:
            with torch.inference_mode(False):
                self._copy = State(without_rings(self.program.state), self.batch, self.program.device)
        words, index = self._copy.words, lent.state.index(lent.streams)
        torch.index_select(lent.state.words[:, : words.shape[1]], 0, index, out=words)
        self._copy.borrow(lent)
        lent.wait(lambda rows, streams: _give_back(words[rows], lent.state, streams))
        return self._copy

    def bind(self, state: State) -> tuple[Tensor, ...]:
        """Read rings where they lie, in `state`, until `keep`; returns its other leaves."""
        if not self._rings:
            return state.tensors
        for places in self._places.values():
            places.bind(state)
        for ring in self._rings:
            ring.bind(state)
        return tuple(state.leaves[leaf] for leaf in self._copied)

    def keep(self) -> None:
        """Write the step's rows to the rings."""
        for ring in self._rings:
            ring.keep()
        for places in {places.leaf: places for places in self._places.values()}.values():
            places.keep()

    def _leaves(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        before = {leaf: held[0] for leaf, held in self.holds.items()}
        after = {leaf: held[1] for leaf, held in self.holds.items()}
        for buffer, memory in zip(self.program.buffers, self.memory, strict=True):
            if buffer.history:
                before[buffer.leaf] = memory[:, : buffer.history]
                after[buffer.leaf] = memory[:, memory.shape[1] - buffer.history :]
        return before, after

    # -- laying out --------------------------------------------------------------------------------------------------

    def _lay_out(self, op: Op, weights: Weights) -> list[Call]:
        """The calls of an operation: its result, to the first of its buffers, from there to the others."""
        first, *others = (self.rows[b] for b in op.into)
        calls: list[Call] = []
        if isinstance(op, Product):
            calls += self._product(op, weights["windows"], first)
        elif isinstance(op, GroupedProduct):
            calls += self._grouped(op, first)
        elif isinstance(op, Depthwise):
            calls += self._depthwise(op, first)
        elif isinstance(op, DepthwiseTransposed):
            calls += self._depthwise_transposed(op, first)
        elif isinstance(op, LayerNorm):
            calls.append(partial(_layer_norm, op, self.memory[op.buffer], first))
        elif isinstance(op, Attention):
            calls += self._attention(op, first)
        elif isinstance(op, LocalAttention):
            calls.append(self._local_attention(op, first))
        elif isinstance(op, Normalise):
            calls.append(partial(_normalise, op, self.memory[op.buffer], first))
        elif isinstance(op, Reshape):
            rows = self._windows(op.window, first.shape[1] // op.spread)
            calls.append(partial(first.view(rows.shape).copy_, rows))
        elif isinstance(op, Noise):
            calls.append(self._noise(op, first))
        elif isinstance(op, LSTMCell):
            calls.append(self._recurrence(op, weights, first))
        elif isinstance(op, Rows):
            source, function = self.memory[op.buffer], op.function
            calls.append(lambda: first.copy_(function(source)))
        if op.add is not None:
            calls.append(partial(first.add_, self.memory[op.add][:, : first.shape[1]]))
        calls += [partial(other.copy_, first) for other in others]
        for b in op.into:
            calls += _activation(self.program.buffers[b], self.rows[b])
        return calls

    def _product(self, op: Product, matrix: Matrix, target: Tensor) -> list[Call]:
        window = op.reads[0]
        if len(op.reads) == 1 and window.stride == op.spread == 1:
            used = target.shape[1] + (window.taps - 1) * window.dilation
            z = self.memory[window.buffer][:, window.first : window.first + used]
            call = matrix.convolution(z, window.taps, window.dilation, target)
            if call is not None:
                return [call]
        count = target.shape[1] // op.spread
        parts = [self._windows(window, count) for window in op.reads]
        calls, rows = _joined(parts)
        rows = rows.view(self.batch * count, -1)
        if target.is_contiguous():
            return [*calls, matrix.product(rows, target.view(self.batch * count, -1))]
        out = self._room(target.shape[1], target.shape[2])
        return [*calls, matrix.product(rows, out.view(self.batch * count, -1)), partial(target.copy_, out)]

    def _grouped(self, op: GroupedProduct, target: Tensor) -> list[Call]:
        groups, inputs, outputs = op.matrix.shape
        count = target.shape[1] // op.spread
        parts = self._windows(op.window, count).unflatten(3, (groups, -1)).permute(3, 0, 1, 2, 4)
        rows = op.matrix.new_empty(groups, self.batch * count, inputs)
        results = op.matrix.new_empty(groups, self.batch * count, outputs)
        calls: list[Call] = [partial(rows.view(parts.shape).copy_, parts)]
        calls.append(partial(torch.bmm, rows, op.matrix, out=results))
        made = results.view(groups, self.batch, count, op.spread, -1).permute(1, 2, 3, 0, 4)
        calls.append(partial(target.view(made.shape).copy_, made))
        return calls if op.bias is None else [*calls, partial(target.add_, op.bias)]

    def _depthwise(self, op: Depthwise, target: Tensor) -> list[Call]:
        windows = self._windows(op.window, target.shape[1])
        products = self._room(*windows.shape[1:])
        calls: list[Call] = [partial(torch.mul, windows, op.weight, out=products)]
        calls.append(partial(torch.sum, products, 2, out=target))
        return calls if op.bias is None else [*calls, partial(target.add_, op.bias)]

    def _depthwise_transposed(self, op: DepthwiseTransposed, target: Tensor) -> list[Call]:
        windows = self._windows(op.window, target.shape[1] // op.spread)[:, :, :, None]
        products = self._room(windows.shape[1], *op.weight.shape)
        rows = target.unflatten(1, (-1, op.spread))
        calls: list[Call] = [partial(torch.mul, windows, op.weight, out=products)]
        calls.append(partial(torch.sum, products, 2, out=rows))
        return calls if op.bias is None else [*calls, partial(target.add_, op.bias)]

    def _attention(self, op: Attention, target: Tensor) -> list[Call]:
        key, calls = (op.heard, op.reach, op.base, op.width // op.heads), list[Call]()
        if key not in self._places:
            lag = self.program.buffers[op.buffer].at.lag
            self._places[key] = Places(op, self.batch, target.shape[1], lag, target)
            calls.append(self._places[key].look)
        self._rings.append(Attended(op, self._places[key], self.memory[op.buffer], target))
        return [*calls, self._rings[-1].attend]

    def _local_attention(self, op: LocalAttention, target: Tensor) -> Call:
        windows = self._windows(op.window, target.shape[1] // op.spread)
        parts = windows.unflatten(3, (3, op.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # [3, B, n, heads, window, d]
        angle = angles(op.spread, parts.shape[5], op.base, target.device)
        cos, sin = angle.cos().to(target.dtype), angle.sin().to(target.dtype)
        rows = target.unflatten(1, (-1, op.spread)).unflatten(3, (op.heads, -1))

        def run() -> None:
            query, key = turned(parts[:2], cos, sin).unbind()
            rows.copy_(F.scaled_dot_product_attention(query, key, parts[2]).transpose(2, 3))

        return run

    def _noise(self, op: Noise, target: Tensor) -> Call:
        heard = torch.empty(self.batch, 1, dtype=torch.int64, device=target.device)
        self.holds[op.heard] = heard, heard
        rows = torch.arange(target.shape[1], device=target.device) - self.program.buffers[op.buffer].at.lag
        x = self.memory[op.buffer]

        def run() -> None:
            numbers = normal_at(op.seed, heard + rows).to(target.dtype)
            torch.mul(x, numbers[:, :, None], out=target)
            heard.add_(target.shape[1])

        return run

    def _windows(self, window: Window, count: int) -> Tensor:
        """[B, count, taps, C], a view."""
        memory = self.memory[window.buffer]
        b, r, c = memory.stride()
        size = (memory.shape[0], count, window.taps, memory.shape[2])
        return memory.as_strided(size, (b, window.stride * r, window.dilation * r, c), window.first * r)

    def _recurrence(self, op: LSTMCell, weights: Weights, target: Tensor) -> Call:
        width = op.weights[1].shape[1]
        hidden, cell = self._room(width), self._room(width)
        self.holds |= {op.hidden: (hidden, hidden), op.cell: (cell, cell)}
        x, gates = self.memory[op.buffer], self._room(4 * width)
        cells, hold = partial(_lstm_cell, gates, hidden, cell), self._hold
        if x.shape[1] == 1:  # one product that reads each weight once
            both = self._room(x.shape[2] + width)
            product = weights["both"].product(both, gates)

            def run_one() -> None:
                torch.cat([x[:, 0], hidden], 1, out=both)
                product()
                cells(hold.at(0))
                target[:, 0] = hidden

            return run_one
        inputs = self._room(x.shape[1], 4 * width)
        from_input = weights["input"].product(x.view(-1, x.shape[2]), inputs.view(-1, 4 * width))
        from_hidden = weights["recurrent"].product(hidden, gates)

        def run() -> None:
            from_input()
            for t in range(x.shape[1]):
                from_hidden()
                gates.add_(inputs[:, t])
                cells(hold.at(t))
                target[:, t] = hidden

        return run

    # -- edges -------------------------------------------------------------------------------------------------------

    def run_at_edges(self, edges: Edges) -> None:
        """As the list of calls, with the rows outside the signal filled as soon as they are written."""
        lengths: list[Tensor] = []
        for length in self.program.lengths:
            lengths.append(length.of_each(lengths[length.source]) if lengths else edges.length)
        for op, calls in zip(self.program.ops, self._steps, strict=True):
            # Rows before the signal must not move a recurrence; rows after it have no successor that counts.
            if isinstance(op, LSTMCell):
                start = self._start(self.program.buffers[op.buffer], edges)
                self._hold.rows = start[:, None] + torch.arange(self.rows[op.buffer].shape[1], device=start.device) < 0
            for call in calls:
                call()
            self._hold.rows = None
            for b in [b for b in op.into if b not in self.masked]:
                buffer = self.program.buffers[b]
                fill(self.memory[b], buffer, self._start(buffer, edges), lengths[buffer.length])

    @staticmethod
    def _start(buffer: Buffer, edges: Edges) -> Tensor:
        """Which row of its signal a buffer's first new row is, [B]."""
        return edges.position * buffer.at.rate - buffer.at.lag


def _joined(parts: list[Tensor]) -> tuple[list[Call], Tensor]:
    """Windows [B, n, taps, C] side by side, [B, n, K]: what has to be run first, and where they lie then."""
    if len(parts) > 1:
        flat = [part[:, :, 0] for part in parts]  # a join is of single rows (see `Residual.lower`)
        rows = torch.cat(flat, 2)
        return [partial(torch.cat, flat, 2, out=rows)], rows
    windows = parts[0]
    batch, count, taps, channels = windows.shape
    try:
        return [], windows.view(batch, count, taps * channels).view(batch * count, taps * channels)
    except RuntimeError:  # they overlap, or lie apart
        rows = windows.new_empty(windows.shape)
        return [partial(rows.copy_, windows)], rows


def _activation(buffer: Buffer, rows: Tensor) -> list[Call]:
    if buffer.activation is None:
        return []
    kind, alpha, gain = buffer.activation
    if kind == "snake":
        assert alpha is not None
        assert gain is not None
        return [snake_(rows, alpha, gain)]
    return [_FUNCTIONS[kind](rows)]


def _normalise(op: Normalise, x: Tensor, target: Tensor) -> None:
    target.copy_(F.rms_norm(x, (x.shape[2],), op.weight, op.epsilon))


def _layer_norm(op: LayerNorm, x: Tensor, target: Tensor) -> None:
    target.copy_(F.layer_norm(x, (x.shape[2],), op.weight, op.bias, op.epsilon))


def _lstm_cell(gates: Tensor, hidden: Tensor, cell: Tensor, hold: Tensor | None) -> None:
    """Move `hidden` and `cell` [B, H] on by the gates [B, 4 H]; hold: [B, 1], rows that leave them as they are."""
    candidate = tanh(gates[:, -hidden.shape[1] :])
    i, f, o, _ = gates.sigmoid_().chunk(4, 1)  # one call for all four: a call costs more than the sigmoids of one
    if hold is None:
        cell.mul_(f).addcmul_(i, candidate)
        torch.mul(tanh(cell), o, out=hidden)
        return
    new_cell = cell * f + i * candidate
    torch.where(hold, hidden, tanh(new_cell) * o, out=hidden)
    torch.where(hold, cell, new_cell, out=cell)


def fill(memory: Tensor, buffer: Buffer, start: Tensor, length: Tensor) -> None:
    """Make the rows of a buffer that lie outside its signal, as soon as its new rows are written.

    start: [B], which row of the signal the first new row is; length: [B], rows of the signal.
    """
    padding, mirrors = buffer.padding, buffer.padding.mode != "constant"
    # Rows before a mirrored signal can be made only when the signal is there: some are history by then.
    old = buffer.history if mirrors else 0
    rows = memory if mirrors else memory[:, buffer.history :]
    place = torch.arange(rows.shape[1], device=start.device)
    index, length = (start - old)[:, None] + place, length[:, None]
    outside = (index < 0) | ((index >= length) & (place >= old))
    zero = outside
    if mirrors:
        source, empty = padding.source(index, length, buffer.stride)
        source = (source - index[:, :1]).clamp(0, rows.shape[1] - 1)
        made = rows.gather(1, source[:, :, None].expand(-1, -1, rows.shape[2]))
        torch.where(outside[:, :, None], made, rows, out=rows)
        zero = outside & empty
    rows.masked_fill_(zero[:, :, None], 0)
