"""Streaming with a speech model: every few frames it runs, offline, on a window of samples around them.

A speech model attends to the whole utterance, so its offline features cannot be streamed. What can is this, and it is
what "windowed" means here. The signal is padded with zeros to a whole number T of frames. Frames are taken `hop` at a
time: for those from frame s on, the speech model hears exactly the samples of the frames

    max(0, s - left) .. min(T, s + hop + right) - 1

as if they were the whole recording (its own padding included), and the features of the frames s .. s + hop - 1 are
kept. Everything behind and beside the speech model runs over the whole signal. `windowed_features` is that for a signal
that is there at once; `WindowedCore` is the same for one that arrives: each run gets the same samples in both, however
the signal is cut. With left and right at least T it is the run over the whole signal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .. import state as states
from ..codes import Codes
from ..errors import StateError
from ..nn.layer import Layer
from ..nn.piece import Core, Piece
from ..nn.transducer import Network, Transducer
from ..spec import SemanticWindow
from ..stream import Start
from .framed import Framed, FramedCore
from .framing import Primed, Rowwise
from .hearing import SpeechFeatures

__all__ = ["Windowed", "WindowedCore", "WindowedParts", "joined", "whole_frames", "windowed_features"]


def whole_frames(rows: Tensor, hop_length: int) -> Tensor:
    """`rows` [B, N, C] with zeros up to a whole number of frames."""
    return torch.nn.functional.pad(rows, (0, 0, 0, -rows.shape[1] % hop_length))


def joined(layer: Layer, acoustic: Tensor, semantic: Tensor) -> Tensor:
    """Latents of both branches, [B, T, D1] and [B, T, D2], through the projection to those that are quantized."""
    latents: Tensor = layer(torch.cat([acoustic, semantic], 2))
    return latents


class WindowedParts(NamedTuple):
    """What a windowed encoder is made of.

    acoustic: samples to acoustic latents; semantic: features to semantic latents, one row per frame; features: samples
    of whole frames [B, n * hop_length, 1] to features [B, n * per_frame, C], offline; projection: acoustic and semantic
    latents of the same frames, side by side, to what is quantized.
    """

    acoustic: Network
    semantic: Network
    features: SpeechFeatures
    projection: Layer

    @property
    def hop_length(self) -> int:
        return self.features.hearing.hop_length

    @property
    def per_frame(self) -> int:
        """Rows of features per frame."""
        return self.features.hearing.per_frame

    def run(self, rows: Tensor, window: SemanticWindow, start: int, frames: int, first: int = 0) -> Tensor:
        """Features of the frames from `start` on, at most `window.hop`, of a signal of `frames` frames.

        rows: its samples from frame `first` on.
        """
        begin, end = window.heard(start, frames)
        heard = self.features(rows[:, (begin - first) * self.hop_length : (end - first) * self.hop_length])
        kept = slice((start - begin) * self.per_frame, (min(start + window.hop, end) - begin) * self.per_frame)
        return heard[:, kept]


def windowed_features(parts: WindowedParts, rows: Tensor, window: SemanticWindow) -> Tensor:
    """Features [B, T * per_frame, C] of a signal of whole frames, [B, T * hop_length, 1]."""
    frames = rows.shape[1] // parts.hop_length
    runs = [parts.run(rows, window, start, frames) for start in range(0, frames, window.hop)]
    return torch.cat(runs or [parts.features(rows)], 1)


class Windowed:
    """The encoder in windows of a speech model, the decoder frame by frame; see `Framing`.

    window: of streams that name none.
    """

    scaled = False
    appends = True
    analyse_each = None  # the speech model hears a whole signal

    def __init__(
        self, framed: Framed, semantic: Network, features: SpeechFeatures, projection: Layer, window: SemanticWindow
    ) -> None:
        """framed: the acoustic encoder and the decoder; the others are those of `WindowedParts`."""
        self.framed, self.window = framed, window
        self.parts = WindowedParts(framed.encoder, semantic, features, projection)
        self.networks = (*framed.networks, semantic)
        self.delays, self.prefills = (self.delay(window), framed.delays[1]), framed.prefills

    def delay(self, window: SemanticWindow | None = None) -> int:
        """Samples by which an encoder with that window trails a frame's own last one, at most.

        At worst the last feature that a frame needs is the first of its hop, which waits for `right`.
        """
        window = window or self.window
        frames = self.parts.semantic.program.last_input(0) // self.parts.per_frame
        return max(self.framed.delays[0], (frames + window.hop + window.right - 1) * self.parts.hop_length)

    def features(self, rows: Tensor, window: SemanticWindow | None = None) -> Tensor:
        """`windowed_features` with that window."""
        return windowed_features(self.parts, rows, window or self.window)

    def stream_bytes(self, itemsize: int) -> tuple[int, int]:
        encoder, decoder = self.framed.stream_bytes(itemsize)
        window, hop_length = self.window, self.parts.hop_length
        # At most: the samples of a window and of a frame, and what one branch is ahead of the other by.
        ahead = self.delays[0] // hop_length + window.hop
        widest = max(self.parts.acoustic.out_channels, self.parts.semantic.out_channels)
        semantic = states.nbytes(self.parts.semantic.spec)
        return encoder + semantic + ((window.frames + 1) * hop_length + ahead * widest) * itemsize, decoder

    def multiply_adds(self) -> tuple[int, int]:
        encoder, decoder = self.framed.multiply_adds()
        acoustic, semantic, projection = self.parts.acoustic, self.parts.semantic, self.parts.projection
        joined = Network(projection, acoustic.out_channels + semantic.out_channels, self.framed.decoder.channels, 1)
        return encoder + semantic.program.multiply_adds + joined.program.multiply_adds, decoder

    def analyse(self, rows: Tensor) -> Piece:
        rows, parts = whole_frames(rows, self.parts.hop_length), self.parts
        semantic = parts.semantic.layer(parts.features(rows))
        return Piece(joined(parts.projection, parts.acoustic.layer(rows), semantic))

    def synthesise(self, latents: Tensor, scale: Tensor | None, length: int) -> Tensor:
        return self.framed.synthesise(latents, scale, length)

    def synthesise_each(
        self, codes: Sequence[Codes], lengths: Sequence[int], frames: int, dequantize: Rowwise
    ) -> list[Tensor]:
        return self.framed.synthesise_each(codes, lengths, frames, dequantize)

    def missing(self, samples: int) -> int:
        return self.framed.missing(samples)

    def covered(self, samples: int, frames: int) -> int:
        return self.framed.covered(samples, frames)

    def ends_short(self, length: int, frames: int) -> bool:
        return False

    def check_streamable(self, name: str) -> None:
        """Nothing stands against it."""

    def check_latents_suffice(self, name: str, call: str) -> None:
        """They do."""

    def encoder_core(
        self, batch: int, start: Start, window: SemanticWindow | None, like: Tensor, primed: Primed
    ) -> Core:
        core = WindowedCore(self.parts, window or self.window, like.new_zeros(batch, 0, 1))
        if start == "primed" and self.prefills[0]:
            core.prime(self.prefills[0])
        return core

    def decoder_core(self, batch: int, start: Start, like: Tensor, primed: Primed) -> Core:
        return self.framed.decoder_core(batch, start, like, primed)


class WindowedCore:
    """The encoder of a codec with a speech model, fed any number of samples at a time.

    It holds the samples that a later window still hears and the latents of the branch that is ahead of the other.
    """

    def __init__(self, parts: WindowedParts, window: SemanticWindow, empty: Tensor):
        """empty: [B, 0, 1], for the batch, device and dtype."""
        self.parts, self.window = parts, window
        self.acoustic, self.semantic = self._branches(empty)
        self.pcm = empty  # from the first frame that the next window hears on
        self.waiting = tuple(empty.new_zeros(empty.shape[0], 0, network.out_channels) for network in parts[:2])
        self.start = self.received = 0  # the first frame of the next window's hop; samples so far
        self.skip = 0  # frames of a primed start's silence still to come out, and to be dropped

    def _branches(self, empty: Tensor) -> tuple[FramedCore, FramedCore]:
        acoustic, semantic = (
            FramedCore(Transducer(network, empty.shape[0], empty.device, empty.dtype))
            for network in (self.parts.acoustic, self.parts.semantic)
        )
        return acoustic, semantic

    @property
    def _first(self) -> int:
        """The frame with which `pcm` begins."""
        return max(0, self.start - self.window.left)

    def prime(self, frames: int) -> None:
        """Hear `frames` frames of silence first, whose codes nobody gets."""
        self.skip = frames
        self.push(Piece(self.pcm.new_zeros(self.pcm.shape[0], frames * self.parts.hop_length, 1)))

    @torch.inference_mode()
    def push(self, piece: Piece) -> Piece:
        return self._latents(self.acoustic.push(piece).rows, self._hear(piece.rows, end=False))

    @torch.inference_mode()
    def flush(self) -> Piece:
        zeros = self.pcm.new_zeros(self.pcm.shape[0], -self.received % self.parts.hop_length, 1)
        acoustic = [self.acoustic.push(Piece(zeros)).rows, self.acoustic.flush().rows]
        semantic = [self._hear(zeros, end=True), self.semantic.flush().rows]
        return self._latents(torch.cat(acoustic, 1), torch.cat(semantic, 1))

    def _hear(self, rows: Tensor, end: bool) -> Tensor:
        """More samples to the semantic latents that are now final; `end`: the windows that the end of it cuts, too."""
        window, hop_length = self.window, self.parts.hop_length
        pcm, first = torch.cat([self.pcm, rows], 1), self._first
        self.received += rows.shape[1]
        frames = self.received // hop_length
        latents = [self.semantic.push(Piece(self.parts.features(rows[:, :0]))).rows]
        while self.start + window.hop + window.right <= frames or (end and self.start < frames):
            features = self.parts.run(pcm, window, self.start, frames, first)
            latents.append(self.semantic.push(Piece(features)).rows)
            self.start += window.hop
        # Cloned: neither the caller's memory nor a whole push is held for the sake of its last samples.
        self.pcm = pcm[:, (self._first - first) * hop_length :].clone()
        return torch.cat(latents, 1)

    def _latents(self, *more: Tensor) -> Piece:
        """Both branches' next latents to those of the frames that both have."""
        acoustic, semantic = (torch.cat([old, new], 1) for old, new in zip(self.waiting, more, strict=True))
        ready = min(acoustic.shape[1], semantic.shape[1])
        self.waiting = (acoustic[:, ready:].clone(), semantic[:, ready:].clone())
        dropped = min(self.skip, ready)
        self.skip -= dropped
        return Piece(joined(self.parts.projection, acoustic[:, dropped:ready], semantic[:, dropped:ready]))

    def save(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        tensors = {"pcm": self.pcm, "waiting.0": self.waiting[0], "waiting.1": self.waiting[1]}
        saved = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        numbers = {"start": self.start, "received": self.received, "skip": self.skip}
        for name in _BRANCHES:
            more, counts = getattr(self, name).save()
            saved |= {f"{name}.{key}": tensor for key, tensor in more.items()}
            numbers |= {f"{name}.{key}": count for key, count in counts.items()}
        return saved, numbers

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        branches = self._branches(self.pcm[:, :0])
        for name, branch in zip(_BRANCHES, branches, strict=True):
            branch.load(_under(name, tensors), _under(name, numbers))
        own = {name for name in tensors if not name.startswith(_PREFIXES)}
        counts = {name: count for name, count in numbers.items() if not name.startswith(_PREFIXES)}
        if own != {"pcm", "waiting.0", "waiting.1"} or counts.keys() != {"start", "received", "skip"}:
            raise StateError("saved state is not that of a windowed encoder")
        self._check(tensors, counts["start"], counts["received"])
        device = self.pcm.device
        self.acoustic, self.semantic = branches
        self.start, self.received, self.skip = counts["start"], counts["received"], counts["skip"]
        self.pcm = tensors["pcm"].to(device)
        self.waiting = (tensors["waiting.0"].to(device), tensors["waiting.1"].to(device))

    def _check(self, tensors: dict[str, Tensor], start: int, received: int) -> None:
        """Raises StateError where the samples and latents held are not those of a stream at that place."""
        window, hop_length = self.window, self.parts.hop_length
        held = received - max(0, start - window.left) * hop_length
        if start % window.hop or not 0 <= held < (window.frames + 1) * hop_length:
            raise StateError("saved state has a place in the stream that no window begins at")
        likes = {"pcm": self.pcm, "waiting.0": self.waiting[0], "waiting.1": self.waiting[1]}
        for name, like in likes.items():
            found = tensors[name]
            if found.dim() != 3 or found.shape[::2] != like.shape[::2] or found.dtype != like.dtype:
                raise StateError(f"saved state has {name!r} as {found.dtype} {list(found.shape)}; it is damaged")
        ahead = max(tensors["waiting.0"].shape[1], tensors["waiting.1"].shape[1])
        if tensors["pcm"].shape[1] != held or ahead * hop_length > received + window.hop * hop_length:
            raise StateError("saved state holds other samples or latents than its place in the stream says")


_BRANCHES = ("acoustic", "semantic")
_PREFIXES = tuple(f"{name}." for name in _BRANCHES)


def _under(prefix: str, named: dict) -> dict:
    return {name.removeprefix(f"{prefix}."): value for name, value in named.items() if name.startswith(f"{prefix}.")}
