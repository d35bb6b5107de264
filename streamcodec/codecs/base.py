"""What every codec family shares: the offline calls, the networks placed for streaming, and the way to a stream."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, SupportsFloat, SupportsIndex

import torch
from torch import Tensor, nn

from .. import stamps
from .. import state as states
from ..codes import Codes, CodesLike
from ..errors import CodesError, DtypeError, InputError, NotStreamableError, ShapeError, StreamError
from ..nn.layer import Layer
from ..nn.piece import Core, Piece
from ..nn.quantize import Quantizer
from ..nn.transducer import Network, Transducer
from ..pcm import AudioLike, as_float
from ..scalars import whole
from ..spec import CodecSpec, SemanticWindow
from ..stream import DecoderStream, EncoderStream, Start
from ..surroundings import undisturbed
from .checks import check_latents, check_scale, check_start, checked_data
from .framed import FramedCore, primed, silent_rows
from .segments import SegmentDecoder, SegmentEncoder, Segments

__all__ = ["PRECISIONS", "PRECISION_HINT", "Codec"]


# In fewer bits half of the codes are others, and a stream's are not the offline call's.
PRECISIONS = (torch.float32, torch.float64)
PRECISION_HINT = (
    "codecs compute in torch.float32 or torch.float64, since in fewer bits a stream's codes are not those of encode()"
)
# Where torch's quantised layers are at home. They stand for float ones, which streams would look for in vain.
QUANTISED = ("torch.ao.nn.quantized", "torch.nn.quantized", "torchao")


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
    pad: bool = True
    """Whether a whole signal comes back where frames are floored: zeros at its end fill the last one; see `missing`."""
    floors: bool = False  # whether the encoder leaves out samples that do not fill a last frame
    encoder_network: Network | None = None
    decoder_network: Network | None = None

    def __init__(self) -> None:
        super().__init__()
        self._cache: dict[str, Any] = {}
        self._cached_for: stamps.Stamp | None = None
        self._sampled: Tensor | None = None

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
            decoder = Network(self.decoder, latent_channels, channels, 1, look_ahead=0)
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
        network = Network(self.encoder, channels, latent_channels, hop_length)
        return network, network.look_ahead

    def _stream_bytes(self, channels: int, latent_channels: int, hop_length: int) -> tuple[int, int]:
        """Memory of one encoder stream and of one decoder stream, in the codec's element type."""
        segments = self.segments
        if segments is None:
            assert self.encoder_network is not None
            assert self.decoder_network is not None
            return states.nbytes(self.encoder_network.spec), states.nbytes(self.decoder_network.spec)
        if segments.length is None or segments.stride is None or segments.frames is None:
            return 0, 0
        # At most: a segment's samples; its latents with their scale, and the overlap with its weights.
        overlap = segments.frames * segments.hop_length - segments.stride
        values = (segments.length * channels, segments.frames * (latent_channels + 1) + overlap * (channels + 1))
        return values[0] * self.dtype.itemsize, values[1] * self.dtype.itemsize

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Codec":
        super()._apply(fn, recurse)
        self._sampled = None
        for network in self._networks():
            network.refresh()  # streams that are open, and find their codec moved back, run on these
        sizes = self._stream_bytes(self.spec.channels, self.quantizer.dimension, self.spec.hop_length)
        self.spec = replace(self.spec, bytes_per_stream=sum(sizes), encoder_bytes=sizes[0], decoder_bytes=sizes[1])
        return self

    def _networks(self) -> list[Network]:
        return [network for network in (self.encoder_network, self.decoder_network) if network is not None]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.quantizer.codebooks.device

    @property
    def dtype(self) -> torch.dtype:
        """The element type of weights and state."""
        return self.quantizer.codebooks.dtype

    def refresh(self) -> None:
        """Notice weights that were written in a way that torch does not count: through `.data`, or a NumPy view.

        Such a write is noticed by itself where it changes weights throughout, as training does, when a stream opens
        or something is encoded. Call this after writing a few values only: streams, saved states and the fingerprint
        would go on with the weights as they were. All other writes (`load_state_dict`, `copy_`, an optimizer's step,
        `parameter.data = ...`) are noticed, however small.
        """
        stamps.count_write()
        self.quantizer.set_codebooks(self.quantizer.codebooks.clone())
        self._sampled = self._sample()

    def notice_writes(self) -> None:
        """`refresh` where a sample of the weights is not what it was when this was last called.

        Raises DtypeError where layers were quantised or have another element type than the codec.
        """
        self._check_layers()
        before = self._sampled
        if before is None:  # nothing was made from the weights yet but the quantizer's tables
            self.quantizer.set_codebooks(self.quantizer.codebooks.clone())
            self._sampled = self._sample()
        elif not torch.equal(self._sample(), before):
            self.refresh()

    def _check_layers(self) -> None:
        for module in self.modules():
            if type(module).__module__.startswith(QUANTISED):
                kind = f"{type(module).__module__}.{type(module).__name__}"
                raise DtypeError(f"{self.spec.name} has quantised layers ({kind}); {PRECISION_HINT}: load it again")
        others = {parameter.dtype for parameter in self.parameters()} - {self.dtype}
        if others:
            raise DtypeError(
                f"{self.spec.name} is {self.dtype}, but has weights of {', '.join(sorted(map(str, others)))}; "
                "convert the whole codec: codec.float() or codec.double()"
            )

    def _sample(self) -> Tensor:
        return stamps.sample((*self.parameters(), *self.buffers()))

    def check_precision(self) -> None:
        """Raises DtypeError for a codec that was converted to an element type in which codes would be others."""
        if self.dtype not in PRECISIONS:
            raise DtypeError(f"{self.spec.name} is {self.dtype} now; {PRECISION_HINT}: codec.float() and load again")

    # -- offline ---------------------------------------------------------------------------------------------------

    @undisturbed
    def encode(
        self, wav: AudioLike, bandwidth: SupportsFloat | None = None, *, num_codebooks: SupportsIndex | None = None
    ) -> Codes:
        """The whole signal at once; `Codes.length` is N, but where `pad` is off and frames are floored.

        wav: [B, channels, N] float (full scale is -1..1) or int16 (scaled), torch or NumPy, at `spec.sample_rate`.
        bandwidth: kbps, one of `spec.bandwidths`; or instead num_codebooks, as many as one of them has. Where neither
        is given, `spec.default_bandwidth`.
        Raises InputError: ShapeError, DtypeError, NonFiniteError, BandwidthError.
        """
        count = self.spec.codebooks(self.spec.resolve(bandwidth, num_codebooks))
        self.notice_writes()
        rows = self.as_rows(wav)
        with torch.no_grad():
            latents, scale, _ = self.analyse(self.filled(rows))
            codes = self.quantizer.encode(latents, count)
        length = self.covered(rows.shape[1], codes.shape[1])
        return Codes(codes.transpose(1, 2).contiguous(), scale, length)

    def analyse(self, rows: Tensor) -> Piece:
        """A whole signal, [B, N, channels], to the latents that are quantized, [B, T, D], with their scale."""
        return Piece(self.encoder(rows)) if self.segments is None else self.segments.encode(rows, self.encoder)

    @undisturbed
    def decode(self, codes: CodesLike) -> Tensor:
        """The whole signal at once: [B, channels, codes.length], or all that the frames hold where length is None.

        Never more than the decoder gives: DAC's at 16 and 24 kHz ends 8 samples before its last frame does.

        codes: what `encode` gave, or bare codes [B, K, T], torch or NumPy, of any integer type.
        Raises InputError: ShapeError, DtypeError, NonFiniteError, CodesError.
        """
        self._check_layers()
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

    # -- in steps, with gradients ----------------------------------------------------------------------------------

    @undisturbed
    def encode_latents(self, wav: AudioLike) -> Tensor:
        """The whole signal to the latents that `quantize` takes, [B, D, T]. Gradients reach `wav` and the weights.

        wav: as for `encode`, which is `quantize` of these. A codec with a speech model passes no gradient through that.
        Use `torch.no_grad()` where no gradient is wanted: what it needs takes memory.
        Raises InputError, for a codec that works on segments (EnCodec 48 kHz) too.
        """
        self._refuse_segments("encode_latents")
        return self.analyse(self.filled(self.as_rows(wav, grad=True))).rows.transpose(1, 2)

    @undisturbed
    def quantize(
        self, latents: Tensor, bandwidth: SupportsFloat | None = None, *, num_codebooks: SupportsIndex | None = None
    ) -> Codes:
        """Latents [B, D, T], of a floating-point type, to codes [B, K, T] with no length; no gradient passes.

        bandwidth, num_codebooks: as for `encode`. Raises InputError: ShapeError, DtypeError, NonFiniteError,
        BandwidthError.
        """
        count = self.spec.codebooks(self.spec.resolve(bandwidth, num_codebooks))
        self.notice_writes()
        with torch.no_grad():
            codes = self.quantizer.encode(self._latent_rows(latents), count)
        return Codes(codes.transpose(1, 2).contiguous())

    @undisturbed
    def dequantize(self, codes: CodesLike) -> Tensor:
        """Codes [B, K, T] to the latents that they stand for, [B, D, T]. Gradients reach the quantizer's parameters.

        codes: as for `decode`; neither scale nor length matters. Raises InputError: ShapeError, DtypeError, CodesError.
        """
        return self.latents(checked_data(codes, self.spec)).transpose(1, 2)

    @undisturbed
    def decode_latents(self, latents: Tensor, length: SupportsIndex | None = None) -> Tensor:
        """Latents [B, D, T] to audio [B, channels, length]. Gradients reach `latents` and the weights.

        length: samples, None for all that the frames hold. `decode` is this of `dequantize`.
        Raises InputError as `encode_latents` does.
        """
        self._refuse_segments("decode_latents")
        rows = self._latent_rows(latents)
        if length is not None:
            length = whole(length, "length", 0)
            self.check_length(length, rows.shape[1])
        return self.decoder(rows)[:, :length].transpose(1, 2).contiguous()

    def _refuse_segments(self, call: str) -> None:
        if self.segments is not None:
            raise InputError(
                f"{call}: {self.spec.name} codes each segment by itself, at a level of its own, so its latents alone "
                "do not say what the signal is; use encode() and decode()"
            )

    def _latent_rows(self, latents: Tensor) -> Tensor:
        """Checked latents [B, D, T] as rows [B, T, D] of the codec's device and dtype."""
        check_latents(latents, self.spec, self.quantizer.dimension)
        return latents.to(self.device, self.dtype).transpose(1, 2)

    # -- streams ---------------------------------------------------------------------------------------------------

    @undisturbed
    def open_encoder(
        self,
        bandwidth: SupportsFloat | None = None,
        batch: SupportsIndex | None = None,
        *,
        num_codebooks: SupportsIndex | None = None,
        start: Start | None = None,
        window: SemanticWindow | None = None,
        state: bytes | None = None,
    ) -> EncoderStream:
        """A stream from audio to codes; see `EncoderStream`.

        bandwidth, num_codebooks: as for `encode`; batch: signals that advance together (1); start: "exact" (equal to
        `encode`; waits for `spec.encoder_prefill` frames first) or "primed" (no wait; equal to `encode` of that many
        frames of silence and then the signal); window: what the speech model of a codec with `spec.semantic_window`
        hears at a time (that default); state: what `EncoderStream.save` returned, to go on from there.
        Raises BandwidthError, StateError, NotStreamableError, InputError.
        """
        self.check_precision()
        self.notice_writes()
        self._check_streamable()
        chosen = self._named(bandwidth, num_codebooks)
        return EncoderStream(self, bandwidth=chosen, batch=batch, start=start, window=window, state=state)

    @undisturbed
    def open_decoder(
        self,
        batch: SupportsIndex | None = None,
        *,
        start: Start | None = None,
        bandwidth: SupportsFloat | None = None,
        num_codebooks: SupportsIndex | None = None,
        state: bytes | None = None,
    ) -> DecoderStream:
        """A stream from codes to audio; see `DecoderStream`. Arguments as for `open_encoder`.

        bandwidth, num_codebooks: only for a primed start, those of the silence that it begins from; by default those
        that `encode` takes by default.
        """
        self.check_precision()
        self.notice_writes()
        self._check_streamable()
        chosen = self._named(bandwidth, num_codebooks)
        return DecoderStream(self, batch=batch, start=start, bandwidth=chosen, state=state)

    def _named(self, bandwidth: SupportsFloat | None, num_codebooks: SupportsIndex | None) -> float | None:
        """The bandwidth that a caller chose by either name, None where by none: saved state may have its own."""
        return None if bandwidth is None and num_codebooks is None else self.spec.resolve(bandwidth, num_codebooks)

    def warm_up(self, frames: SupportsIndex = 1, batch: SupportsIndex = 1) -> None:
        """Make now what a first stream would have to make while it runs, so that its first push costs like the others.

        That is: weights packed for products, the quantizer's tables, the state of a primed start at the default
        bandwidth, and whatever torch makes when it first runs. It is forgotten when weights change or move.

        frames, batch: of the pushes to come. (`Engine.prepare` does the same for an engine's batches.)
        """
        frames, batch = whole(frames, "frames"), whole(batch, "batch")
        spec, step = self.spec, frames * self.spec.hop_length
        if self.segments is not None and self.segments.length is None:
            self.decode(self.encode(torch.zeros(batch, spec.channels, step)))
            return
        # Until audio has come out of the decoder, and twice more.
        pushes = 2 + -(-(spec.delay + (spec.encoder_prefill + spec.decoder_prefill) * spec.hop_length) // step)
        starts: tuple[Start, ...] = ("exact", "primed") if spec.prefill_frames else ("exact",)
        for start in starts:
            encoder = self.open_encoder(spec.bandwidths[-1], batch, start=start)
            decoder = self.open_decoder(batch, start=start)
            for _ in range(pushes):
                decoder.push(encoder.push(torch.zeros(batch, spec.channels, step)))
            decoder.push(encoder.flush())
            decoder.flush()

    def _check_streamable(self) -> None:
        if self.segments is not None and self.segments.length is None:
            raise NotStreamableError(
                f"{self.spec.name} normalises over the whole signal (its configuration has no chunk_length_s), so "
                "nothing can come out before the end; use encode() and decode(), or set chunk_length_s and overlap"
            )

    # -- what streams and engines build on -------------------------------------------------------------------------

    def as_rows(self, wav: AudioLike, batch: int | None = None, *, grad: bool = False) -> Tensor:
        """Checked audio [B, channels, n] as rows [B, n, channels] on the codec's device; grad: as for `as_float`."""
        self.check_precision()
        pcm = as_float(wav, channels=self.spec.channels, grad=grad)
        if batch is not None and pcm.shape[0] != batch:
            raise ShapeError(f"audio has batch {pcm.shape[0]}, this stream was opened with batch={batch}")
        return pcm.to(self.device, self.dtype).transpose(1, 2)

    def checked(self, codes: CodesLike, batch: int | None = None) -> Codes:
        """`codes`, where they can be decoded, the scale with the codec's device and dtype.

        Raises InputError: ShapeError, DtypeError, NonFiniteError, CodesError.
        """
        self.check_precision()
        codes = checked_data(codes, self.spec, batch)
        if codes.length is not None and codes.length < 0:
            raise CodesError(f"codes have length {codes.length!r}; a length is a whole number of samples, at least 0")
        check_scale(codes, self.spec, self.segments is not None and self.segments.normalize)
        if codes.scale is None:
            return codes
        return Codes(codes.data, codes.scale.to(self.device, self.dtype), codes.length)

    def missing(self, samples: int) -> int:
        """Zeros that a signal of `samples` gets at its end, so that its frames bring all of it back.

        None where there is no signal, where the encoder completes a last frame itself (EnCodec), and where `pad` is
        off. Else they fill a last frame; DAC's decoder at 16 and 24 kHz ends 8 samples before its last frame does,
        which may take one frame more.
        """
        if not (self.pad and self.floors and samples):
            return 0
        hop = self.spec.hop_length
        short = hop - self.decoder.output_length(1)
        return -(-(samples + max(0, short)) // hop) * hop - samples

    def filled(self, rows: Tensor) -> Tensor:
        """A whole signal, [B, N, channels], with the zeros of `missing` at its end."""
        missing = self.missing(rows.shape[1])
        return nn.functional.pad(rows, (0, 0, 0, missing)) if missing else rows

    def covered(self, samples: int, frames: int) -> int:
        """Samples of a whole signal of `samples` that its `frames` frames bring back.

        All of them but where `pad` is off and frames are floored (DAC): what does not fill a last frame is lost then.
        """
        return samples if self.segments is not None else min(samples, self.decoder.output_length(frames))

    def check_follows(self, codes: Codes, short: bool) -> None:
        """Raises StreamError for frames after the end of the audio. short: earlier codes said that it ends there.

        Frames of length 0 belong to it still: they hold what the decoder's last samples need (see `missing`).
        """
        if short and codes.data.shape[2] and (codes.length != 0 or self.segments is not None):
            raise StreamError("frames after the last ones: the length of earlier codes said that the audio ends there")

    def check_length(self, length: int, frames: int) -> None:
        """Raises CodesError where `frames` frames from the start of a stream cannot stand for `length` samples."""
        room = self.spec.samples(frames)
        if length > room and (self.segments is None or sum(self.segments.cut(length)) != frames):
            raise CodesError(f"{frames} frames of {self.spec.name} stand for {room} samples, not for {length}")

    def latents(self, codes: Codes) -> Tensor:
        """Checked codes as latents [B, T, D]."""
        return self.quantizer.decode(codes.data.to(self.device).transpose(1, 2))

    def encoder_core(self, batch: int, start: Start, window: SemanticWindow | None = None) -> Core:
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

    def decoder_core(self, batch: int, start: Start, bandwidth: SupportsFloat | None = None) -> Core:
        """The moving part of a `DecoderStream`; `bandwidth` is that of the silence of a primed start (the default)."""
        check_start(start)
        self._check_streamable()
        codebooks = self.spec.codebooks(self.spec.resolve(bandwidth))
        if self.segments is not None:
            empty = torch.zeros(batch, 0, self.quantizer.dimension, device=self.device, dtype=self.dtype)
            return SegmentDecoder(self.segments, self.decoder, empty)
        assert self.decoder_network is not None
        network = self.decoder_network
        if start == "exact" or not network.prefill_frames:
            return FramedCore(Transducer(network, batch, self.device, self.dtype))

        def make() -> Transducer:
            silence = self.silence(network.prefill_frames, self.spec.bandwidth(codebooks))
            return primed(network, self.latents(silence))

        return FramedCore(self.cached(f"primed decoder {codebooks}", make).fork_primed(batch))

    def silence(self, frames: int, bandwidth: SupportsFloat | None = None) -> Codes:
        """The codes of `frames` frames of silence, [1, K, frames]; bandwidth: as for `encode`."""
        return self.encode(torch.zeros(1, self.spec.channels, frames * self.spec.hop_length), bandwidth)

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """`make()`, kept until the weights change or move."""
        stamp = stamps.stamp((*self.parameters(), *self.buffers()))
        if stamp != self._cached_for:
            self._cache.clear()
            self._cached_for = stamp
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights: what a saved state is bound to."""
        self.notice_writes()
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
