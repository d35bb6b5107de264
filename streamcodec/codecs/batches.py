"""Signals and codes of unequal lengths, and long ones a piece at a time: each as if it were alone and whole.

On a CPU each signal is computed by itself: its codes are then those of the signal alone to the bit. On other devices
signals run together, in steps that know where each one ends (`nn.ragged`).
"""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol, SupportsFloat

import torch
from torch import Tensor

from ..codes import Codes
from ..errors import InputError
from ..nn.piece import Piece
from ..nn.quantize import Quantizer
from ..scalars import real
from ..spec import CodecSpec
from .framing import Framing

__all__ = ["decode_each", "encode_each"]


class Batching(NamedTuple):
    """together: signals of a batch; seconds: of audio of each in a step, None for all of it at once."""

    together: int
    seconds: float | None


def batching(device: torch.device) -> Batching:
    """What is quick on a device."""
    return Batching(1, None) if device.type == "cpu" else Batching(32, 10.0)


class Batched(Protocol):
    """A codec as this module sees it; each is described at `Codec`."""

    spec: CodecSpec
    quantizer: Quantizer
    framing: Framing

    @property
    def device(self) -> torch.device: ...
    def missing(self, samples: int) -> int: ...
    def covered(self, samples: int, frames: int) -> int: ...
    def encode_rows(self, rows: Tensor, count: int) -> Codes: ...
    def decode_checked(self, codes: Codes) -> Tensor: ...


def encode_each(codec: Batched, signals: list[Tensor], count: int, chunk_seconds: SupportsFloat | None) -> list[Codes]:
    """Signals [N, channels] to the codes of each, with `count` codebooks."""
    analyse_each = codec.framing.analyse_each
    frames = _frames(codec, chunk_seconds, analyse_each is not None)
    if frames is None or analyse_each is None:
        return [codec.encode_rows(signal[None], count) for signal in signals]

    def quantize(latents: Tensor) -> Tensor:
        return codec.quantizer.encode(latents, count)

    results: dict[int, Codes] = {}
    for group in _groups([(0, len(signal)) for signal in signals], batching(codec.device).together):
        some = [signals[i] for i in group]
        lengths = [len(signal) + codec.missing(len(signal)) for signal in some]
        pieces = analyse_each(some, lengths, frames, quantize)
        results |= {i: _codes(codec, piece, len(signals[i])) for i, piece in zip(group, pieces, strict=True)}
    return [results[i] for i in range(len(signals))]


def _codes(codec: Batched, piece: Piece, samples: int) -> Codes:
    """The codes [T, K] of a signal of so many samples."""
    scale = None if piece.scale is None else piece.scale[None]
    return Codes(piece.rows.T[None].contiguous(), scale, codec.covered(samples, len(piece.rows)))


def decode_each(codec: Batched, codes: list[Codes], chunk_seconds: SupportsFloat | None) -> list[Tensor]:
    """Checked codes of batch 1 to the audio of each, [1, channels, n]."""
    synthesise_each = codec.framing.synthesise_each
    frames = _frames(codec, chunk_seconds, synthesise_each is not None)
    if frames is None or synthesise_each is None:
        return [codec.decode_checked(each) for each in codes]
    codes = [each.to(codec.device) for each in codes]
    lengths = [codec.spec.samples(each.shape[2]) if each.length is None else each.length for each in codes]
    results: dict[int, Tensor] = {}
    for group in _groups([each.shape[1:] for each in codes], batching(codec.device).together):
        some, theirs = [codes[i] for i in group], [lengths[i] for i in group]
        rows = synthesise_each(some, theirs, frames, codec.quantizer.decode)
        results |= {i: each[: codes[i].length].T[None].contiguous() for i, each in zip(group, rows, strict=True)}
    return [results[i] for i in range(len(codes))]


def _groups(sizes: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Indices of items of one kind and of about one size, at most `most` at a time. sizes: kind and size of each."""
    order = sorted(range(len(sizes)), key=lambda i: tuple(sizes[i]))
    for _, same in groupby(order, key=lambda i: sizes[i][0]):
        indices = list(same)
        yield from (indices[first : first + most] for first in range(0, len(indices), most))


def _frames(codec: Batched, chunk_seconds: SupportsFloat | None, possible: bool) -> int | None:
    """Frames of a step; None where each signal is computed at once. possible: whether there can be several steps."""
    if chunk_seconds is None:
        seconds = batching(codec.device).seconds if possible else None
        return None if seconds is None else max(1, int(seconds * codec.spec.frame_rate))
    seconds = real(chunk_seconds, "chunk_seconds")
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"chunk_seconds is {chunk_seconds!r}; it must be a positive number of seconds, or None")
    if not possible:
        raise InputError(
            f"chunk_seconds is {chunk_seconds!r}, but {codec.spec.name} needs a recording as a whole: in pieces the "
            "result would be another one; leave chunk_seconds out"
        )
    return max(1, int(seconds * codec.spec.frame_rate))
