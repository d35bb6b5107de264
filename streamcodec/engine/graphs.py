"""Steps as CUDA graphs: what a step launches one by one, captured once for each size and launched at once."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

__all__ = ["Graphs", "Replay"]

# What an engine keeps for one direction: all sizes and lengths of its own steps, or those it used last.
MOST, MOST_BYTES = 64, 4 << 30


class Step(Protocol):
    """A step on memory that keeps its place. nbytes: what it holds of that."""

    nbytes: int

    def __call__(self) -> Tensor:
        """Run it; returns its output."""


class Replay:
    """A step that is captured in a CUDA graph, and replayed: nothing of Python runs in it.

    step: it is run once, which makes what is made on first use, and once more to be captured, which computes nothing.
    A step that cannot be captured is named in a RuntimeWarning, and run as it is.
    """

    def __init__(self, step: Step):
        self.step, self.nbytes = step, step.nbytes
        self._graph: torch.cuda.CUDAGraph | None = None
        step()
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._out = step()
            self._graph = graph
        except RuntimeError as error:
            warnings.warn(f"a step runs without a CUDA graph: {error}", RuntimeWarning, stacklevel=2)

    def __call__(self) -> Tensor:
        """Run it; returns its output, in memory of the caller's own."""
        if self._graph is None:
            return self.step()
        self._graph.replay()
        return self._out.clone()


K = TypeVar("K")


class Graphs(Generic[K]):
    """Steps by what makes them different, made when first asked for; of too many, those used last are kept."""

    def __init__(self, make: Callable[[K], Step], most: int = MOST, most_bytes: int = MOST_BYTES):
        self._make, self._most, self._most_bytes = make, most, most_bytes
        self._kept: OrderedDict[K, Step] = OrderedDict()

    def get(self, key: K) -> Step:
        """The step of this key."""
        step = self._kept.pop(key, None)
        if step is None:
            step = self._make(key)
        self._kept[key] = step
        while len(self._kept) > 1 and (len(self._kept) > self._most or self.nbytes > self._most_bytes):
            self._kept.popitem(last=False)
        return step

    @property
    def nbytes(self) -> int:
        """Of all steps that are kept."""
        return sum(step.nbytes for step in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)
