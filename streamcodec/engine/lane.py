"""One direction of the engine: what the batched and the single way have in common."""

from abc import ABC, abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from ..codecs import Codec
from ..codes import Codes
from ..errors import EngineFullError, QueueFullError, StateError
from ..stream import Start
from .figures import LaneFigures

__all__ = ["Lane", "Result", "Saved", "Side"]


class Saved(NamedTuple):
    """What a side remembers, by name; numbers can be written as JSON."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


class Side(ABC):
    """One direction of one session: its slot, what it was fed and how far it is. Owned by the lane that opened it."""

    def __init__(self, slot: int, owner: Any):
        self.slot, self.owner = slot, owner
        self.ended = self.done = self.closed = False

    @property
    @abstractmethod
    def queued(self) -> int:
        """What waits: samples for an encoder, frames for a decoder."""

    @abstractmethod
    def put(self, item: Any, bounded: bool = True) -> None:
        """More input, checked: rows of audio [1, n, channels] or Codes. Raises QueueFullError.

        bounded: False for what an encoder gives its own decoder, which always goes on.
        """

    @abstractmethod
    def end(self) -> None:
        """No more input comes."""

    @abstractmethod
    def save(self) -> Saved: ...


S = TypeVar("S", bound=Side)


class Result(NamedTuple):
    """What a step gave one side. output: pieces of codes, or rows of audio [n, channels]; error: why it failed."""

    side: Any
    output: "list[Codes] | Tensor | None" = None
    error: Exception | None = None


class Lane(ABC, Generic[S]):
    """The slots of one direction. frames: the fewest that a side moves on by in a step."""

    def __init__(self, codec: Codec, kind: str, slots: int, frames: int, max_queue: int):
        self.codec, self.kind, self.frames, self.max_queue = codec, kind, frames, max_queue
        self.sides: list[S | None] = [None] * slots
        self.batches = self.rows = self.frames_run = self.padding = self.alone = 0
        self.seconds = 0.0

    def admit(self) -> int:
        """A free slot. Raises EngineFullError."""
        if None not in self.sides:
            raise EngineFullError(
                f"all {len(self.sides)} {self.kind} slots are taken; close a session, or make an engine of more slots"
            )
        return self.sides.index(None)

    @abstractmethod
    def open(self, owner: Any, start: Start, bandwidth: float, saved: Saved | None = None) -> S:
        """Take a slot. Raises EngineFullError, StateError; then nothing was taken."""

    def close(self, side: Side) -> None:
        """Give the slot back; a second time does nothing."""
        if not side.closed:
            side.closed = True
            self.sides[side.slot] = None

    @abstractmethod
    def ready(self, side: S) -> bool:
        """Whether a step would move this side on."""

    @abstractmethod
    def run(self) -> list[Result]:
        """Move every ready side on by one step."""

    def any_ready(self) -> bool:
        return any(side is not None and self.ready(side) for side in self.sides)

    def check_room(self, queued: int, more: int, unit: str, per_frame: int) -> None:
        """Raises QueueFullError unless `more` fit beside the `queued` that wait."""
        limit = self.max_queue * per_frame
        if more and queued + more > limit:
            raise QueueFullError(
                f"{more} {unit} do not fit: {queued} of at most {limit} wait already, so there is room for "
                f"{max(0, limit - queued)}; run steps, or feed less at a time"
            )

    def check_restored(self, waiting: int) -> None:
        """Raises StateError where a saved queue is longer than this engine allows."""
        if waiting > self.max_queue:
            raise StateError(f"saved session has {waiting} frames waiting; this engine holds at most {self.max_queue}")

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory for the states of all slots, allocated up front."""

    def figures(self, batched: bool, per_frame: int) -> LaneFigures:
        sides = [side for side in self.sides if side is not None]
        return LaneFigures(
            batched=batched,
            open=len(sides),
            slots=len(self.sides),
            queued=sum(side.queued // per_frame for side in sides),
            batches=self.batches,
            rows=self.rows,
            frames=self.frames_run,
            padding=self.padding,
            alone=self.alone,
            nbytes=self.nbytes,
            seconds=self.seconds,
        )
