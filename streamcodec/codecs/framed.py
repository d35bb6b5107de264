"""Codecs that run frame by frame: a `Transducer` as the core of a stream, and its primed start."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import state as states
from ..codes import Codes
from ..errors import StateError
from ..nn.layer import Layer
from ..nn.piece import Core, Piece
from ..nn.ragged import run_together
from ..nn.transducer import Network, Progress, Transducer
from ..spec import SemanticWindow
from ..state import State
from ..stream import Start
from .framing import Primed, Rowwise

__all__ = ["Framed", "FramedCore", "primed"]


class Framed:
    """Frame by frame; see `Framing`. encoder, decoder: the two halves placed for streaming."""

    scaled = False
    appends = True
    delays: tuple[int, int]

    def __init__(
        self, encoder: Layer, decoder: Layer, *, channels: int, encoded: int, decoded: int, hop_length: int,
        floors: bool = False,
    ) -> None:  # fmt: skip
        """channels: of the audio; encoded, decoded: of the latents that `encoder` gives and that `decoder` takes.

        floors: whether the encoder leaves out samples that do not fill a last frame.
        """
        self.hop_length, self.floors = hop_length, floors
        self.encoder = Network(encoder, channels, encoded, hop_length)
        self.decoder = Network(decoder, decoded, channels, 1, look_ahead=0)
        self.networks = (self.encoder, self.decoder)
        self.delays = (self.encoder.look_ahead, self.decoder.out.lag)
        self.prefills = (self.encoder.prefill_frames, self.decoder.prefill_frames)

    def stream_bytes(self, itemsize: int) -> tuple[int, int]:
        return states.nbytes(self.encoder.spec), states.nbytes(self.decoder.spec)

    def multiply_adds(self) -> tuple[int, int]:
        return self.encoder.program.multiply_adds, self.decoder.program.multiply_adds

    def analyse(self, rows: Tensor) -> Piece:
        return Piece(self.encoder.layer(rows))

    def synthesise(self, latents: Tensor, scale: Tensor | None, length: int) -> Tensor:
        rows: Tensor = self.decoder.layer(latents)
        return rows

    def analyse_each(
        self, signals: Sequence[Tensor], lengths: Sequence[int], frames: int, quantize: Rowwise
    ) -> list[Piece]:
        return [Piece(rows) for rows in run_together(self.encoder, signals, lengths, frames, after=quantize)]

    def synthesise_each(
        self, codes: Sequence[Codes], lengths: Sequence[int], frames: int, dequantize: Rowwise
    ) -> list[Tensor]:
        signals = [each.data[0].T for each in codes]
        return run_together(self.decoder, signals, [len(each) for each in signals], frames, before=dequantize)

    def missing(self, samples: int) -> int:
        if not (self.floors and samples):
            return 0
        # DAC's decoder at 16 and 24 kHz ends 8 samples before its last frame does, which may take one frame more.
        short = max(0, self.hop_length - self.decoder.output_length(1))
        return -(-(samples + short) // self.hop_length) * self.hop_length - samples

    def covered(self, samples: int, frames: int) -> int:
        return min(samples, self.decoder.output_length(frames))

    def ends_short(self, length: int, frames: int) -> bool:
        return False

    def check_streamable(self, name: str) -> None:
        """Nothing stands against it."""

    def check_latents_suffice(self, name: str, call: str) -> None:
        """They do."""

    def encoder_core(
        self, batch: int, start: Start, window: SemanticWindow | None, like: Tensor, primed: Primed
    ) -> Core:
        return _core(self.encoder, batch, start, like, primed)

    def decoder_core(self, batch: int, start: Start, like: Tensor, primed: Primed) -> Core:
        return _core(self.decoder, batch, start, like, primed)


def _core(network: Network, batch: int, start: Start, like: Tensor, primed: Primed) -> "FramedCore":
    if start == "exact" or not network.prefill_frames:
        return FramedCore(Transducer(network, batch, like.device, like.dtype))
    return FramedCore(primed(network).fork_primed(batch))


class FramedCore:
    """A network in one direction; frames carry no scale."""

    def __init__(self, transducer: Transducer):
        self.transducer = transducer

    def push(self, piece: Piece) -> Piece:
        return Piece(self.transducer.push(piece.rows))

    def flush(self) -> Piece:
        return Piece(self.transducer.flush())

    def save(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        stream = self.transducer
        tensors = {"pending": stream.pending.cpu().contiguous()} | stream.state.save("state.")
        return tensors, stream.progress._asdict() | {"skip": stream.skip}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        stream, network = self.transducer, self.transducer.network
        if numbers.keys() != {*Progress._fields, "skip"} or min(numbers.values()) < 0:
            raise StateError("saved state lacks the place in the stream, or has a wrong one")
        tensors = dict(tensors)
        pending = tensors.pop("pending", None)
        if pending is None or pending.dim() != 3 or pending.shape[::2] != stream.pending.shape[::2]:
            raise StateError("saved state lacks the samples of the current frame, or they have another shape")
        limit = network.at.rate * (1 if numbers["frames"] else max(1, network.prefill_frames))
        if pending.shape[1] >= limit or pending.dtype != stream.pending.dtype:
            raise StateError(
                f"saved state holds {pending.shape[1]} waiting rows of {pending.dtype}; fewer than {limit} fit"
            )
        device = stream.pending.device
        stream.state = State.load(network.spec, tensors, pending.shape[0], device, "state.")
        stream.pending, stream.skip = pending.to(device), numbers["skip"]
        stream.progress = Progress(*(numbers[name] for name in Progress._fields))


@torch.no_grad()
def primed(network: Network, silence: Tensor) -> Transducer:
    """A stream of batch 1 that has heard `silence`, [1, n, C], the rows of the prefill frames."""
    stream = Transducer(network, 1, silence.device, silence.dtype, max_frames=max(1, network.prefill_frames))
    stream.push(silence)
    return stream


def silent_rows(network: Network, like: Tensor) -> Tensor:
    """The prefill frames' rows of zeros, [1, n, C], of the type and on the device of `like`."""
    rows = network.prefill_frames * network.at.rate
    return torch.zeros(1, rows, network.channels, dtype=like.dtype, device=like.device)
