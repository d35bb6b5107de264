"""Signals of unequal lengths in segments: those of one length are coded together, and each signal joined again."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from ..codes import Codes
from ..nn.layer import Layer
from ..nn.piece import Piece
from .framing import Rowwise
from .segments import SegmentDecoder, Segments, join

__all__ = ["decode_in_pieces", "encode_together"]


@torch.no_grad()
def encode_together(
    segments: Segments, encoder: Layer, signals: Sequence[Tensor], at_once: int, quantize: Rowwise
) -> list[Piece]:
    """Each signal [N, C] to `quantize` of what `Segments.encode` gives of it alone, [T, ...], with its scale [T].

    at_once: segments that are in memory together.
    """
    found: dict[tuple[int, int], Piece] = {}
    for places in _batches(segments, [len(signal) for signal in signals], at_once):
        rows = torch.stack([signals[index][start : start + size] for size, index, start in places])
        piece = segments.encode_one(rows, encoder)
        coded = quantize(piece.rows)
        for row, (_, index, start) in enumerate(places):
            scale = None if piece.scale is None else piece.scale[row, None]
            found[index, start] = Piece(coded[row, None], scale)
    in_order = groupby(sorted(found), key=lambda place: place[0])
    joined = [join([found[place] for place in places]) for _, places in in_order]
    return [Piece(rows[0], None if scale is None else scale[0]) for rows, scale, _ in joined]


def _batches(segments: Segments, lengths: list[int], at_once: int) -> Iterator[list[tuple[int, int, int]]]:
    """Every segment, as its samples, its signal and where it starts there; at most `at_once` of the same length."""
    assert segments.length is not None
    assert segments.stride is not None
    places = [
        (min(segments.length, length - start), index, start)
        for index, length in enumerate(lengths)
        for start in range(0, max(1, length), segments.stride)  # an empty signal is one empty segment
    ]
    for _, group in groupby(sorted(places, reverse=True), key=lambda place: place[0]):
        same = list(group)
        yield from (same[first : first + at_once] for first in range(0, len(same), at_once))


def decode_in_pieces(
    segments: Segments, decoder: Layer, codes: Codes, length: int, at_once: int, dequantize: Rowwise
) -> Tensor:
    """Codes of batch 1, which stand for `length` samples, to what `Segments.decode` gives of them, [N, C].

    at_once: segments that are decoded at a time.
    """
    assert segments.frames is not None
    assert segments.length is not None
    assert segments.stride is not None
    data = codes.data.transpose(1, 2)
    core = SegmentDecoder(segments, decoder, dequantize(data[:, :0]))
    frames, first, out = at_once * segments.frames, 0, []
    # What ends the signal comes in one piece, with its length: frames alone do not tell several short segments apart.
    whole = 0 if length < segments.length else 1 + (length - segments.length) // segments.stride
    while first < data.shape[1]:
        stop = min(first + frames, whole * segments.frames) if first < whole * segments.frames else data.shape[1]
        covered = min(length, (stop - first) // segments.frames * segments.stride) if stop < data.shape[1] else length
        scale = None if codes.scale is None else codes.scale[:, first:stop]
        out.append(core.push(Piece(dequantize(data[:, first:stop]), scale, covered)).rows)
        first, length = stop, length - covered
    return torch.cat([*out, core.flush().rows], 1)[0]
