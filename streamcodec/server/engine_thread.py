"""The engines in a thread of their own, one for each codec.

The event loop posts commands to voices and is given outputs, in batches: one call into the loop for each step. The
thread sleeps until there is something to do. It steps as soon as any session can move on; sessions that come meanwhile
make up the next step's batch, so batches grow with the load and nobody waits for a timer.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..codecs import Codec
from ..codes import Codes
from ..engine import Delivery, Engine, Session

__all__ = ["EngineThread", "Engines", "Frames", "Output", "Voice"]

Array = NDArray[Any]

# Frames of silence that are encoded to find a codec's code for silence, and the one that is taken: away from the edges.
SILENT_FRAMES, SILENT_FRAME = 32, 16


@dataclass(frozen=True, eq=False)
class Frames:
    """codes: [K, T] uint16; scale: [T] float32 or None."""

    codes: Array
    scale: Array | None = None


@dataclass(eq=False)
class Output:
    """What a voice has to tell. taken: of all that it was fed, what went into a step (samples; frames for "decode").

    frames: what came out of the encoder; length: samples that they stand for; audio: float32 [C, n].
    answers: marks that were reached, each with the frames of the stream so far; "flushed": the stream ended.
    """

    taken: int = 0
    frames: list[Frames] = field(default_factory=list)
    length: int = 0
    audio: Array | None = None
    answers: list[tuple[str, Any, int]] = field(default_factory=list)
    error: Exception | None = None


class Voice:
    """One session of an engine after another: a flush ends one, what is fed after it begins the next.

    All calls are for the event loop, and return at once. `receive` gets every Output, there. After `close`, or an
    Output with an error, nothing comes any more.
    """

    def __init__(
        self,
        thread: "Engines",
        codec: str,
        direction: str,
        start: str,
        bandwidth: float,
        receive: Callable[[Output], None],
    ) -> None:
        self.codec, self.direction, self.start, self.bandwidth = codec, direction, start, bandwidth
        self.receive = receive
        self.closed = False  # of the loop's
        self._thread = thread
        self.part = _Part(self)  # of the engine's thread
        thread.post(self, "open", None)

    def feed(self, samples: Array) -> None:
        """float32 [C, n] at the codec's rate."""
        self._thread.post(self, "feed", samples)

    def feed_codes(self, frames: Frames) -> None:
        self._thread.post(self, "codes", frames)

    def feed_silence(self, frames: int, codebooks: int) -> None:
        """For "decode": frames of silence."""
        self._thread.post(self, "silence", (frames, codebooks))

    def change(self, bandwidth: float) -> None:
        """Answered by ("bandwidth", bandwidth, frame): it holds from this frame on."""
        self._thread.post(self, "bandwidth", bandwidth)

    def mark(self, tag: Any) -> None:
        """Answered by ("mark", tag, frames) when all that can come of what was fed before has come."""
        self._thread.post(self, "mark", tag)

    def flush(self, tag: Any) -> None:
        """The stream ends. Answered by ("flushed", tag, frames) after its last output."""
        self._thread.post(self, "flush", tag)

    def close(self) -> None:
        """Give the slots back. Twice is fine."""
        if not self.closed:
            self.closed = True
            self._thread.post(self, "close", None)


class Engines(Protocol):
    """What the event loop needs of the engines, wherever they run."""

    def silence(self, name: str, frames: int, codebooks: int) -> Frames: ...

    def post(self, voice: Voice, kind: str, argument: Any) -> None: ...


class _Part:
    """What the engine's thread knows of a voice."""

    def __init__(self, voice: Voice) -> None:
        self.voice = voice
        self.session: Session | None = None
        self.bandwidth = voice.bandwidth
        self.commands: deque[tuple[str, Any]] = deque()
        self.fed = self.reported = 0
        self.out: Output | None = None
        self.closed = False

    def output(self) -> Output:
        if self.out is None:
            self.out = Output()
        return self.out

    def queued(self) -> int:
        session = self.session
        if session is None or session.closed:
            return 0
        side = session.decoder if self.voice.direction == "decode" else session.encoder
        return 0 if side is None else side.queued

    def frames(self) -> int:
        session = self.session
        if session is None:
            return 0
        return session.decoded_frames if self.voice.direction == "decode" else session.encoded_frames


class EngineThread:
    """codecs: by the name that clients use. slots, threads: of each engine.

    deliver: called in this thread with a batch of (voice, output) after each step; it has to hand them to the loop.
    stepped: called in this thread after each step with the codec's name, its seconds and how many sessions it served.
    """

    def __init__(
        self,
        codecs: dict[str, Codec],
        *,
        slots: int,
        threads: int,
        queue_seconds: float,
        deliver: Callable[[list[tuple[Voice, Output]]], None],
        stepped: Callable[[str, float, int], None] = lambda codec, seconds, sessions: None,
        failed: Callable[[str, Exception], None] = lambda codec, error: None,
    ) -> None:
        self.codecs = codecs
        self.ready = threading.Event()
        self.cpu_seconds = 0.0
        self.broken: BaseException | None = None
        self._deliver, self._stepped, self._failed = deliver, stepped, failed
        self.engines = {
            name: Engine(codec, slots=slots, threads=threads, max_queue_frames=queue_frames(codec, queue_seconds) + 1)
            for name, codec in codecs.items()
        }
        self._by_session: dict[Session, _Part] = {}
        self._touched: set[_Part] = set()
        self.silent_frames: dict[str, Frames] = {}
        self._condition = threading.Condition()
        self._commands: deque[tuple[Voice, str, Any]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)

    # -- from the event loop ---------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after the step that runs."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and self.broken is None

    def credit(self, name: str, queue_seconds: float) -> int:
        """Frames of one voice that may wait."""
        return queue_frames(self.codecs[name], queue_seconds)

    def silence(self, name: str, frames: int, codebooks: int) -> Frames:
        """A codec's codes for silence, once the thread is ready. For any thread."""
        return silence_of(self.silent_frames[name], frames, codebooks)

    def post(self, voice: Voice, kind: str, argument: Any) -> None:
        with self._condition:
            self._commands.append((voice, kind, argument))
            self._condition.notify()

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            for engine in self.engines.values():
                engine.prepare()
            self.silent_frames = {name: silent_frame(codec) for name, codec in self.codecs.items()}
            self.ready.set()
            while self._turn():
                pass
        except BaseException as error:
            self.broken = error
            self._failed("", error if isinstance(error, Exception) else RuntimeError(repr(error)))
            raise

    def _turn(self) -> bool:
        moving = any(engine.ready for engine in self.engines.values())
        with self._condition:
            while not (self._commands or moving or self._stopping):
                self._condition.wait()
            if self._stopping:
                return False
            commands, self._commands = self._commands, deque()
        for voice, kind, argument in commands:
            self._command(voice.part, kind, argument)
        for name, engine in self.engines.items():
            if engine.ready:
                self._step(name, engine)
        batch = self._collect()
        self.cpu_seconds = time.thread_time()
        if batch:
            self._deliver(batch)
        return True

    def _command(self, part: _Part, kind: str, argument: Any) -> None:
        if part.closed:
            return
        if kind == "close":
            part.closed = True
            part.commands.clear()
            self._touched.discard(part)
            if part.session is not None:
                self._by_session.pop(part.session, None)
                self._engine(part).close(part.session)
            return
        part.commands.append((kind, argument))
        self._touched.add(part)
        self._advance(part)

    def _engine(self, part: _Part) -> Engine:
        return self.engines[part.voice.codec]

    def _advance(self, part: _Part) -> None:
        """Run the voice's commands up to one that has to wait for steps."""
        while part.commands and not part.closed:
            kind, argument = part.commands[0]
            try:
                if not self._run(part, kind, argument):
                    return
            except Exception as error:
                self._fail(part, error)
                return
            part.commands.popleft()

    def _run(self, part: _Part, kind: str, argument: Any) -> bool:
        """Whether the command is done; else it is tried again after the next step."""
        session = self._session(part)
        engine = self._engine(part)
        if kind == "feed":
            engine.feed(session, argument[None])
            part.fed += argument.shape[1]
        elif kind == "codes":
            engine.feed(session, _as_codes(argument))
            part.fed += argument.codes.shape[1]
        elif kind == "silence":
            frames, codebooks = argument
            engine.feed(session, _as_codes(self.silence(part.voice.codec, frames, codebooks)))
            part.fed += frames
        elif kind == "flush":
            if not session.ended:
                engine.flush(session)
            return False  # the last delivery takes it from the queue
        elif kind in ("bandwidth", "mark"):
            if engine.moves(session):
                return False
            if kind == "bandwidth":
                engine.set_bandwidth(session, argument)
                part.bandwidth = argument
            part.output().answers.append((kind, argument, part.frames()))
        return True

    def _session(self, part: _Part) -> Session:
        """The engine's session of the stream that runs, opened where there is none."""
        if part.session is None:
            voice = part.voice
            part.session = self._engine(part).open(
                voice.direction, bandwidth=part.bandwidth, start=voice.start, codes=False
            )
            self._by_session[part.session] = part
        return part.session

    def _step(self, name: str, engine: Engine) -> None:
        began = time.perf_counter()
        try:
            deliveries = engine.step()
        except Exception as error:  # a mistake of the engine's own: its sessions are lost, those of others are not
            self._failed(name, error)
            for part in [part for part in self._by_session.values() if part.voice.codec == name]:
                self._fail(part, error)
            return
        for delivery in deliveries:
            owner = self._by_session.get(delivery.session)
            if owner is not None:
                self._delivered(owner, delivery)
        self._stepped(name, time.perf_counter() - began, len(deliveries))

    def _delivered(self, part: _Part, delivery: Delivery) -> None:
        if delivery.error is not None:
            self._failed(part.voice.codec, delivery.error)
            self._fail(part, delivery.error)
            return
        output = part.output()
        for codes in delivery.codes:
            if codes.data.shape[2]:
                scale = None if codes.scale is None else codes.scale[0].to("cpu", torch.float32).numpy()
                output.frames.append(Frames(codes.data[0].cpu().numpy().astype(np.uint16), scale))
            output.length += codes.length or 0
        if delivery.audio is not None:
            audio = delivery.audio[0].to("cpu", torch.float32).numpy()
            output.audio = audio if output.audio is None else np.concatenate([output.audio, audio], axis=1)
        if delivery.done:
            kind, tag = part.commands.popleft()
            assert kind == "flush", "a session is done when it was flushed"
            output.answers.append(("flushed", tag, part.frames()))
            self._by_session.pop(delivery.session, None)
            part.session = None
            self._touched.add(part)

    def _fail(self, part: _Part, error: Exception) -> None:
        part.output().error = error
        self._touched.add(part)
        part.closed = True
        part.commands.clear()
        if part.session is not None:
            self._by_session.pop(part.session, None)
            with contextlib.suppress(Exception):
                self._engine(part).close(part.session)

    def _collect(self) -> list[tuple[Voice, Output]]:
        """What there is to tell, and to go on with, after a step."""
        batch = []
        for part in list(self._touched):
            if part.commands:
                self._advance(part)
            taken = part.fed - part.queued()
            if part.out is not None or taken != part.reported:
                output, part.out = part.output(), None
                output.taken = part.reported = taken
                batch.append((part.voice, output))
            if part.closed or not (part.commands or part.queued()):
                self._touched.discard(part)
        return batch


def queue_frames(codec: Codec, seconds: float) -> int:
    """Frames that may wait in the engine: those seconds, and at least what a start or a segment needs."""
    spec = codec.spec
    least = max(spec.encoder_prefill, spec.decoder_prefill, spec.segment_frames or 0, 1) + 2
    return max(least, round(seconds * spec.frame_rate))


def silent_frame(codec: Codec) -> Frames:
    """One frame of silence, from the middle of some."""
    with torch.inference_mode():
        silence = codec.silence(SILENT_FRAMES)
    middle = slice(SILENT_FRAME, SILENT_FRAME + 1)
    scale = None if silence.scale is None else silence.scale[0, middle].cpu().numpy().astype(np.float32)
    return Frames(silence.data[0, :, middle].cpu().numpy().astype(np.uint16), scale)


def silence_of(one: Frames, frames: int, codebooks: int) -> Frames:
    """`frames` times the frame `one`, cut to `codebooks`."""
    scale = None if one.scale is None else np.repeat(one.scale, frames)
    return Frames(np.repeat(one.codes[:codebooks], frames, axis=1), scale)


def _as_codes(frames: Frames) -> Codes:
    data = torch.from_numpy(frames.codes.astype(np.int64))[None]
    return Codes(data, None if frames.scale is None else torch.from_numpy(frames.scale.copy())[None], None)
