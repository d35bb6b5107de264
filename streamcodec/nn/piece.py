"""What a stream's core takes and gives."""

from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["Core", "Piece"]


class Piece(NamedTuple):
    """Rows of a signal, [B, n, C].

    scale: the gain of each row where the codec normalises, [B, n], or None; length: samples that latents stand for, for
    codecs that work on segments (see `SegmentDecoder`).
    """

    rows: Tensor
    scale: Tensor | None = None
    length: int = 0


class Core(Protocol):
    """One direction of a codec, fed any number of rows at a time; its pieces add up to the offline result."""

    def push(self, piece: Piece) -> Piece:
        """The output that is final once `piece` is in."""

    def flush(self) -> Piece:
        """The output that is left at the end of the signal."""

    def save(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Everything it remembers: tensors and whole numbers, by name."""

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        """The inverse of `save`. Raises StateError, and then has changed nothing."""
