"""What every codec family shares: the offline calls, the networks placed for streaming, and the way to a stream."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import ops
from .. import state as states
from ..codes import Codes
from ..errors import CodesError, DtypeError, InputError, NonFiniteError, NotStreamableError, ShapeError
from ..nn.layer import Layer
from ..nn.piece import Core, Piece
from ..nn.quantize import Quantizer
from ..nn.transducer import Network, Transducer
from ..pcm import as_float
from ..stream import DecoderStream, EncoderStream
from .framed import FramedCore, primed, silent_rows
from .segments import SegmentDecoder, SegmentEncoder, Segments
from .spec import CodecSpec, SemanticWindow

__all__ = ["Codec", "check_start"]


class Codec(nn.Module, ABC):
    """A codec with its weights. Make one with `streamcodec.load`.

    encoder: audio rows [B, N, channels] to latents [B, T, D]; decoder: latents to audio rows; quantizer: latents to
    codes and back. `encode` and `decode` run the whole signal; `open_encoder` and `open_decoder` give streams that
    return the same results piece by piece.
    """

    spec: CodecSpec
    config: dict[str, Any]
    encoder: Layer
    decoder: Layer
    quantizer: Quantizer
    segments: Segments | None = None
    default_window: SemanticWindow | None = None
    encoder_network: Network | None = None
    decoder_network: Network | None = None

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, Any] = {}
        self._cached_for: ops.Stamp | None = None

    def place(
        self,
        *,
        name: str,
        sample_rate: int,
        channels: int,
        hop_length: int,
        latent_channels: int,
        bandwidths: tuple[float, ...],
        default_bandwidth: float,
        bandwidth_codebooks: tuple[int, ...] = (),
    ) -> None:
        """Place the networks for streaming and write the spec: the last thing that a family's constructor does."""
        segments = self.segments
        self.encoder_network = self.decoder_network = None
        delays, prefills = (0, 0), (0, 0)
        if segments is None:
            encoder, look_ahead = self._encoder_network(channels, latent_channels, hop_length)
            decoder = Network(self.decoder, latent_channels, channels, 1)
            self.encoder_network, self.decoder_network = encoder, decoder
            delays, prefills = (look_ahead, decoder.out.lag), (encoder.prefill_frames, decoder.prefill_frames)
        elif segments.length is not None and segments.stride is not None:
            # A segment's first frame waits for its last sample; the decoder holds back what the next segment overlaps.
            delays = (segments.length - hop_length, segments.length - segments.stride)
        sizes = self._stream_bytes(channels, latent_channels, hop_length)
        self.spec = CodecSpec(
            name=name,
            sample_rate=sample_rate,
            channels=channels,
            hop_length=hop_length,
            frame_rate=sample_rate / hop_length,
            num_codebooks=self.quantizer.codebooks.shape[0],
            codebook_size=self.quantizer.codebooks.shape[1],
            bandwidths=bandwidths,
            default_bandwidth=default_bandwidth,
            bandwidth_codebooks=bandwidth_codebooks,
            encoder_delay=delays[0],
            decoder_delay=delays[1],
            prefill_frames=max(prefills),
            bytes_per_stream=sum(sizes),
            encoder_prefill=prefills[0],
            decoder_prefill=prefills[1],
            encoder_bytes=sizes[0],
            decoder_bytes=sizes[1],
            segment_length=None if segments is None else segments.length,
            segment_stride=None if segments is None else segments.stride,
            semantic_window=self.default_window,
        )

    def _encoder_network(self, channels: int, latent_channels: int, hop_length: int) -> tuple[Network, int]:
        """The encoder placed for streaming, and its look-ahead in samples."""
        look_ahead = max(0, self.encoder.last_input(0) + 1 - hop_length)
        return Network(self.encoder, channels, latent_channels, hop_length, look_ahead), look_ahead

    def _stream_bytes(self, channels: int, latent_channels: int, hop_length: int) -> tuple[int, int]:
        """Memory of one encoder stream and of one decoder stream, in the codec's element type."""
        segments = self.segments
        if segments is None:
            return states.nbytes(self.encoder.state_spec()), states.nbytes(self.decoder.state_spec())
        if segments.length is None or segments.stride is None or segments.frames is None:
            return 0, 0
        # At most: a segment's samples; its latents with their scale, and the overlap with its weights.
        overlap = segments.frames * segments.hop_length - segments.stride
        values = (segments.length * channels, segments.frames * (latent_channels + 1) + overlap * (channels + 1))
        return values[0] * self.dtype.itemsize, values[1] * self.dtype.itemsize

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Codec":
        super()._apply(fn, recurse)
        sizes = self._stream_bytes(self.spec.channels, self.quantizer.dimension, self.spec.hop_length)
        self.spec = replace(self.spec, bytes_per_stream=sum(sizes), encoder_bytes=sizes[0], decoder_bytes=sizes[1])
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.quantizer.codebooks.device

    @property
    def dtype(self) -> torch.dtype:
        """The element type of weights and state."""
        return self.quantizer.codebooks.dtype

    # -- offline ---------------------------------------------------------------------------------------------------

    def encode(self, wav: Any, bandwidth: float | None = None) -> Codes:
        """The whole signal at once.

        wav: [B, channels, N] float (full scale is -1..1) or int16 (scaled), torch or NumPy, at `spec.sample_rate`.
        bandwidth: kbps, one of `spec.bandwidths`; None is `spec.default_bandwidth`.
        Raises ShapeError, DtypeError, NonFiniteError, BandwidthError.
        """
        count = self.spec.codebooks(self.spec.default_bandwidth if bandwidth is None else bandwidth)
        rows = self.as_rows(wav)
        with torch.no_grad():
            latents, scale, _ = self.analyse(rows)
            codes = self.quantizer.encode(latents, count)
        length = self.covered(rows.shape[1], codes.shape[1])
        return Codes(codes.transpose(1, 2).contiguous(), scale, length)

    def analyse(self, rows: Tensor) -> Piece:
        """A whole signal, [B, N, channels], to the latents that are quantized, [B, T, D], with their scale."""
        return Piece(self.encoder(rows)) if self.segments is None else self.segments.encode(rows, self.encoder)

    def decode(self, codes: Codes | Tensor) -> Tensor:
        """The whole signal at once: [B, channels, codes.length], or all that the frames hold where length is None.

        Never more than the decoder gives: DAC's at 16 and 24 kHz ends 8 samples before its last frame does.

        codes: what `encode` gave, or bare codes [B, K, T].
        Raises InputError: ShapeError, DtypeError, NonFiniteError, CodesError.
        """
        codes = self.checked(codes)
        frames = codes.data.shape[2]
        length = self.spec.samples(frames) if codes.length is None else codes.length
        self.check_length(length, frames)
        with torch.no_grad():
            latents = self.latents(codes)
            if self.segments is None:
                rows = self.decoder(latents)
            else:
                rows = self.segments.decode(latents, codes.scale, length, self.decoder)
        return rows[:, : codes.length].transpose(1, 2).contiguous()

    # -- streams ---------------------------------------------------------------------------------------------------

    def open_encoder(
        self,
        bandwidth: float | None = None,
        batch: int | None = None,
        *,
        start: str | None = None,
        window: SemanticWindow | None = None,
        state: bytes | None = None,
    ) -> EncoderStream:
        """A stream from audio to codes; see `EncoderStream`.

        bandwidth: kbps; batch: signals that advance together (1); start: "exact" (equal to `encode`; waits for
        `spec.encoder_prefill` frames first) or "primed" (no wait; equal to `encode` of that many frames of silence and
        then the signal); window: what the speech model of a codec with `spec.semantic_window` hears at a time (that
        default); state: what `EncoderStream.save` returned, to go on from there.
        Raises BandwidthError, StateError, NotStreamableError, InputError.
        """
        self._check_streamable()
        return EncoderStream(self, bandwidth=bandwidth, batch=batch, start=start, window=window, state=state)

    def open_decoder(
        self,
        batch: int | None = None,
        *,
        start: str | None = None,
        bandwidth: float | None = None,
        state: bytes | None = None,
    ) -> DecoderStream:
        """A stream from codes to audio; see `DecoderStream`. Arguments as for `open_encoder`.

        bandwidth: only for a primed start, the bandwidth of the silence that it begins from (the highest).
        """
        self._check_streamable()
        return DecoderStream(self, batch=batch, start=start, bandwidth=bandwidth, state=state)

    def _check_streamable(self) -> None:
        if self.segments is not None and self.segments.length is None:
            raise NotStreamableError(
                f"{self.spec.name} normalises over the whole signal (its configuration has no chunk_length_s), so "
                "nothing can come out before the end; use encode() and decode(), or set chunk_length_s and overlap"
            )

    # -- what streams and engines build on -------------------------------------------------------------------------

    def as_rows(self, wav: Any, batch: int | None = None) -> Tensor:
        """Checked audio [B, channels, n] as rows [B, n, channels] on the codec's device."""
        pcm = as_float(wav, channels=self.spec.channels)
        if batch is not None and pcm.shape[0] != batch:
            raise ShapeError(f"audio has batch {pcm.shape[0]}, this stream was opened with batch={batch}")
        return pcm.to(self.device, self.dtype).transpose(1, 2)

    def checked(self, codes: Any, batch: int | None = None) -> Codes:
        """`codes`, where they can be decoded, the scale with the codec's device and dtype.

        Raises InputError: ShapeError, DtypeError, NonFiniteError, CodesError.
        """
        if isinstance(codes, Tensor):
            codes = Codes(codes)
        if not isinstance(codes, Codes):
            raise InputError(f"codes are {type(codes).__name__}; pass Codes or a torch.int64 tensor [B, K, T]")
        self._check_data(codes.data, batch)
        if codes.length is not None and (type(codes.length) is not int or codes.length < 0):
            raise CodesError(f"codes have length {codes.length!r}; a length is a whole number of samples, at least 0")
        self._check_scale(codes)
        if codes.scale is None:
            return codes
        return Codes(codes.data, codes.scale.to(self.device, self.dtype), codes.length)

    def covered(self, samples: int, frames: int) -> int:
        """Samples of a whole signal of `samples` that its `frames` frames bring back.

        All of them but where frames are floored (DAC): what does not fill a last frame is lost, upstream too.
        """
        return samples if self.segments is not None else min(samples, self.decoder.output_length(frames))

    def check_length(self, length: int, frames: int) -> None:
        """Raises CodesError where `frames` frames from the start of a stream cannot stand for `length` samples."""
        room = self.spec.samples(frames)
        if length > room and (self.segments is None or sum(self.segments.cut(length)) != frames):
            raise CodesError(f"{frames} frames of {self.spec.name} stand for {room} samples, not for {length}")

    def _check_data(self, data: Any, batch: int | None) -> None:
        spec = self.spec
        if not isinstance(data, Tensor) or data.dtype != torch.int64:
            kind = data.dtype if isinstance(data, Tensor) else type(data).__name__
            raise DtypeError(f"codes are {kind}; they must be a torch.int64 tensor [B, K, T]")
        if data.dim() != 3 or data.shape[0] < 1 or not 1 <= data.shape[1] <= spec.num_codebooks:
            raise ShapeError(f"codes have shape {list(data.shape)}; {spec.name} takes [B, 1..{spec.num_codebooks}, T]")
        if batch is not None and data.shape[0] != batch:
            raise ShapeError(f"codes have batch {data.shape[0]}, this stream was opened with batch={batch}")
        if data.numel():
            low, high = (int(value) for value in torch.aminmax(data))
            if low < 0 or high >= spec.codebook_size:
                raise CodesError(f"codes range over {low}..{high}; {spec.name} has entries 0..{spec.codebook_size - 1}")

    def _check_scale(self, codes: Codes) -> None:
        wanted = self.segments is not None and self.segments.normalize
        if wanted and codes.scale is None:
            raise ShapeError(f"{self.spec.name} normalises its input: codes need a scale [B, T], got None")
        scale, shape = codes.scale, (codes.data.shape[0], codes.data.shape[2])
        if scale is None:
            return
        if not isinstance(scale, Tensor) or not scale.is_floating_point():
            kind = scale.dtype if isinstance(scale, Tensor) else type(scale).__name__
            raise DtypeError(f"scale is {kind}; it must be a floating-point tensor [B, T]")
        if tuple(scale.shape) != shape:
            raise ShapeError(f"scale has shape {list(scale.shape)}; with these codes it must be {list(shape)}")
        if not bool(scale.isfinite().all()):
            raise NonFiniteError("scale holds NaN or infinity; the gain of a frame is a finite number")

    def latents(self, codes: Codes) -> Tensor:
        """Checked codes as latents [B, T, D]."""
        return self.quantizer.decode(codes.data.to(self.device).transpose(1, 2))

    def encoder_core(self, batch: int, start: str, window: SemanticWindow | None = None) -> Core:
        """The moving part of an `EncoderStream`.

        Raises InputError for a start other than "exact" or "primed", and for a window where there is no speech model.
        """
        check_start(start)
        if window is not None:
            raise InputError(f"{self.spec.name} has no speech model, so there is no window to choose; leave it out")
        self._check_streamable()
        if self.segments is not None:
            empty = torch.zeros(batch, 0, self.spec.channels, device=self.device, dtype=self.dtype)
            return SegmentEncoder(self.segments, self.encoder, empty)
        assert self.encoder_network is not None
        network = self.encoder_network
        if start == "exact" or not network.prefill_frames:
            return FramedCore(Transducer(network, batch, self.device, self.dtype))
        source = self.cached("primed encoder", lambda: primed(network, silent_rows(network, self.quantizer.codebooks)))
        return FramedCore(source.fork_primed(batch))

    def decoder_core(self, batch: int, start: str, bandwidth: float | None) -> Core:
        """The moving part of a `DecoderStream`; `bandwidth` is that of the silence of a primed start."""
        check_start(start)
        self._check_streamable()
        if bandwidth is not None:
            self.spec.codebooks(bandwidth)
        if self.segments is not None:
            empty = torch.zeros(batch, 0, self.quantizer.dimension, device=self.device, dtype=self.dtype)
            return SegmentDecoder(self.segments, self.decoder, empty)
        assert self.decoder_network is not None
        network = self.decoder_network
        if start == "exact" or not network.prefill_frames:
            return FramedCore(Transducer(network, batch, self.device, self.dtype))
        silence = self.silence(network.prefill_frames, bandwidth)
        key = f"primed decoder {silence.data.shape[1]}"
        return FramedCore(self.cached(key, lambda: primed(network, self.latents(silence))).fork_primed(batch))

    def silence(self, frames: int, bandwidth: float | None = None) -> Codes:
        """The codes of `frames` frames of silence, [1, K, frames], at the highest bandwidth unless one is named."""
        bandwidth = self.spec.bandwidths[-1] if bandwidth is None else bandwidth
        return self.encode(torch.zeros(1, self.spec.channels, frames * self.spec.hop_length), bandwidth)

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """`make()`, kept until the weights change or move."""
        stamp = ops.stamp((*self.parameters(), *self.buffers()))
        if stamp != self._cached_for:
            self._cache.clear()
            self._cached_for = stamp
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights: what a saved state is bound to."""
        return self.cached("fingerprint", self._fingerprint)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @abstractmethod
    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The configuration and the weights under the names that `transformers` uses."""


def check_start(start: str) -> None:
    """Raises InputError for what no stream can start from."""
    if start not in ("exact", "primed"):
        raise InputError(f"start is {start!r}; it must be 'exact' or 'primed'")
