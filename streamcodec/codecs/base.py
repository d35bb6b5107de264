"""What every codec family shares: the offline calls, the networks placed for streaming, and the way to a stream."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex, overload

import torch
from torch import Tensor

from .. import ops
from ..codes import Codes, CodesLike
from ..errors import BackendError, InputError
from ..latent_stream import LatentDecoderStream, LatentEncoderStream
from ..nn.derived import apart
from ..nn.layer import Layer
from ..nn.piece import Core, Piece
from ..nn.transducer import Network, Transducer
from ..pcm import AudioLike
from ..precisions import ENCODING
from ..scalars import whole
from ..spec import CodecSpec, SemanticWindow
from ..stream import DecoderStream, EncoderStream, Start
from ..surroundings import undisturbed
from .batches import decode_each, encode_each
from .checked_input import CheckedInput
from .checks import check_start, checked_data
from .concealment import concealed, silent_frame
from .framed import Framed, primed, silent_rows
from .framing import Framing
from .late_start import PreRoll, pre_roll
from .segmented import Segmented
from .segments import Segments
from .unequal import Lengths, Mask, codes_of, rowwise, signals_of, stacked
from .warm_up import run_through
from .whole_frames import WholeAudio, WholeCodes, whole_audio, whole_codes

__all__ = ["Codec", "QuantizedLatents"]


class QuantizedLatents(NamedTuple):
    """What `Codec.straight_through` gives.

    latents: [B, D, T], those that the codes stand for, with gradients; codes: [B, K, T]; looked_up: [B, K, d, T], what
    each codebook was to find an entry for: what the ones before it left over, for DAC in the few dimensions in which it
    looks up; entries: [B, K, d, T], those that it found. The mean squared distance of the last two is the commitment
    loss where `entries` are detached, and the codebook loss where `looked_up` are.
    """

    latents: Tensor
    codes: Codes
    looked_up: Tensor
    entries: Tensor


class Codec(CheckedInput, ABC):
    """A codec with its weights. Make one with `streamcodec.load`.

    encoder: audio rows [B, N, channels] to latents [B, T, D]; decoder: latents to audio rows; quantizer: latents to
    codes and back. `encode` and `decode` run the whole signal; `open_encoder` and `open_decoder` give streams that
    return the same results piece by piece.
    """

    encoder: Layer
    decoder: Layer
    segments: Segments | None = None
    default_window: SemanticWindow | None = None
    floors: bool = False  # whether the encoder leaves out samples that do not fill a last frame

    def finish_construction(
        self,
        *,
        name: str,
        sample_rate: int,
        channels: int,
        hop_length: int,
        bandwidths: tuple[float, ...],
        default_bandwidth: float,
        bandwidth_codebooks: tuple[int, ...] = (),
        levels: tuple[int, ...] = (),
    ) -> None:
        """Make `framing` and write the spec: the last thing that a family's constructor does."""
        self.framing = framing = self.make_framing(channels, self.quantizer.dimension, hop_length)
        sizes = framing.stream_bytes(self.dtype.itemsize)
        self.spec = CodecSpec(
            name=name,
            sample_rate=sample_rate,
            channels=channels,
            hop_length=hop_length,
            frame_rate=sample_rate / hop_length,
            num_codebooks=sum(levels) or self.quantizer.codebooks.shape[0],
            codebook_size=self.quantizer.codebooks.shape[1],
            latent_channels=self.quantizer.dimension,
            bandwidths=bandwidths,
            default_bandwidth=default_bandwidth,
            bandwidth_codebooks=bandwidth_codebooks,
            levels=levels,
            encoder_delay=framing.delays[0],
            decoder_delay=framing.delays[1],
            prefill_frames=max(framing.prefills),
            bytes_per_stream=sum(sizes),
            encoder_prefill=framing.prefills[0],
            decoder_prefill=framing.prefills[1],
            encoder_bytes=sizes[0],
            decoder_bytes=sizes[1],
            segment_length=None if self.segments is None else self.segments.length,
            segment_stride=None if self.segments is None else self.segments.stride,
            semantic_window=self.default_window,
        )

    def make_framing(self, channels: int, latent_channels: int, hop_length: int) -> Framing:
        """How the signal is cut: in `segments` where there are any, else frame by frame."""
        if self.segments is not None:
            return Segmented(self.segments, self.encoder, self.decoder, channels, latent_channels)
        return Framed(
            self.encoder, self.decoder, channels=channels, encoded=latent_channels, decoded=latent_channels,
            hop_length=hop_length, floors=self.floors,
        )  # fmt: skip

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Codec":
        super()._apply(fn, recurse)
        for network in self.framing.networks:
            network.refresh()  # streams that are open, and find their codec moved back, run on these
        sizes = self.framing.stream_bytes(self.dtype.itemsize)
        self.spec = replace(self.spec, bytes_per_stream=sum(sizes), encoder_bytes=sizes[0], decoder_bytes=sizes[1])
        return self

    @property
    def backend(self) -> str:
        """What computes the steps of streams and the quantizer, by name: see `streamcodec.load`."""
        return self.quantizer.backend

    def on(self, backend: str, precision: str = "float32") -> "Codec":
        """The same codec, with the same weights, on another backend; names as for `streamcodec.load`.

        precision: of the steps of decoders; "bfloat16x3" of encoders too. In the others an encoder stays in float32: it
        would give other codes.

        Raises BackendError where there is no such backend or precision here, ConfigError for another precision.
        """
        other = self.twin()
        other.quantizer = apart(self.quantizer)
        other.framing = other.make_framing(self.spec.channels, self.quantizer.dimension, self.spec.hop_length)
        other.run_on(backend, precision)
        return other

    def run_on(self, backend: str, precision: str = "float32") -> None:
        """`on`, but this codec itself: of one that nobody else has yet, which spares making its networks again."""
        ops.check_backend(backend)
        ops.check_precision(backend, precision)
        if precision != "float32" and "decoder" not in self._networks():
            raise BackendError(f"this codec's decoder has no steps of single frames, which run in {precision}")
        encoding = precision if precision in ENCODING else "float32"
        self.quantizer.backend = backend
        for name, network in self._networks().items():
            network.use(backend, precision if name == "decoder" else encoding)

    @property
    def pre_roll(self) -> PreRoll:
        """What a decoder must hear of the codes before the place where it is to begin: (frames, exact).

        exact: whether a decoder that has heard so many frames gives what one gives that heard all. Where it is False
        (an LSTM, attention), frames are those of 10 s, and what comes is near.
        """
        return pre_roll(self.framing, self.spec)

    def served_by(self) -> dict[str, str]:
        """What runs on which backend: the networks whose steps streams run, and the quantizer's operations."""
        steps = {name: network.served_by for name, network in self._networks().items()}
        return steps | self.quantizer.served_by()

    def lacking(self, backend: str) -> dict[str, str]:
        """The networks that an executor cannot run, and the first thing in each that it has not."""
        found = {name: ops.lacking(network.program, backend) for name, network in self._networks().items()}
        return {name: lack for name, lack in found.items() if lack is not None}

    def _networks(self) -> dict[str, Network]:
        return dict(zip(("encoder", "decoder", "semantic"), self.framing.networks, strict=False))

    # -- offline ---------------------------------------------------------------------------------------------------

    @overload
    def encode(
        self, wav: AudioLike, bandwidth: SupportsFloat | None = None, *, num_codebooks: SupportsIndex | None = None,
        lengths: None = None, padding_mask: None = None, chunk_seconds: SupportsFloat | None = None,
    ) -> Codes: ...  # fmt: skip
    @overload
    def encode(
        self, wav: Sequence[AudioLike], bandwidth: SupportsFloat | None = None, *,
        num_codebooks: SupportsIndex | None = None, lengths: None = None, padding_mask: None = None,
        chunk_seconds: SupportsFloat | None = None,
    ) -> list[Codes]: ...  # fmt: skip
    @overload
    def encode(
        self, wav: AudioLike, bandwidth: SupportsFloat | None = None, *, num_codebooks: SupportsIndex | None = None,
        lengths: Lengths | None = None, padding_mask: Mask | None = None, chunk_seconds: SupportsFloat | None = None,
    ) -> list[Codes]: ...  # fmt: skip
    @undisturbed
    def encode(
        self,
        wav: AudioLike | Sequence[AudioLike],
        bandwidth: SupportsFloat | None = None,
        *,
        num_codebooks: SupportsIndex | None = None,
        lengths: Lengths | None = None,
        padding_mask: Mask | None = None,
        chunk_seconds: SupportsFloat | None = None,
    ) -> Codes | list[Codes]:
        """The whole signal at once; `Codes.length` is N, but where `pad` is off and frames are floored.

        wav: [B, channels, N] float (full scale is -1..1) or int16 (scaled), torch or NumPy, at `spec.sample_rate`.
        bandwidth: kbps, one of `spec.bandwidths`; or instead num_codebooks, as many as one of them has. Where neither
        is given, `spec.default_bandwidth`.

        Signals of unequal lengths give a list, the codes of each [1, K, T] as if it were alone. They come as a list of
        [channels, N] (or [N] if mono), or as one batch [B, channels, N] with lengths, samples of each row, or with
        padding_mask, [B, N], 1 at the samples of each row, as transformers' feature extractors give it.
        chunk_seconds: compute so much audio at a time: hours of it then need no more memory than that, and give the
        same codes (but for near ties in float32; docs/exactness.md). Not for a codec with a speech model.
        Raises InputError: ShapeError, DtypeError, NonFiniteError, BandwidthError.
        """
        count = self.spec.codebooks(self.spec.resolve(bandwidth, num_codebooks))
        self.notice_writes()
        signals = signals_of(self, wav, lengths, padding_mask)
        if signals is not None:
            return encode_each(self, signals, count, chunk_seconds)
        rows = self.as_rows(wav)  # type: ignore[arg-type]  # no list: `signals_of` takes those
        if chunk_seconds is not None:
            return stacked(encode_each(self, list(rows), count, chunk_seconds))
        return self.encode_rows(rows, count)

    def encode_rows(self, rows: Tensor, count: int) -> Codes:
        """`encode` of checked rows [B, N, channels] on the codec's device, at once, with `count` codebooks."""
        with torch.no_grad():
            latents, scale, _ = self.analyse(self.filled(rows))
            codes = self.quantizer.encode(latents, count)
        length = self.covered(rows.shape[1], codes.shape[1])
        return Codes(codes.transpose(1, 2).contiguous(), scale, length)

    def analyse(self, rows: Tensor) -> Piece:
        """A whole signal, [B, N, channels], to the latents that are quantized, [B, T, D], with their scale."""
        return self.framing.analyse(rows)

    @overload
    def decode(
        self, codes: CodesLike, *, lengths: None = None, padding_mask: None = None,
        chunk_seconds: SupportsFloat | None = None,
    ) -> Tensor: ...  # fmt: skip
    @overload
    def decode(
        self, codes: Sequence[CodesLike], *, lengths: None = None, padding_mask: None = None,
        chunk_seconds: SupportsFloat | None = None,
    ) -> list[Tensor]: ...  # fmt: skip
    @overload
    def decode(
        self, codes: CodesLike, *, lengths: Lengths | None = None, padding_mask: Mask | None = None,
        chunk_seconds: SupportsFloat | None = None,
    ) -> list[Tensor]: ...  # fmt: skip
    @undisturbed
    def decode(
        self,
        codes: CodesLike | Sequence[CodesLike],
        *,
        lengths: Lengths | None = None,
        padding_mask: Mask | None = None,
        chunk_seconds: SupportsFloat | None = None,
    ) -> Tensor | list[Tensor]:
        """The whole signal at once: [B, channels, codes.length], or all that the frames hold where length is None.

        Never more than the decoder gives: DAC's at 16 and 24 kHz ends 8 samples before its last frame does.

        codes: what `encode` gave, or bare codes [B, K, T], torch or NumPy, of any integer type.

        Codes of unequal lengths give a list, the audio of each [1, channels, n] as if it were alone. They come as a
        list, of what `encode` gave or bare [K, T], or as one batch [B, K, T] with lengths, frames of each row, or with
        padding_mask, [B, T], 1 at the frames of each row. chunk_seconds: as for `encode`.
        Raises InputError: ShapeError, DtypeError, NonFiniteError, CodesError.
        """
        self.check_layers()
        batch = codes_of(codes, lengths, padding_mask)
        if batch is not None:
            return decode_each(self, [self._whole(each) for each in batch], chunk_seconds)
        checked = self._whole(codes)  # type: ignore[arg-type]  # no list: `codes_of` takes those
        if chunk_seconds is not None:
            return torch.cat(decode_each(self, rowwise(checked), chunk_seconds))
        return self.decode_checked(checked)

    def _whole(self, codes: CodesLike) -> Codes:
        """Checked codes of a whole signal. Raises InputError."""
        codes = self.checked(codes)
        frames = codes.data.shape[2]
        self.check_length(self.spec.samples(frames) if codes.length is None else codes.length, frames)
        return codes

    def decode_checked(self, codes: Codes) -> Tensor:
        """`decode` of checked codes, at once."""
        length = self.spec.samples(codes.data.shape[2]) if codes.length is None else codes.length
        with torch.no_grad():
            rows = self.framing.synthesise(self.latents(codes), codes.scale, length)
        return rows[:, : codes.length].transpose(1, 2).contiguous()

    # -- in steps, with gradients ----------------------------------------------------------------------------------

    @undisturbed
    def encode_latents(self, wav: AudioLike) -> Tensor:
        """The whole signal to the latents that `quantize` takes, [B, D, T]. Gradients reach `wav` and the weights.

        wav: as for `encode`, which is `quantize` of these. A codec with a speech model passes no gradient through that.
        Use `torch.no_grad()` where no gradient is wanted: what it needs takes memory.
        Raises InputError, for a codec that works on segments (EnCodec 48 kHz) too.
        """
        self.framing.check_latents_suffice(self.spec.name, "encode_latents")
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
            codes = self.quantizer.encode(self.latent_rows(latents), count)
        return Codes(codes.transpose(1, 2).contiguous())

    @undisturbed
    def dequantize(self, codes: CodesLike, *, per_stage: bool = False) -> Tensor:
        """Codes [B, K, T] to the latents that they stand for, [B, D, T]. Gradients reach the quantizer's parameters.

        codes: as for `decode`; neither scale nor length matters. per_stage: what each codebook adds to them instead,
        [B, K, D, T], of which they are the sum. Raises InputError: ShapeError, DtypeError, CodesError.
        """
        codes = checked_data(codes, self.spec)
        if per_stage:
            return self.quantizer.stages(codes.data.to(self.device).transpose(1, 2)).permute(0, 2, 3, 1)
        return self.latents(codes).transpose(1, 2)

    @undisturbed
    def straight_through(
        self, latents: Tensor, bandwidth: SupportsFloat | None = None, *, num_codebooks: SupportsIndex | None = None
    ) -> QuantizedLatents:
        """`dequantize` of `quantize` of latents [B, D, T], as one step that gradients pass straight through.

        So `decode_latents(straight_through(encode_latents(wav)).latents)` trains all of a codec, or what is put in
        front of it. Gradients reach `latents`, and the projections of a factorised quantizer (DAC).
        Arguments and errors as for `quantize`.
        """
        count = self.spec.codebooks(self.spec.resolve(bandwidth, num_codebooks))
        self.notice_writes()
        quantized, codes, looked_up, entries = self.quantizer.straight_through(self.latent_rows(latents), count)
        return QuantizedLatents(
            quantized.transpose(1, 2),
            Codes(codes.transpose(1, 2).contiguous()),
            looked_up.permute(0, 2, 3, 1),
            entries.permute(0, 2, 3, 1),
        )

    @undisturbed
    def decode_latents(self, latents: Tensor, length: SupportsIndex | None = None) -> Tensor:
        """Latents [B, D, T] to audio [B, channels, length]. Gradients reach `latents` and the weights.

        length: samples, None for all that the frames hold. `decode` is this of `dequantize`.
        Raises InputError as `encode_latents` does.
        """
        self.framing.check_latents_suffice(self.spec.name, "decode_latents")
        rows = self.latent_rows(latents)
        if length is not None:
            length = whole(length, "length", 0)
            self.check_length(length, rows.shape[1])
        return self.decoder(rows)[:, :length].transpose(1, 2).contiguous()

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
        self.framing.check_streamable(self.spec.name)
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
        self.framing.check_streamable(self.spec.name)
        chosen = self._named(bandwidth, num_codebooks)
        return DecoderStream(self, batch=batch, start=start, bandwidth=chosen, state=state)

    @undisturbed
    def open_latent_encoder(
        self,
        batch: SupportsIndex | None = None,
        *,
        start: Start | None = None,
        window: SemanticWindow | None = None,
        state: bytes | None = None,
    ) -> LatentEncoderStream:
        """A stream from audio to latents; see `LatentEncoderStream`. Arguments and errors as for `open_encoder`.

        Raises InputError for a codec that works on segments (EnCodec 48 kHz).
        """
        self._check_latent_streams("open_latent_encoder")
        return LatentEncoderStream(self, batch=batch, start=start, window=window, state=state)

    @undisturbed
    def open_latent_decoder(
        self, batch: SupportsIndex | None = None, *, start: Start | None = None, state: bytes | None = None
    ) -> LatentDecoderStream:
        """A stream from latents to audio; see `LatentDecoderStream`. Arguments and errors as for `open_latent_encoder`.

        A primed start begins from the latents of silence as `dequantize` gives them, at the default bandwidth.
        """
        self._check_latent_streams("open_latent_decoder")
        return LatentDecoderStream(self, batch=batch, start=start, state=state)

    def _check_latent_streams(self, call: str) -> None:
        self.check_precision()
        self.notice_writes()
        self.framing.check_latents_suffice(self.spec.name, call)
        self.framing.check_streamable(self.spec.name)

    def _named(self, bandwidth: SupportsFloat | None, num_codebooks: SupportsIndex | None) -> float | None:
        """The bandwidth that a caller chose by either name, None where by none: saved state may have its own."""
        return None if bandwidth is None and num_codebooks is None else self.spec.resolve(bandwidth, num_codebooks)

    def warm_up(self, frames: SupportsIndex = 1, batch: SupportsIndex = 1) -> None:
        """Make now what a first stream would have to make while it runs, so that its first push costs like the others.

        That is: weights packed for products, the quantizer's tables, the state of a primed start at the default
        bandwidth, and whatever torch makes when it first runs. It is forgotten when weights change or move.

        frames, batch: of the pushes to come. (`Engine.prepare` does the same for an engine's batches.)
        """
        run_through(self, whole(frames, "frames"), whole(batch, "batch"))

    # -- what streams and engines build on -------------------------------------------------------------------------

    def encoder_core(self, batch: int, start: Start, window: SemanticWindow | None = None) -> Core:
        """The moving part of an `EncoderStream`.

        Raises InputError for a start other than "exact" or "primed", and for a window where there is no speech model.
        """
        check_start(start)
        if window is not None and self.default_window is None:
            raise InputError(f"{self.spec.name} has no speech model, so there is no window to choose; leave it out")
        self.framing.check_streamable(self.spec.name)
        return self.framing.encoder_core(batch, start, window, self.quantizer.codebooks, self._primed_encoder)

    def whole_audio(self, core: Core, codebooks: int, samples: int) -> WholeAudio | None:
        """How an encoder's core takes pushes of so many samples from here on, where there is a way quicker than `push`
        and then `quantizer.encode` (see `whole_frames`).
        """
        return whole_audio(core, self.quantizer, codebooks, samples)

    def whole_codes(self, core: Core, codes: Codes) -> WholeCodes | None:
        """How a decoder's core takes pushes of codes as these were, likewise."""
        return whole_codes(core, self.quantizer, codes)

    def decoder_core(self, batch: int, start: Start, bandwidth: SupportsFloat | None = None) -> Core:
        """The moving part of a `DecoderStream`; `bandwidth` is that of the silence of a primed start (the default)."""
        check_start(start)
        self.framing.check_streamable(self.spec.name)
        codebooks = self.spec.codebooks(self.spec.resolve(bandwidth)) if self.spec.num_codebooks else 0

        def heard(network: Network) -> Transducer:
            def make() -> Transducer:
                silence = self.silence(network.prefill_frames, self.spec.bandwidth(codebooks))
                return primed(network, self.latents(silence))

            return self.cached(f"primed decoder {codebooks}", make)

        return self.framing.decoder_core(batch, start, self.quantizer.codebooks, heard)

    def _primed_encoder(self, network: Network) -> Transducer:
        return self.cached("primed encoder", lambda: primed(network, silent_rows(network, self.quantizer.codebooks)))

    def silence(self, frames: int, bandwidth: SupportsFloat | None = None) -> Codes:
        """The codes of `frames` frames of silence, [1, K, frames]; bandwidth: as for `encode`."""
        return self.encode(torch.zeros(1, self.spec.channels, frames * self.spec.hop_length), bandwidth)

    def silent_frame(self) -> Codes:
        """One frame of silence, [1, K, 1], K all codebooks."""
        return self.cached("silent frame", lambda: silent_frame(self))

    def conceal(self, last: Codes | None, age: int, frames: int, batch: int = 1) -> Codes:
        """Codes for frames that are missing; see `concealment.concealed`."""
        return concealed(self, last, age, frames, batch)

    @abstractmethod
    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The configuration and the weights under the names that `transformers` uses."""
