"""A first run of everything, so that a first stream need not wait for what is made once."""

from typing import Any, Protocol

import torch
from torch import Tensor

from ..codes import Codes
from ..latent_stream import LatentDecoderStream, LatentEncoderStream
from ..spec import CodecSpec
from ..stream import DecoderStream, EncoderStream, Start
from .segments import Segments

__all__ = ["run_through"]


class Runnable(Protocol):
    """What of a codec is run; each is described at `Codec`."""

    spec: CodecSpec
    segments: Segments | None

    def encode(self, wav: Tensor) -> Codes: ...
    def decode(self, codes: Codes) -> Tensor: ...
    def open_encoder(self, bandwidth: float | None, batch: int, *, start: Start) -> EncoderStream: ...
    def open_decoder(self, batch: int, *, start: Start) -> DecoderStream: ...
    def open_latent_encoder(self, batch: int, *, start: Start) -> LatentEncoderStream: ...
    def open_latent_decoder(self, batch: int, *, start: Start) -> LatentDecoderStream: ...


def run_through(codec: Runnable, frames: int, batch: int) -> None:
    """Streams of `batch` rows with each kind of start, in pushes of `frames`, until audio comes out and twice more."""
    spec, step = codec.spec, frames * codec.spec.hop_length
    if codec.segments is not None and codec.segments.length is None:
        codec.decode(codec.encode(torch.zeros(batch, spec.channels, step)))
        return
    pushes = 2 + -(-(spec.delay + (spec.encoder_prefill + spec.decoder_prefill) * spec.hop_length) // step)
    starts: tuple[Start, ...] = ("exact", "primed") if spec.prefill_frames else ("exact",)
    for start in starts:
        encoder, decoder = _streams(codec, batch, start)
        for _ in range(pushes):
            decoder.push(encoder.push(torch.zeros(batch, spec.channels, step)))
        decoder.push(encoder.flush())
        decoder.flush()


def _streams(codec: Runnable, batch: int, start: Start) -> tuple[Any, Any]:
    """Of codes, or of latents where there are no codes: a decoder of what the encoder gives."""
    if not codec.spec.num_codebooks:
        return codec.open_latent_encoder(batch, start=start), codec.open_latent_decoder(batch, start=start)
    return codec.open_encoder(codec.spec.bandwidths[-1], batch, start=start), codec.open_decoder(batch, start=start)
