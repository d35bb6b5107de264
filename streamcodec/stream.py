"""Streams for people: push any chunk, flush, save, resume.

An `EncoderStream` or `DecoderStream` adds to a codec's core what a caller needs: checks that leave the stream as it was
when they fail, the count of samples, the bandwidth, and bytes to save. It knows a codec only by what it is given.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, SupportsFloat, SupportsIndex, TypeVar

import torch
from torch import Tensor

from .codes import Codes, CodesLike, unchecked
from .counts import DecoderCount, EncoderCount
from .errors import InputError, StateError, StreamClosedError, StreamError
from .nn.piece import Core, Piece
from .pcm import AudioLike
from .scalars import whole
from .sealed import Seal
from .spec import SemanticWindow
from .streamed import Start, Streamed, WholeAudio, WholeCodes
from .surroundings import unrecorded

__all__ = ["DecoderStream", "EncoderStream", "Encoding", "Start", "Stream", "channels_first"]

SEAL = Seal(
    name="state",
    entry="stream",
    format="streamcodec-stream",
    version=2,  # 1: mirrored streams had no state before their first frames, and remembered fewer rows
    fields=frozenset({"kind", "batch", "start", "closed", "numbers", "core"}),
)

S = TypeVar("S", bound="Stream")

CONCEALED_FRAMES = 256  # at a time


class Saved(Protocol):
    """What a stream counts."""

    def save(self) -> dict[str, int]: ...
    def load(self, saved: Any) -> None: ...


class Stream:
    """What all streams share. Batch rows advance together.

    `copy.copy` and `copy.deepcopy` give a stream of its own that goes on from the same place, with the same codec.
    """

    kind: str
    codec: Streamed
    batch: int
    start: Start
    _core: Core
    _count: Saved
    _opened_for: tuple[torch.dtype, torch.device]

    def __init__(self) -> None:
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the stream was flushed."""
        return self._closed

    def _check_open(self, call: str) -> None:
        if self._closed:
            raise StreamClosedError(f"{call} after flush: this stream has ended; open a new one")
        now = _made_of(self.codec)
        if now != self._opened_for:
            raise StreamError(
                f"{call}: the codec is {now[0]} on {now[1]} now, and was {self._opened_for[0]} on "
                f"{self._opened_for[1]} when this stream was opened; move it back, or open a new stream"
            )

    def _open(self, codec: Streamed, batch: SupportsIndex | None, start: Start | None) -> None:
        self.codec, self.batch = codec, whole(1 if batch is None else batch, "batch")
        self._opened_for = _made_of(codec)
        self.start = "exact" if start is None else start

    def save(self) -> bytes:
        """The stream as bytes, to go on from in this or another process with the same codec.

        They are a safetensors file and its SHA-256; nothing in them is ever executed.
        """
        tensors, core = self._core.save()
        description = {
            "kind": self.kind,
            "batch": self.batch,
            "start": self.start,
            "closed": self._closed,
            "numbers": self._count.save(),
            "core": core,
        }
        return SEAL.close(self.codec, description | self._extra(), tensors)

    def __copy__(self: S) -> S:
        again: Callable[..., S] = type(self)
        return again(self.codec, state=self.save())

    def __deepcopy__(self: S, memo: object) -> S:
        return self.__copy__()

    def _extra(self) -> dict[str, Any]:
        return {}

    def _restore(self, meta: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        if not _whole(meta["core"]):
            raise StateError("saved state has damaged counters")
        self._count.load(meta["numbers"])
        self._core.load(tensors, meta["core"])
        self._closed = bool(meta["closed"])


def _made_of(codec: Streamed) -> tuple[torch.dtype, torch.device]:
    """The type and the device of a codec's weights."""
    weights = codec.quantizer.codebooks
    return weights.dtype, weights.device


def _whole(numbers: Any) -> bool:
    return isinstance(numbers, dict) and all(type(value) is int and value >= 0 for value in numbers.values())


def read(blob: bytes, kind: str, codec: Streamed) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Saved state, its description checked against this direction and codec. Raises StateError."""
    meta, tensors = SEAL.open(codec, blob)
    if type(meta["batch"]) is not int or meta["batch"] < 1 or meta["start"] not in ("exact", "primed"):
        raise StateError(f"state has batch={meta['batch']!r} and start={meta['start']!r}; it is damaged")
    if meta["kind"] != kind:
        raise StateError(f"state is that of the {meta['kind']}; this is the {kind}")
    return meta, tensors


class Encoding(Stream):
    """Audio in. window: what a speech model hears at a time, else None."""

    window: SemanticWindow | None

    def _begin(
        self,
        codec: Streamed,
        batch: SupportsIndex | None,
        start: Start | None,
        window: SemanticWindow | None,
        meta: dict[str, Any] | None,
    ) -> None:
        """Open the core; `meta`: the description of the saved state that it is to have then."""
        if meta is not None:
            refuse_changes(meta, batch, start)
            window = _saved_window(meta, window, codec)
            batch, start = meta["batch"], meta["start"]
        self._open(codec, batch, start)
        self.window = codec.spec.semantic_window if window is None else window
        self._core = codec.encoder_core(self.batch, self.start, window)

    def _extra(self) -> dict[str, Any]:
        return {"window": None if self.window is None else dataclasses.asdict(self.window)}

    def _rows(self, pcm: AudioLike) -> Tensor:
        """What is pushed, [B, n, C]."""
        self._check_open("push")
        return self.codec.as_rows(pcm, self.batch)

    def _flushed(self, samples: int) -> Piece:
        """What is left of a signal of `samples`."""
        self._check_open("flush")
        self._closed = True
        missing = self.codec.missing(samples)
        filled = self._core.push(Piece(self._zeros(missing))).rows if missing else None
        piece = self._core.flush()
        return piece if filled is None else Piece(torch.cat([filled, piece.rows], 1))

    def _zeros(self, rows: int) -> Tensor:
        codec = self.codec
        return torch.zeros(self.batch, rows, codec.spec.channels, device=codec.device, dtype=codec.dtype)


class EncoderStream(Encoding):
    """Audio in, codes out: what `push` and `flush` return, one after the other, equals `Codec.encode` of the whole.

    Open one with `Codec.open_encoder`. A frame comes out as soon as `spec.encoder_delay` samples beyond its own last
    one were pushed; with start="exact" nothing comes before `spec.encoder_prefill` frames are in.

    window: for a codec with a speech model what that hears at a time, else None. What comes out then equals
    `encode_windowed` with that window, and where it is not the default one so does the delay
    (`SemanticCodec.windowed_delay`).
    """

    kind = "encoder"
    _count: EncoderCount

    def __init__(
        self,
        codec: Streamed,
        *,
        bandwidth: SupportsFloat | None = None,
        batch: SupportsIndex | None = None,
        start: Start | None = None,
        state: bytes | None = None,
        window: SemanticWindow | None = None,
    ):
        super().__init__()
        meta, tensors = (None, {}) if state is None else read(state, self.kind, codec)
        if meta is not None and meta.get("bandwidth") not in codec.spec.bandwidths:
            raise StateError(f"state has bandwidth={meta.get('bandwidth')!r}; it is damaged")
        if meta is not None and bandwidth is None:
            bandwidth = meta["bandwidth"]
        self._begin(codec, batch, start, window, meta)
        self._set_bandwidth(codec.spec.resolve(bandwidth))
        self._count = EncoderCount(codec)
        if meta is not None:
            self._restore(meta, tensors)

    @property
    def bandwidth(self) -> float:
        """kbps, one of `spec.bandwidths`. Set it at any time: frames that come out from then on use it.

        Setting raises BandwidthError for a value not on offer; the old one stays.
        """
        return self._bandwidth

    @bandwidth.setter
    def bandwidth(self, value: SupportsFloat) -> None:
        self._set_bandwidth(self.codec.spec.offered(value))

    @property
    def num_codebooks(self) -> int:
        """Codebooks of the frames that come out from now on: the other name of `bandwidth`, to be set as that is."""
        return self._codebooks

    @num_codebooks.setter
    def num_codebooks(self, value: SupportsIndex) -> None:
        self._set_bandwidth(self.codec.spec.bandwidth(value))

    def _set_bandwidth(self, offered: float) -> None:
        self._codebooks, self._bandwidth = self.codec.spec.codebooks(offered), offered
        self._quick: WholeAudio | None = None

    def _extra(self) -> dict[str, Any]:
        return {"bandwidth": self._bandwidth, **super()._extra()}

    def push(self, pcm: AudioLike) -> Codes:
        """More audio: [B, channels, n], any n >= 0, float (full scale -1..1) or int16; returns the codes now final.

        Raises StreamClosedError, ShapeError, DtypeError, NonFiniteError.
        """
        codes = None if self._quick is None else self._again(self._quick, pcm)
        return self._push(pcm) if codes is None else codes

    def _again(self, quick: WholeAudio, pcm: AudioLike) -> Codes | None:
        """A push in one call; None, and nothing is done, where it is of another size, or is not to be had so."""
        codes = quick.push(pcm)
        return None if codes is None else unchecked(codes, self._count.go_on(quick.frames, quick.samples))

    @unrecorded
    def _push(self, pcm: AudioLike) -> Codes:
        rows = self._rows(pcm)
        quick = self.codec.whole_audio(self._core, self._codebooks, rows.shape[1])
        codes = None if quick is None else self._again(quick, rows.transpose(1, 2))
        self._quick = None if codes is None else quick
        if codes is None:
            piece = self._core.push(Piece(rows))
            self._count.samples += rows.shape[1]
            codes = self._codes(piece, last=False)
        return codes

    @unrecorded
    def flush(self) -> Codes:
        """The end of the audio: returns the codes that are left and closes the stream. Raises StreamClosedError."""
        self._quick = None
        return self._codes(self._flushed(self._count.samples), last=True)

    def _codes(self, piece: Piece, last: bool) -> Codes:
        (length,) = self._count.lengths([piece.rows.shape[1]], ended=last, last=last)
        codes = self.codec.quantizer.encode(piece.rows, self._codebooks)
        return Codes(codes.transpose(1, 2).contiguous(), piece.scale, length)


class DecoderStream(Stream):
    """Codes in, audio out: what `push` and `flush` return, one after the other, equals `Codec.decode` of the whole.

    Open one with `Codec.open_decoder`. Audio trails the frames pushed by `spec.decoder_delay` samples; with
    start="exact" nothing comes before `spec.decoder_prefill` frames are in. The number of codebooks may differ from
    push to push.

    received, concealed: frames that were pushed, and frames that `conceal` stood in for.
    """

    kind = "decoder"
    _count: DecoderCount

    def __init__(
        self,
        codec: Streamed,
        *,
        batch: SupportsIndex | None = None,
        start: Start | None = None,
        bandwidth: SupportsFloat | None = None,
        state: bytes | None = None,
    ):
        super().__init__()
        meta, tensors = (None, {}) if state is None else read(state, self.kind, codec)
        if meta is not None:
            refuse_changes(meta, batch, start)
            batch, start = meta["batch"], meta["start"]
        self._open(codec, batch, start)
        self._count = DecoderCount(codec)
        self._core = codec.decoder_core(self.batch, self.start, bandwidth)
        self._last: Codes | None = None  # the last frame that was pushed
        self._missing = self.concealed = 0  # since then; and in all
        self._quick: WholeCodes | None = None
        if meta is not None:
            self._restore(meta, tensors)
            self._last, self._missing, self.concealed = _heard(meta.get("heard"), codec)

    @property
    def received(self) -> int:
        return self._count.frames - self.concealed

    def _extra(self) -> dict[str, Any]:
        last = self._last
        data = None if last is None else last.data[:, :, 0].tolist()
        scale = None if last is None or last.scale is None else last.scale[:, 0].tolist()
        return {"heard": {"data": data, "scale": scale, "missing": self._missing, "concealed": self.concealed}}

    def push(self, codes: CodesLike) -> Tensor:
        """More codes, [B, K, T], any T >= 0 and 1 <= K <= spec.num_codebooks; returns the audio now final, [B, C, n].

        Codes whose `length` is not that of their frames are the last ones: audio past it is cut off, and only frames
        of length 0 may follow. Bare codes [B, K, T], torch or NumPy and of any integer type, stand for whole frames.
        Raises StreamClosedError, InputError (ShapeError, DtypeError, NonFiniteError, CodesError), and StreamError for
        frames after the last ones.
        """
        audio = None if self._quick is None else self._again(self._quick, codes)
        return self._push(codes) if audio is None else audio

    def _again(self, quick: WholeCodes, codes: CodesLike) -> Tensor | None:
        """A push in one call; None, and nothing is done, where it is of another size, or is not to be had so."""
        audio = quick.push(codes)
        if audio is None:
            return None
        self._count.go_on(quick.frames, quick.samples)
        self._last, self._missing = quick.last, 0
        return audio

    @unrecorded
    def _push(self, given: CodesLike) -> Tensor:
        self._check_open("push")
        codes = self.codec.checked(given, self.batch)
        quick = None if self._count.short else self.codec.whole_codes(self._core, codes)
        audio = None if quick is None else self._again(quick, codes)
        self._quick = None if audio is None else quick
        if audio is None:
            audio = self._decoded(codes)
            if codes.data.shape[2]:
                scale = None if codes.scale is None else codes.scale[:, -1:].clone()
                last = codes.data if codes.data.shape[2] == 1 else codes.data[:, :, -1:]
                self._last, self._missing = Codes(last.clone(), scale), 0
        return audio

    @unrecorded
    def conceal(self, frames: SupportsIndex) -> Tensor:
        """The next `frames` frames, which were lost: as `push` of codes that stand for them, with the same delay.

        The last frame that was pushed goes on, and fades to silence within 0.16 s; before any was pushed it is silence.
        Frames that are pushed afterwards sound as far from a gap as the decoder remembers as if there had been none;
        how long it lasted beyond the fade makes no difference then. Raises StreamClosedError, InputError, and
        StreamError after the last frames.
        """
        self._check_open("conceal")
        left = whole(frames, "frames", 0)
        parts: list[Tensor] = []
        while left or not parts:
            now = min(left, CONCEALED_FRAMES)
            codes = self.codec.conceal(self._last, self._missing, now, self.batch)
            parts.append(self._decoded(codes))
            self._missing += now
            self.concealed += now
            left -= now
        return torch.cat(parts, 2)

    def _decoded(self, codes: Codes) -> Tensor:
        length = self._count.check(codes)
        piece = self._core.push(Piece(self.codec.latents(codes), codes.scale, length))
        self._count.add(codes, length)
        return self._audio(piece.rows)

    @unrecorded
    def flush(self) -> Tensor:
        """The end of the codes: returns the audio that is left and closes the stream. Raises StreamClosedError."""
        self._check_open("flush")
        self._closed, self._quick = True, None
        return self._audio(self._core.flush().rows)

    @unrecorded
    def cut(self, fade: SupportsIndex) -> Tensor:
        """The end of audio that is cut off, as where somebody is interrupted: it goes on for `fade` samples, in which
        it falls to silence, so that no click is heard. Closes the stream.

        What was decoded and did not come out yet goes on, and then the last frame, again and again. Returns audio
        [B, C, fade]; less where the codes had ended already, and none where there were none. Raises StreamClosedError,
        InputError.
        """
        self._check_open("cut")
        before = self._count.frames
        lacking = self._count.cut(whole(fade, "fade"))
        audio = []
        if lacking:
            codes = self._more(lacking)
            length = self.codec.spec.samples(before + lacking) - self.codec.spec.samples(before)
            audio.append(self._core.push(Piece(self.codec.latents(codes), codes.scale, length)).rows)
        self._closed, self._quick = True, None
        audio.append(self._core.flush().rows)
        return self._audio(torch.cat(audio, 1))

    def _more(self, frames: int) -> Codes:
        """Frames that go on from those that were pushed or concealed."""
        if self._missing or self._last is None:
            return self.codec.conceal(self._last, self._missing, frames, self.batch)
        scale = None if self._last.scale is None else self._last.scale.expand(-1, frames)
        return Codes(self._last.data.expand(-1, -1, frames), scale)

    def _audio(self, rows: Tensor) -> Tensor:
        emitted = self._count.emit(rows.shape[1])
        if emitted < rows.shape[1]:
            rows = rows[:, :emitted].clone()
        return channels_first(self._count.faded(rows))


def channels_first(rows: Tensor) -> Tensor:
    """Rows [B, n, C] in memory of their own as [B, C, n] that the caller may do anything with."""
    turned = rows.transpose(1, 2)
    # A core's rows may be of inference mode, in which nothing can be trained.
    return turned.clone(memory_format=torch.contiguous_format) if turned.is_inference() else turned.contiguous()


def _heard(saved: Any, codec: Streamed) -> tuple[Codes | None, int, int]:
    """The last frame that a saved decoder was given, and how many were missing since then and in all.

    Raises StateError where they are damaged; saved by an earlier release, it had heard none.
    """
    if saved is None:
        return None, 0, 0
    try:
        numbers = (saved["missing"], saved["concealed"])
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError(f"{numbers} missing frames")
        if saved["data"] is None:
            return None, *numbers
        scale = None if saved["scale"] is None else torch.tensor(saved["scale"], dtype=codec.dtype)[:, None]
        last = codec.checked(Codes(torch.tensor(saved["data"])[:, :, None], scale))
        return last, *numbers
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise StateError(f"state has a damaged last frame ({error})") from error


def _saved_window(meta: dict[str, Any], asked: SemanticWindow | None, codec: Streamed) -> SemanticWindow | None:
    """The window that a saved encoder had. Raises StateError for another one, and for one that cannot be."""
    found, default = meta.get("window"), codec.spec.semantic_window
    if found is None and default is None:
        return asked
    if default is None or not isinstance(found, dict):
        raise StateError(f"state has window={found!r}; it is damaged")
    try:
        window = dataclasses.replace(default, **found)
    except (TypeError, InputError) as error:
        raise StateError(f"state has window={found!r}; it is damaged") from error
    if asked is not None and asked != window:
        raise StateError(f"state was saved with window={window} and cannot go on with {asked}; leave it out")
    return window


def refuse_changes(meta: dict[str, Any], batch: SupportsIndex | None, start: str | None) -> None:
    for name, asked in (("batch", batch), ("start", start)):
        if asked is not None and asked != meta[name]:
            raise StateError(
                f"state was saved with {name}={meta[name]!r} and cannot go on with {asked!r}; leave it out"
            )
