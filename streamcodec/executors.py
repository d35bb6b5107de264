"""What an executor is, whichever runs a program: what its steps and pushes are given, and what they give."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from .program import Edges
from .state import Lent, State

__all__ = ["Executor", "Push"]


class Executor(Protocol):
    """Runs a program. Threads may share it.

    any_batch: whether its workspaces serve steps of fewer streams too, so that an engine has no batch to fill up;
    pushes: whether it has a `push` for any network at all.
    """

    any_batch: bool
    pushes: bool

    def workspace(self, batch: int, frames: int, part: int = 0) -> Any:
        """Memory for steps of `batch` streams by `frames` frames; the calling thread's own, another for each `part`:
        what a step makes of streams that are lent is there until it is written, or until another step of that thread
        and part runs, of whatever executor.
        """

    def step(self, work: Any, x: Tensor, state: State | Lent, edges: Edges | None = None) -> Tensor:
        """Whole frames of rows to rows of output, in memory of their own; moves `state` on, in place (`Network.step`).

        A step that fails has changed nothing, and so has one of streams that are lent, until these are written.
        """

    def push(
        self, batch: int, frames: int, state: State, quantize: Callable[[Tensor], Tensor], stages: int
    ) -> "Push | None":
        """What pushes so many whole frames at a time of some streams of `state`, no more than `batch`: a step and the
        operation that is bound (`ops.Bound.run`), with so many `stages`. None where it has no quicker way than both.
        """


class Push(Protocol):
    """codes: [streams * frames, stages] int64, those of the last push."""

    codes: Tensor

    def __call__(
        self,
        given: Sequence[int],
        made: Sequence[int],
        streams: Sequence[int],
        edges: Sequence[tuple[int, int]] | None = None,
    ) -> bool:
        """streams: which of the state's are pushed, none twice. made: two numbers for each of them, the address where
        its codes go, int64 [stages, frames], or its samples, and 1 where these are int16, 0 for float32; on a CPU, as
        all is here.

        given: stretches of such samples or codes, stream after stream, each of six numbers: address, the number of its
        stream among `streams`, rows, row, width, column, where `row` and `column` are how far apart two rows and two
        columns are, in numbers; a row has one sample, or the codes of a frame.

        edges: the two numbers of `Edges` for each stream; None: no row touches an edge of its signal. With edges, rows
        that are not given are beyond the end of their signal.

        False where it cannot be done, for a sample that is not finite among other things: then nothing has changed.
        """
