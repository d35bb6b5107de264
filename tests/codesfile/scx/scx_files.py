"""Small .scx files for the tests of the format: without a codec, at 24 kHz and 75 frames a second."""

from pathlib import Path

import numpy as np

from streamcodec.codesfile import CodesBlock, CodesHeader
from streamcodec.codesfile.scx import ScxHeader, ScxReader, ScxWriter

HOP = 320
CODES = CodesHeader(
    codec="tiny", source="somewhere/tiny", fingerprint="ab" * 32, bandwidth=1.5, sample_rate=24000, channels=1,
    hop_length=HOP, codebook_size=1024, start="exact",
)  # fmt: skip
HEADER = ScxHeader(CODES, created="2026-01-02T03:04:05+00:00", metadata={"title": "a talk"}, pre_roll=4)


def block(frames: int, codebooks: int = 3, seed: int = 0, scaled: bool = False, short: int = 0) -> CodesBlock:
    random = np.random.default_rng(seed)
    scale = random.uniform(0.5, 2, (1, frames)).astype(np.float32) if scaled else None
    return CodesBlock(random.integers(0, 1024, (1, codebooks, frames)), scale, frames * HOP - short)


def write(path: Path, blocks: list[CodesBlock | int], header: ScxHeader = HEADER, **options) -> Path:
    """A number stands for as many missing frames."""
    with ScxWriter(path, header, block_seconds=0.2, **options) as writer:
        for one in blocks:
            if isinstance(one, int):
                writer.missing(one)
            else:
                writer.write(one)
    return path


def frames_of(path: Path, place: int = 0) -> dict[int, list[int]]:
    """The codes of each frame that can be read, by its place in the file."""
    with ScxReader(path) as reader:
        return {
            piece.at + HOP * (piece.frame + t): [int(code) for code in piece.data[:, t]]
            for piece in reader.pieces(place)
            for t in range(piece.data.shape[1])
        }
