"""What streams remember, as a value.

A state belongs to a batch of streams. It is one flat row of bytes a stream, and a view into these rows for every tensor
(*leaf*) that it holds, by name. Which leaves there are is written down once, in a `Spec`; all that can be done with a
state is then done to rows of bytes or to all leaves, so that none can be missed.

Most leaves are small, and a step reads and writes all of them. *Rings* (keys and values of attention) are large, and a
step writes a few places of them, so they are read where they lie (`Ring`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from .errors import StateError

__all__ = ["Lent", "Ring", "Spec", "State", "TensorSpec", "nbytes", "without_rings"]

# Every leaf begins at a multiple of a cache line, which also suits every element type.
ALIGNMENT = 64


class TensorSpec(NamedTuple):
    """One leaf of a state.

    shape: the dimensions after the batch; dtype: the element type; ring: whether a step writes to places of it alone.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    ring: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of one stream's leaf."""
        count = self.dtype.itemsize
        for size in self.shape:
            count *= size
        return count


Spec: TypeAlias = Mapping[str, TensorSpec]
"""The leaves of one stream's state by name, in the order in which they lie."""


def nbytes(spec: Spec) -> int:
    """Bytes that one stream needs: a cache line at least."""
    return max(ALIGNMENT, sum(-(-leaf.nbytes // ALIGNMENT) * ALIGNMENT for leaf in spec.values()))


def without_rings(spec: Spec) -> Spec:
    """The leaves that are no rings."""
    if not any(leaf.ring for leaf in spec.values()):
        return spec
    return {name: leaf for name, leaf in spec.items() if not leaf.ring}


Write: TypeAlias = Callable[[Sequence[int] | slice, Sequence[int] | Tensor], None]
"""Writes some rows of a step to as many streams."""


class Ring:
    """A ring of each of several streams, where it lies.

    memory: [M, heads, length, d]; streams: which of them, None for all; those of a tensor are copied to be read. Where
    they are some, what is `put` waits for `write`: until then a step has changed nothing.
    """

    def __init__(self, memory: Tensor, streams: Sequence[int] | Tensor | None = None):
        self._memory, self._streams = memory, streams
        self._put: tuple[Tensor, Tensor] | None = None

    @property
    def rows(self) -> Sequence[Tensor]:
        """[heads, length, d] of each stream."""
        if self._streams is None:
            return self._memory.unbind()
        if isinstance(self._streams, Tensor):
            return self._memory.index_select(0, self._streams).unbind()
        return [self._memory[stream] for stream in self._streams]

    def put(self, places: Tensor, new: Tensor) -> None:
        """New rows [B, heads, n, d] for the places [B, n]."""
        if self._streams is None:
            _write(self._memory, torch.arange(len(new), device=new.device), places, new)
        else:
            self._put = places, new.clone()  # they may lie where another step of the thread writes

    def write(self, rows: Sequence[int] | slice, streams: Tensor) -> None:
        """Write what was put for some of the rows, to the rings of `streams` [n]."""
        if self._put is not None:
            places, new = self._put
            _write(self._memory, streams, places[rows], new[rows])
            self._put = None


class Lent:
    """Some streams of a state, for a step that reads them where they lie. What it makes of them waits for `write`, and
    until then nothing has changed.

    state: whose they are; streams: which of its streams, one for each row of the step; as a tensor, which a CUDA graph
    reads each time that it is replayed.
    """

    def __init__(self, state: "State", streams: Sequence[int] | Tensor):
        self.state, self.streams = state, streams
        self._rings: dict[str, Ring] = {}
        self._write: Write | None = None

    def ring(self, name: str) -> Ring:
        """A leaf that is a ring, of each stream."""
        if name not in self._rings:
            self._rings[name] = Ring(self.state.leaves[name], self.streams)
        return self._rings[name]

    def wait(self, write: Write) -> None:
        """For a step: what writes all that is not put to rings."""
        self._write = write

    def write(self, rows: Sequence[int] | slice, streams: Sequence[int] | Tensor) -> None:
        """Write what the step made of some of its rows to `streams`. Every other one keeps its bits."""
        if self._write is not None:
            self._write(rows, streams)
        if self._rings:
            index = self.state.index(streams)
            for ring in self._rings.values():
                ring.write(rows, index)


def _write(memory: Tensor, streams: Tensor, places: Tensor, new: Tensor) -> None:
    memory[streams[:, None], :, places] = new.transpose(1, 2)


class State:
    """The state of a batch of streams. A new one is that of streams that have heard nothing: zeros.

    bytes: [B, nbytes(spec)] uint8, a row a stream; leaves: views into it, [B, *shape], by name; tensors: the same in
    order. Steps write to a state in place: fork a stream with `clone`.
    """

    def __init__(self, spec: Spec, batch: int, device: torch.device | str = "cpu"):
        self._view(spec, torch.zeros(batch, nbytes(spec), dtype=torch.uint8, device=device))

    def _view(self, spec: Spec, memory: Tensor) -> None:
        self.spec, self.bytes, self.leaves, start = spec, memory, {}, 0
        self.lent: Lent | None = None
        for name, leaf in sorted(spec.items(), key=lambda item: item[1].ring):  # those that are copied lie together
            rows = memory[:, start : start + leaf.nbytes]
            self.leaves[name] = rows.view(leaf.dtype).view(memory.shape[0], *leaf.shape)
            start += -(-leaf.nbytes // ALIGNMENT) * ALIGNMENT
        self.leaves = {name: self.leaves[name] for name in spec}
        self.tensors = tuple(self.leaves.values())

    def ring(self, name: str) -> Ring:
        """A leaf that is a ring, of each stream."""
        return Ring(self.leaves[name]) if self.lent is None else self.lent.ring(name)

    def borrow(self, rings: Lent) -> None:
        """Take rings that lie elsewhere for those of its streams, in the place of any before."""
        self.lent = rings

    @classmethod
    def of(cls, spec: Spec, memory: Tensor) -> "State":
        """The state that lies in `memory` [B, nbytes(spec)] uint8: writing to one writes to the other."""
        state = cls.__new__(cls)
        state._view(spec, memory)
        return state

    def __reduce__(self) -> tuple[object, tuple[Spec, Tensor]]:
        """By its bytes alone: torch writes no tensors that view the same memory as other types."""
        return State.of, (dict(self.spec), self.bytes)

    @property
    def batch(self) -> int:
        """Streams."""
        return self.bytes.shape[0]

    @property
    def words(self) -> Tensor:
        """The rows of bytes as [B, n] int64: fewer numbers to move."""
        return self.bytes.view(torch.int64)

    def rows(self, rows: slice) -> "State":
        """The streams at `rows`, as views of this state."""
        return State.of(self.spec, self.bytes[rows])

    def clone(self) -> "State":
        """An independent copy."""
        return State.of(self.spec, self.bytes.clone())

    def to(self, device: torch.device | str) -> "State":
        """A copy on another device."""
        return State.of(self.spec, self.bytes.to(device, copy=True))

    def expand(self, batch: int) -> "State":
        """A state of one stream, copied to each of `batch`."""
        return State.of(self.spec, self.bytes.expand(batch, -1).clone())

    def select(self, rows: Tensor | Sequence[int]) -> "State":
        """The streams at `rows` (indices into the batch), copied, in that order."""
        return State.of(self.spec, self.bytes[self.index(rows)])

    def assign(self, rows: Tensor | Sequence[int], source: "State") -> None:
        """Write the streams of `source` (one, or as many as rows) over `rows`; every other row keeps its bits."""
        self.bytes[self.index(rows)] = source.bytes

    def index(self, rows: Tensor | Sequence[int]) -> Tensor:
        """Numbers of streams as a tensor where the state is."""
        return torch.as_tensor(rows, dtype=torch.int64, device=self.bytes.device)  # the dtype: no rows are fine too

    def save(self, prefix: str = "") -> dict[str, Tensor]:
        """The leaves as named contiguous tensors on the CPU, ready to be written to a file."""
        return {prefix + name: leaf.detach().cpu().clone() for name, leaf in self.leaves.items()}

    @classmethod
    def load(
        cls,
        spec: Spec,
        tensors: Mapping[str, Tensor],
        batch: int,
        device: torch.device | str = "cpu",
        prefix: str = "",
    ) -> "State":
        """The inverse of `save`. Raises StateError where a tensor is missing, too many, or not as `spec` says."""
        expected = {prefix + name: leaf for name, leaf in spec.items()}
        for name in tensors.keys() - expected.keys():
            raise StateError(f"saved state holds an unexpected tensor {name!r}; it belongs to another codec")
        for name, leaf in expected.items():
            if name not in tensors:
                raise StateError(f"saved state lacks the tensor {name!r}; it is cut short or belongs to another codec")
            found, shape = tensors[name], (batch, *leaf.shape)
            if tuple(found.shape) != shape or found.dtype != leaf.dtype:
                raise StateError(
                    f"saved state has {name!r} as {found.dtype} {list(found.shape)}, "
                    f"this codec needs {leaf.dtype} {list(shape)}"
                )
        state = cls(spec, batch, device)
        for name, values in state.leaves.items():
            values.copy_(tensors[prefix + name])
        return state
