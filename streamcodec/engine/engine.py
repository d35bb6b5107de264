"""The engine: sessions in slots, fed at any time, moved on together by `step`."""

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import SupportsFloat, SupportsIndex, cast, overload

import torch
from torch import Tensor

from ..codecs import Codec
from ..codecs.framed import FramedCore
from ..codes import Codes, CodesLike
from ..errors import EngineFullError, InputError, StateError, StreamClosedError, StreamError
from ..nn.piece import Core
from ..nn.transducer import Network
from ..pcm import AudioLike, as_int16
from ..scalars import whole
from ..stream import Start
from ..surroundings import undisturbed
from .batched import BatchedLane
from .batched_decoders import BatchedDecoders
from .batched_encoders import BatchedEncoders
from .figures import EngineFigures, LaneFigures, SessionFigures, StepTime
from .lane import Result, Saved, Side
from .saving import pack, unpack
from .session import DIRECTIONS, Delivery, Direction, Session
from .single import SingleDecoders, SingleEncoders, SingleLane

__all__ = ["Engine"]

BATCH_SIZES = (1, 2, 4, 8, 12, 16, 24, 32)
# For live sessions: longer steps cost less a frame (docs/log.md), but keep the sessions that come meanwhile waiting.
STEP_FRAMES = (1, 2, 4)
FRAMES_AT_ONCE = 48
# Seconds of audio that may wait, at least: more than a network's hiccup, less than a denial of service.
QUEUE_SECONDS = 2.0


class Engine:
    """Many sessions of one codec, their steps batched.

    slots: sessions per direction; a roundtrip takes an encoder's and a decoder's. Their states are allocated here.
    batch_sizes: the sizes at which steps run; the smallest that holds the ready sessions is taken (natively just as
    many as are ready), and more sessions than the largest are run in several batches. step_frames: the numbers of
    frames by which a session may move on in a step; None is (1, 2, 4). It waits for the least of them; a longer step
    costs less a frame, and serves sessions that have fallen behind. frames_at_once: the most frames of all sessions
    together in a step longer than the least, which bounds the time of a step; None is 48 for the default step_frames,
    and no limit where they are named.
    max_queue_frames: frames per session that may wait for a step. threads: a step's sessions are shared among as many
    threads (set torch's own number of threads to 1 then). backend: what computes, None for what the codec was loaded
    with (`Codec.on`).

    The defaults serve live sessions. On a CPU a batch of streams is no faster than `Codec.encode` of one recording
    after another: for a folder of files use that, or name long steps, such as step_frames=(1, 15).

    What a session is given does not depend on the other sessions, nor on when steps run: it equals the single stream's
    result (`Codec.open_encoder`, `Codec.open_decoder`) to the rounding of another batch size.

    Not thread-safe: all calls belong to one thread. `close`, `open`, `feed`, `flush` and `set_bandwidth` may be called
    while a step runs (from a hook); a step delivers only to sessions that were open when it began and still are.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        slots: SupportsIndex = 32,
        batch_sizes: Sequence[SupportsIndex] = BATCH_SIZES,
        step_frames: Sequence[SupportsIndex] | None = None,
        frames_at_once: SupportsIndex | None = None,
        max_queue_frames: SupportsIndex | None = None,
        threads: SupportsIndex = 1,
        backend: str | None = None,
    ):
        codec = codec if backend is None else codec.on(backend)
        codec.spec.check_codes()
        codec.check_precision()
        codec.notice_writes()
        self.codec, self._made_for = codec, (codec.dtype, codec.device)
        self.slots = whole(slots, "slots")
        if frames_at_once is None and step_frames is None:
            frames_at_once = FRAMES_AT_ONCE
        self.frames_at_once = None if frames_at_once is None else whole(frames_at_once, "frames_at_once")
        self.step_frames = _ascending(STEP_FRAMES if step_frames is None else step_frames, "step_frames")
        self.batch_sizes = _sizes(batch_sizes, self.slots)
        longest = max(codec.spec.encoder_prefill, codec.spec.decoder_prefill, self.step_frames[0]) + 1
        if max_queue_frames is None:
            max_queue_frames = max(longest, round(QUEUE_SECONDS * codec.spec.frame_rate))
        self.max_queue_frames = whole(max_queue_frames, "max_queue_frames")
        if self.max_queue_frames < longest:
            raise InputError(f"max_queue_frames is {max_queue_frames}; this codec needs at least {longest} to begin")
        self.threads = whole(threads, "threads")
        self._pool = ThreadPoolExecutor(self.threads - 1, "streamcodec") if self.threads > 1 else None
        with torch.inference_mode():
            self._encoders: BatchedEncoders | SingleEncoders = self._encoder_lane()
            self._decoders: BatchedDecoders | SingleDecoders = self._decoder_lane()
        self._sessions: set[Session] = set()
        self._opened = self._refused = self._failed = 0
        self._time = StepTime()
        self._stepping = False

    def _encoder_lane(self) -> BatchedEncoders | SingleEncoders:
        network = _framed(self.codec.encoder_core(1, "exact"))
        if network is None:
            return SingleEncoders(self.codec, "encoder", self.slots, self.step_frames[0], self.max_queue_frames)
        return BatchedEncoders(self.codec, network, "encoder", *self._lane_sizes())

    def _decoder_lane(self) -> BatchedDecoders | SingleDecoders:
        network = _framed(self.codec.decoder_core(1, "exact", None))
        if network is None:
            return SingleDecoders(self.codec, "decoder", self.slots, self.step_frames[0], self.max_queue_frames)
        return BatchedDecoders(self.codec, network, "decoder", *self._lane_sizes())

    def _lane_sizes(
        self,
    ) -> tuple[int, tuple[int, ...], tuple[int, ...], int | None, int, int, ThreadPoolExecutor | None]:
        sizes = (self.slots, self.batch_sizes, self.step_frames, self.frames_at_once, self.max_queue_frames)
        return *sizes, self.threads, self._pool

    def __copy__(self) -> "Engine":
        raise StreamError("an engine cannot be copied: its sessions would share their state; save and restore sessions")

    def __deepcopy__(self, memo: object) -> "Engine":
        return self.__copy__()

    @undisturbed
    @torch.inference_mode()
    def prepare(self) -> None:
        """Run every batch size once, so that no session pays for what is made when first used."""
        self._encoders.prepare()
        self._decoders.prepare()

    # -- sessions --------------------------------------------------------------------------------------------------

    @undisturbed
    @torch.inference_mode()
    def open(
        self,
        direction: Direction,
        *,
        bandwidth: SupportsFloat | None = None,
        num_codebooks: SupportsIndex | None = None,
        start: Start = "exact",
        codes: bool = False,
        int16: bool = False,
    ) -> Session:
        """A new session.

        direction: "encode" (audio to codes), "decode" (codes to audio) or "roundtrip" (audio to codes to audio).
        bandwidth, num_codebooks: as for `Codec.encode`; for "decode" with a primed start, as for `Codec.open_decoder`.
        start: "exact" or "primed", as for `Codec.open_encoder`; codes: deliver a roundtrip's codes too.
        int16: deliver audio as int16 and not as float, rounded to the nearest and clipped.
        Raises EngineFullError when no slot is free, InputError, BandwidthError.
        """
        self._check_codec("open")
        if direction not in DIRECTIONS:
            raise InputError(f"direction is {direction!r}; it must be one of {', '.join(DIRECTIONS)}")
        if start not in ("exact", "primed"):
            raise InputError(f"start is {start!r}; it must be 'exact' or 'primed'")
        self.codec.notice_writes()
        session = Session(direction, start, self.codec.spec.resolve(bandwidth, num_codebooks), bool(codes), bool(int16))
        self._enter(session, {})
        return session

    def _enter(self, session: Session, saved: dict[str, Saved]) -> None:
        encodes, decodes = DIRECTIONS[session.direction]
        if saved:
            encodes, decodes = "encoder" in saved, "decoder" in saved
        try:
            if encodes:
                arguments = (session, session.start, session.bandwidth, saved.get("encoder"))
                session.encoder = self._encoders.open(*arguments)
            if decodes:
                arguments = (session, session.start, session.bandwidth, saved.get("decoder"))
                session.decoder = self._decoders.open(*arguments)
        except Exception as error:
            self._leave(session)
            self._refused += isinstance(error, EngineFullError)
            raise
        self._sessions.add(session)
        self._opened += 1

    def _leave(self, session: Session) -> None:
        if session.encoder is not None:
            self._encoders.close(session.encoder)
        if session.decoder is not None:
            self._decoders.close(session.decoder)
        session.encoder = session.decoder = None
        session.closed = True
        self._sessions.discard(session)

    def _check_codec(self, call: str) -> None:
        weights = self.codec.quantizer.codebooks
        now = (weights.dtype, weights.device)
        if now != self._made_for:
            raise StreamError(
                f"{call}: the codec is {now[0]} on {now[1]} now, and was {self._made_for[0]} on {self._made_for[1]} "
                "when this engine was made; move it back, or make a new engine"
            )

    def _check_open(self, session: Session, call: str) -> None:
        if session not in self._sessions:
            why = "failed" if session.error is not None else "is over" if session.closed else "is of another engine"
            raise StreamClosedError(f"{call}: this session {why}; open a new one")
        if session.ended and call not in ("save", "cut"):
            raise StreamClosedError(f"{call} after flush: this session has ended; open a new one")

    def feed(self, session: Session, data: AudioLike | CodesLike) -> None:
        """More input: audio [1, channels, n] as `EncoderStream.push` takes it, or codes as `DecoderStream.push` does.

        Raises StreamClosedError, QueueFullError (which says how much there is room for), InputError, StreamError; the
        session is then as it was.
        """
        self._check_open(session, "feed")
        self._check_codec("feed")
        if session.direction == "decode":
            session.decoder.put(self.codec.checked(cast(CodesLike, data), 1))
        else:
            session.encoder.put(self.codec.as_rows(cast(AudioLike, data), 1))

    def flush(self, session: Session) -> None:
        """The end of a session's input. What is left comes out in later steps, the last of which says `done`.

        Raises StreamClosedError.
        """
        self._check_open(session, "flush")
        session.ended = True
        (session.encoder or session.decoder).end()

    def cut(self, session: Session, fade: SupportsIndex) -> None:
        """The end of a session that is cut off: its audio goes on for `fade` samples after what was delivered, in which
        it falls to silence (`DecoderStream.cut`). What waits is dropped; the last delivery says `done`.

        It may be called after `flush` too. Raises StreamClosedError, StreamError for an "encode" session, InputError.
        """
        samples = whole(fade, "fade")
        self._check_open(session, "cut")
        self._check_codec("cut")
        if session.decoder is None:
            raise StreamError("this session encodes, and there is no audio to fade: close it")
        if session.encoder is not None:
            self._encoders.close(session.encoder)
            session.encoder = None
        session.ended = True
        session.decoder.cut(samples)

    def set_bandwidth(
        self,
        session: Session,
        bandwidth: SupportsFloat | None = None,
        *,
        num_codebooks: SupportsIndex | None = None,
    ) -> None:
        """Change the bandwidth of an "encode" or "roundtrip" session; both names as for `Codec.encode`.

        It holds for the frames that what was fed so far does not complete, as if it had been run at once.
        Raises BandwidthError, StreamClosedError, StreamError for a "decode" session; the old one stays.
        """
        self._check_open(session, "set_bandwidth")
        chosen = self.codec.spec.resolve(bandwidth, num_codebooks)
        if session.encoder is None:
            raise StreamError("this session decodes: the codes it is fed have the bandwidth")
        session.encoder.change(chosen)
        session.bandwidth = chosen

    def close(self, session: Session) -> None:
        """Give up a session and free its slots, at any time. What it has not been given is lost. Twice is fine."""
        self._leave(session)

    # -- steps -----------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether a step would move any session on."""
        return self._encoders.any_ready() or self._decoders.any_ready()

    def moves(self, session: Session) -> bool:
        """Whether a step would move this session on; False for one that is over."""
        sides = ((self._encoders, session.encoder), (self._decoders, session.decoder))
        return any(side is not None and lane.ready(side) for lane, side in sides)

    @undisturbed
    def step(self) -> list[Delivery]:
        """Move every ready session on, by as many of `step_frames` as wait; returns what came out of it.

        A session that fails is closed and its error delivered; the others go on.
        """
        if self._stepping:
            raise StreamError("step inside a step; wait until it returns")
        self._check_codec("step")
        self._stepping = True
        began = time.perf_counter()
        deliveries: dict[Session, Delivery] = {}
        took_part: set[Session] = set()
        try:
            for result in self._timed(self._encoders):
                self._encoded(result, deliveries, took_part)
            for result in self._timed(self._decoders):
                self._decoded(result, deliveries, took_part)
        finally:
            self._stepping = False
        if took_part:
            seconds = time.perf_counter() - began
            for clock in (self._time, *(session.time for session in took_part)):
                clock.add(seconds)
        return [delivery for delivery in deliveries.values() if _worth(delivery)]

    def _timed(self, lane: BatchedLane | SingleLane) -> list[Result]:
        began = time.perf_counter()
        results = lane.run()
        if results:
            lane.seconds += time.perf_counter() - began
        return results

    def _encoded(self, result: Result, deliveries: dict[Session, Delivery], took_part: set[Session]) -> None:
        side, session = result.side, result.side.owner
        took_part.add(session)
        delivery = deliveries[session] = Delivery(session)
        if result.error is not None:
            return self._fail(delivery, result.error)
        assert isinstance(result.output, list)
        session.encoded_frames += sum(piece.data.shape[2] for piece in result.output)
        if session.direction == "encode" or session.codes:
            with torch.inference_mode(False):  # the caller may train a model on these
                delivery.codes = [
                    Codes(piece.data.clone(memory_format=torch.contiguous_format), piece.scale, piece.length)
                    for piece in result.output
                ]
        if session.decoder is not None:
            for piece in result.output:
                session.decoder.put(piece, bounded=False)
        if side.done:
            self._encoders.close(side)
            session.encoder = None
            if session.decoder is None:
                self._finish(delivery)
            else:
                session.decoder.end()
        return None

    def _decoded(self, result: Result, deliveries: dict[Session, Delivery], took_part: set[Session]) -> None:
        session = result.side.owner
        took_part.add(session)
        delivery = deliveries.setdefault(session, Delivery(session))
        if result.error is not None:
            return self._fail(delivery, result.error)
        assert isinstance(result.output, Tensor)
        if result.output.shape[2]:
            delivery.audio = as_int16(result.output) if session.int16 else result.output
        session.decoded_frames = result.side.count.frames - result.side.queued
        if result.side.done:
            self._finish(delivery)
        return None

    def _finish(self, delivery: Delivery) -> None:
        delivery.done = True
        self._leave(delivery.session)

    def _fail(self, delivery: Delivery, error: Exception) -> None:
        delivery.error = delivery.session.error = error
        self._failed += 1
        self._leave(delivery.session)

    # -- saving ----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def save(self, session: Session) -> bytes:
        """An open session with all that waits in its queues, as bytes for `restore`. The session goes on.

        Raises StreamClosedError for one that is over, StreamError inside a step.
        """
        self._check_open(session, "save")
        if self._stepping:
            raise StreamError("save inside a step; wait until it returns")
        sides: dict[str, Side | None] = {"encoder": session.encoder, "decoder": session.decoder}
        fields = {
            "direction": session.direction,
            "start": session.start,
            "bandwidth": session.bandwidth,
            "codes": session.codes,
            "int16": session.int16,
            "ended": session.ended,
        }
        return pack(self.codec, fields, {name: side.save() for name, side in sides.items() if side is not None})

    @undisturbed
    @torch.inference_mode()
    def restore(self, blob: bytes) -> Session:
        """A session that goes on where the saved one was, here or in another process with the same codec.

        Raises StateError for bytes that are damaged or another codec's, EngineFullError.
        """
        self._check_codec("restore")
        meta, saved = unpack(self.codec, blob)
        session = Session(
            meta["direction"], meta["start"], float(meta["bandwidth"]), bool(meta["codes"]),
            bool(meta.get("int16", False)), bool(meta["ended"]),
        )  # fmt: skip
        try:
            self._enter(session, saved)
        except InputError as error:  # codes that wait, and are none
            raise StateError(f"saved session is damaged: {error}") from error
        return session

    # -- figures ---------------------------------------------------------------------------------------------------

    @overload
    def figures(self) -> EngineFigures: ...

    @overload
    def figures(self, session: Session) -> SessionFigures: ...

    def figures(self, session: Session | None = None) -> EngineFigures | SessionFigures:
        """`EngineFigures` of all sessions together, or `SessionFigures` of one, which may be over."""
        if session is None:
            return self._engine_figures()
        encoder, decoder = session.encoder, session.decoder
        return SessionFigures(
            queued_samples=0 if encoder is None else encoder.queued,
            queued_frames=0 if decoder is None else decoder.queued,
            encoded_frames=session.encoded_frames,
            decoded_frames=session.decoded_frames,
            time=dataclasses.replace(session.time),
        )

    def _engine_figures(self) -> EngineFigures:
        return EngineFigures(
            sessions=len(self._sessions),
            opened=self._opened,
            refused=self._refused,
            failed=self._failed,
            time=dataclasses.replace(self._time),
            encoder=_lane_figures(self._encoders, self.codec.spec.hop_length),
            decoder=_lane_figures(self._decoders, 1),
        )


def _lane_figures(lane: BatchedLane | SingleLane, per_frame: int) -> LaneFigures:
    return lane.figures(isinstance(lane, BatchedLane), per_frame)


def _framed(core: Core) -> Network | None:
    """The network of a stream's core, where it runs one frame by frame."""
    return core.transducer.network if isinstance(core, FramedCore) else None


def _worth(delivery: Delivery) -> bool:
    """Whether there is anything to tell the owner, who may have closed the session during the step."""
    told = delivery.codes or delivery.audio is not None
    over = delivery.done or delivery.error is not None
    return bool(over or (told and not delivery.session.closed))


def _ascending(numbers: Sequence[SupportsIndex], name: str) -> tuple[int, ...]:
    if not len(numbers):
        raise InputError(f"{name} is empty; it must have at least one whole number")
    return tuple(sorted({whole(number, f"one of {name}") for number in numbers}))


def _sizes(batch_sizes: Sequence[SupportsIndex], slots: int) -> tuple[int, ...]:
    """Ascending, none larger than needed for all slots, and one for a single session, which a failed batch needs."""
    sizes = sorted({1, *(whole(size, "a batch size") for size in batch_sizes)})
    enough = [size for size in sizes if size >= slots]
    return tuple(size for size in sizes if not enough or size <= enough[0])
