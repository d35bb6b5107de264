"""Codecs that work on whole segments: each is normalised, coded on its own and overlapped with its neighbours.

EnCodec 48 kHz (Défossez et al. 2022, section 3.4): segments of 1 s start every 0.99 s; each is divided by the root mean
square of its mono mix before it is encoded and multiplied by it again after it was decoded; where segments overlap they
are weighted by triangles over the segments and divided by the sum of the weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, StateError
from ..nn.layer import Layer
from ..nn.piece import Piece

__all__ = ["SegmentDecoder", "SegmentEncoder", "Segments", "join"]

# Upstream's guard against division by zero in digital silence (EncodecModel._encode_frame).
SCALE_FLOOR = 1e-8


@dataclass(frozen=True)
class Segments:
    """How a signal is cut.

    length, stride: samples, None for the whole signal at once; normalize: scale each segment.
    """

    hop_length: int
    length: int | None
    stride: int | None
    normalize: bool

    def __post_init__(self) -> None:
        if self.length is None:
            return
        if self.stride is None:
            raise ConfigError("chunk_length_s is set but overlap is not; segments need both")
        if not 0 < self.stride <= self.length:
            raise ConfigError(f"segments of {self.length} samples cannot start every {self.stride} samples")

    @property
    def frames(self) -> int | None:
        """Frames of a whole segment."""
        return None if self.length is None else -(-self.length // self.hop_length)

    def cut(self, length: int) -> list[int]:
        """Frames of each segment of a signal of `length` samples."""
        whole, stride = self.length or max(1, length), self.stride or max(1, length)
        return [-(-min(whole, length - start) // self.hop_length) for start in range(0, length, stride)]

    def scale(self, rows: Tensor) -> Tensor:
        """What `normalize` divides a segment [B, n, C] by, [B]: the root mean square of its mono mix."""
        return rows.mean(2).square().mean(1).sqrt() + SCALE_FLOOR

    def encode_one(self, rows: Tensor, encoder: Layer) -> Piece:
        """One segment [B, n, C] to its latents [B, T, D] and the scale of each frame [B, T]."""
        if not self.normalize:
            return Piece(encoder(rows))
        scale = self.scale(rows)
        latents = encoder(rows / scale[:, None, None])
        return Piece(latents, scale[:, None].expand(-1, latents.shape[1]).contiguous())

    def decode_one(self, latents: Tensor, scale: Tensor | None, decoder: Layer) -> Tensor:
        """The inverse: latents of one segment to its rows."""
        rows = decoder(latents)
        return rows if scale is None or not self.normalize else rows * scale[:, :1, None]

    def encode(self, rows: Tensor, encoder: Layer) -> Piece:
        """A whole signal, [B, N, C]."""
        length, stride = self.length or max(1, rows.shape[1]), self.stride or max(1, rows.shape[1])
        starts = range(0, max(1, rows.shape[1]), stride)  # an empty signal is one empty segment
        pieces = [self.encode_one(rows[:, start : start + length], encoder) for start in starts]
        return join(pieces)

    def decode(self, latents: Tensor, scale: Tensor | None, length: int, decoder: Layer) -> Tensor:
        """A whole signal of latents, [B, T, D], that stand for `length` samples, to rows."""
        if self.length is None:
            return self.decode_one(latents, scale, decoder)
        core = SegmentDecoder(self, decoder, latents[:, :0])
        return torch.cat([core.push(Piece(latents, scale, length)).rows, core.flush().rows], 1)


def join(pieces: list[Piece]) -> Piece:
    """Pieces one after the other."""
    scales = [piece.scale for piece in pieces if piece.scale is not None]
    rows = torch.cat([piece.rows for piece in pieces], 1)
    return Piece(rows, torch.cat(scales, 1) if len(scales) == len(pieces) else None)


class SegmentEncoder:
    """Collects samples and encodes each segment as soon as it is whole."""

    def __init__(self, segments: Segments, encoder: Layer, empty: Tensor):
        assert segments.length is not None
        assert segments.stride is not None
        self.segments, self.encoder = segments, encoder
        self.length, self.stride = segments.length, segments.stride
        self.pending = empty  # [B, 0, C]

    def push(self, piece: Piece) -> Piece:
        self.pending = torch.cat([self.pending, piece.rows], 1)
        return self._encode_while(self.length)

    def flush(self) -> Piece:
        return self._encode_while(1)

    def _encode_while(self, wanted: int) -> Piece:
        pieces = [self.segments.encode_one(self.pending[:, :0], self.encoder)]
        rows = self.pending
        with torch.no_grad():
            while rows.shape[1] >= wanted:
                pieces.append(self.segments.encode_one(rows[:, : self.length], self.encoder))
                rows = rows[:, self.stride :]
        self.pending = rows.clone()
        return join(pieces)

    def save(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        return {"pending": self.pending.cpu().contiguous()}, {}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        pending = tensors.get("pending")
        if pending is None or pending.dim() != 3 or pending.shape[::2] != self.pending.shape[::2]:
            raise StateError("saved state lacks the samples of the current segment, or they have another shape")
        self.pending = pending.to(self.pending.device, self.pending.dtype)


class SegmentDecoder:
    """Collects frames, decodes each segment as soon as it is whole and overlaps it with its neighbours.

    Where segments overlap, a signal can end in two that are not whole: 47,600 samples at 48 kHz give one of 149 frames
    and one of 1. Frames alone do not tell them from a whole segment of 150; the length does, for it then exceeds what
    as many frames of whole segments stand for. Where segments overlap by more than a frame there may be several frames
    of short segments, which then must come in one piece with their length, as an encoder's flush gives them.

    pending: latents not decoded yet, their scale, and the samples that they stand for; sums: [B, n, C], weighted rows
    not emitted yet; weights: [n], the sum of their weights.
    """

    def __init__(self, segments: Segments, decoder: Layer, empty: Tensor):
        assert segments.stride is not None
        assert segments.frames is not None
        self.segments, self.decoder = segments, decoder
        self.frames, self.stride = segments.frames, segments.stride
        self.pending = Piece(empty, empty.new_zeros(empty.shape[:2]) if segments.normalize else None)
        self.sums, self.weights = self._empty(), empty.new_zeros(0)
        self.triangle_length = 0

    def push(self, piece: Piece) -> Piece:
        self.pending = self._append(piece)
        out = [self._empty()]
        if not self._ends_short():
            while self.pending.rows.shape[1] >= self.frames:
                out += [self._decode(self.frames), self._emit(self.stride)]
        rows, scale, length = self.pending
        self.pending = Piece(rows.clone(), None if scale is None else scale.clone(), length)
        return Piece(torch.cat(out, 1))

    def _append(self, piece: Piece) -> Piece:
        scale = self.pending.scale
        if scale is not None and piece.scale is not None:
            scale = torch.cat([scale, piece.scale], 1)
        return Piece(torch.cat([self.pending.rows, piece.rows], 1), scale, self.pending.length + piece.length)

    def _ends_short(self) -> bool:
        whole, rest = divmod(self.pending.rows.shape[1], self.frames)
        return self.pending.length > whole * self.stride + min(rest * self.segments.hop_length, self.stride)

    def flush(self) -> Piece:
        out = [self._empty()]
        frames = self.pending.rows.shape[1]
        for count in self.segments.cut(self.pending.length) if self._ends_short() else [frames] if frames else []:
            out += [self._emit(self.stride)] if len(out) > 1 else []
            out.append(self._decode(count))
        out.append(self._emit(self.sums.shape[1]))
        return Piece(torch.cat(out, 1))

    def _empty(self) -> Tensor:
        with torch.no_grad():
            return self.decoder(self.pending.rows[:, :0])

    def _decode(self, frames: int) -> Tensor:
        """Decode the first `frames` pending frames and add them to the sums; returns no rows of its own."""
        latents, scale, length = self.pending
        with torch.no_grad():
            rows = self.segments.decode_one(latents[:, :frames], scale, self.decoder)
        rest = None if scale is None else scale[:, frames:]
        self.pending = Piece(latents[:, frames:], rest, max(0, length - self.stride))
        self._overlap(rows)
        return rows[:, :0]

    def _triangle(self, rows: Tensor) -> Tensor:
        """Upstream's weight: a triangle over the FIRST segment's length, cut to this segment's."""
        self.triangle_length = self.triangle_length or rows.shape[1]
        ramp = torch.linspace(0, 1, self.triangle_length + 2, device=rows.device, dtype=rows.dtype)[1:-1]
        return (0.5 - (ramp - 0.5).abs())[: rows.shape[1]]

    def _overlap(self, rows: Tensor) -> None:
        weight = self._triangle(rows)
        length = max(rows.shape[1], self.sums.shape[1])
        sums, weights = rows.new_zeros(rows.shape[0], length, rows.shape[2]), rows.new_zeros(length)
        sums[:, : self.sums.shape[1]] += self.sums
        weights[: self.weights.shape[0]] += self.weights
        sums[:, : rows.shape[1]] += weight[:, None] * rows
        weights[: rows.shape[1]] += weight
        self.sums, self.weights = sums, weights

    def _emit(self, rows: int) -> Tensor:
        out = self.sums[:, :rows] / self.weights[:rows, None]
        self.sums, self.weights = self.sums[:, rows:].clone(), self.weights[rows:].clone()
        return out

    def save(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        named = {"sums": self.sums, "weights": self.weights, "pending": self.pending.rows, "scale": self.pending.scale}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in named.items() if tensor is not None}
        return tensors, {"triangle_length": self.triangle_length, "length": self.pending.length}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        like = {"sums": self.sums, "weights": self.weights, "pending": self.pending.rows}
        if self.pending.scale is not None:
            like["scale"] = self.pending.scale
        if tensors.keys() != like.keys() or numbers.keys() != {"triangle_length", "length"}:
            raise StateError("saved state is not that of a segment decoder")
        for name, wanted in like.items():
            if _without_rows(tensors[name]) != _without_rows(wanted):
                found = f"{tensors[name].dtype} {list(tensors[name].shape)}"
                raise StateError(f"saved state has {name!r} as {found}; it is another codec's, or damaged")
        moved = {name: tensor.to(like[name].device) for name, tensor in tensors.items()}
        self.sums, self.weights = moved["sums"], moved["weights"]
        self.pending = Piece(moved["pending"], moved.get("scale"), numbers["length"])
        self.triangle_length = numbers["triangle_length"]


def _without_rows(tensor: Tensor) -> tuple[torch.dtype, list[int]]:
    """Dtype and shape but for the number of rows, which is all that the states of one codec's streams differ in."""
    rows = 0 if tensor.dim() < 2 else 1
    return tensor.dtype, [*tensor.shape[:rows], *tensor.shape[rows + 1 :]]
