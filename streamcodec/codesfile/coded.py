"""Codes in a file in fewer bytes: blocks that are entropy coded, each of which decodes by itself."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..entropy import EntropyModel, FrameDecoder, FrameEncoder, Predictor, model_beside
from ..entropy.frames import Coded
from ..errors import AudioError, CheckpointError, CodesError

__all__ = ["BLOCK", "BlockPlace", "CodedFrames", "coded_blocks", "model_of_file", "places_of"]

BLOCK = 500  # frames
MOST = 2**20  # coded bytes of a block: a real one has some thousands

Array = NDArray[Any]


class BlockPlace(NamedTuple):
    """Where a block lies in the file, in bytes, and its check."""

    start: int
    size: int
    check: int


def coded_blocks(predictor: Predictor, rows: Iterator[Array]) -> Iterator[Coded]:
    """rows: the frames of each block, [T, K]."""
    for frames in rows:
        yield FrameEncoder(predictor).encode(frames.T)


def places_of(table: Array, base: int, size: int) -> list[BlockPlace]:
    """table: [B, 2], size and check of each block; base, size: of all of them in the file. Raises ValueError."""
    sizes, checks = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    if (
        (sizes < 0).any()
        or (sizes > MOST).any()
        or sizes.sum() != size
        or (checks < 0).any()
        or (checks > 0xFFFF).any()
    ):
        raise ValueError("has a damaged table of blocks")
    starts = base + np.cumsum(sizes) - sizes
    return [BlockPlace(*place) for place in zip(starts.tolist(), sizes.tolist(), checks.tolist(), strict=True)]


def model_of_file(name: str, hash: str, source: str, model: EntropyModel | None) -> EntropyModel:
    """The model that a file was coded with: the one given, or what lies beside the codec that the file names.

    Raises AudioError where that is another one, or none is there.
    """
    try:
        found = model or model_beside(source or None)
    except CheckpointError as error:
        raise AudioError(f"{name} cannot be decoded: {error}") from error
    if found is None or found.hash != hash:
        which = "none lies beside the codec" if found is None else f"this is {found.hash[:16]}"
        raise AudioError(f"{name} was coded with the entropy model {hash[:16]}, and {which}: name its file (--entropy)")
    return found


class CodedFrames:
    """The frames of a file's blocks. read: the bytes of a place; the block that was decoded last is kept."""

    def __init__(self, name: str, predictor: Predictor, places: Sequence[BlockPlace], shape: tuple[int, int]) -> None:
        self._name, self._predictor, self._places = name, predictor, places
        self._codebooks, self._frames = shape
        self._kept: tuple[int, Array] | None = None

    def rows(self, read: Any, start: int, end: int) -> Array:
        """Frames start..end - 1, [K, T] int64. Raises CodesError where one of their blocks is damaged."""
        parts = []
        while start < end:
            number, first = divmod(start, BLOCK)
            taken = min(end - start, BLOCK - first)
            parts.append(self._block(read, number)[:, first : first + taken])
            start += taken
        return np.concatenate(parts, 1)

    def _block(self, read: Any, number: int) -> Array:
        if self._kept is None or self._kept[0] != number:
            place, first = self._places[number], number * BLOCK
            count = min(BLOCK, self._frames - first)
            coded = Coded(read(place.start, place.size), place.check)
            try:
                codes = FrameDecoder(self._predictor).decode(coded, self._codebooks, count)
            except CodesError as error:
                raise CodesError(f"{self._name}: frames {first}..{first + count - 1}: {error}") from error
            self._kept = number, codes
        return self._kept[1]
