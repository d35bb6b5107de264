"""The engines of one process, one for each codec, and what they are told and tell: without threads and without waiting.

Each turn steps all sessions that can move on; those that come meanwhile make up the next step's batch, so batches grow
with the load.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from ..codecs import Codec, Start
from ..codes import Codes
from ..engine import Delivery, Direction, Engine, Session
from .voice import Array, Asked, Frames, Output, queue_frames, repeated

__all__ = ["EngineLoop"]


class _Part:
    """What is known of a voice here."""

    def __init__(self, voice: Asked) -> None:
        self.voice = voice
        self.session: Session | None = None
        self.bandwidth = voice.bandwidth
        self.commands: deque[tuple[str, Any]] = deque()
        self.fed = self.reported = 0
        self.last: Codes | None = None  # frame of codes that was fed
        self.missing = 0  # frames since then
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


class EngineLoop:
    """codecs: by the name that clients use. slots: of each engine. All calls are for one thread.

    stepped: called after each step with the codec's name, its seconds and how many sessions it served. failed: called
    with a codec's name and what went wrong.
    """

    def __init__(
        self,
        codecs: dict[str, Codec],
        *,
        slots: int,
        queue_seconds: float,
        stepped: Callable[[str, float, int], None] = lambda codec, seconds, sessions: None,
        failed: Callable[[str, Exception], None] = lambda codec, error: None,
    ) -> None:
        self.codecs = codecs
        self._stepped, self._failed = stepped, failed
        self.engines = {
            name: Engine(codec, slots=slots, max_queue_frames=queue_frames(codec, queue_seconds) + 1)
            for name, codec in codecs.items()
        }
        self._by_session: dict[Session, _Part] = {}
        self._touched: set[_Part] = set()
        self.silent_frames: dict[str, Frames] = {}

    def prepare(self) -> None:
        """Before all else: make what is made on first use."""
        for engine in self.engines.values():
            engine.prepare()
        self.silent_frames = {name: _as_frames(codec.silent_frame()) for name, codec in self.codecs.items()}

    def silence(self, name: str, frames: int, codebooks: int) -> Frames:
        """A codec's codes for silence, once prepared. For any thread."""
        return repeated(self.silent_frames[name], frames, codebooks)

    @property
    def moving(self) -> bool:
        """Whether a turn would do anything without new commands."""
        return any(engine.ready for engine in self.engines.values())

    def turn(self) -> list[tuple[Any, Output]]:
        """A step of every engine that is ready, and what there is to tell."""
        for name, engine in self.engines.items():
            if engine.ready:
                self._step(name, engine)
        return self._collect()

    def command(self, voice: Asked, kind: str, argument: Any) -> None:
        """What was posted for a voice, in the order in which it was."""
        if voice.part is None:
            voice.part = _Part(voice)
        self._command(voice.part, kind, argument)

    # -- inside ----------------------------------------------------------------------------------------------------

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
            codes = _as_codes(argument)
            engine.feed(session, codes)
            part.fed += argument.codes.shape[1]
            if codes.data.shape[2]:
                part.last, part.missing = Codes(codes.data[:, :, -1:], _last(codes.scale)), 0
        elif kind == "missing":
            frames, codebooks = argument
            engine.feed(session, self._stand_in(part, frames, codebooks))
            part.fed += frames
            part.missing += frames
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

    def _stand_in(self, part: _Part, frames: int, codebooks: int) -> Codes:
        """Codes for frames that are missing."""
        if part.last is None:
            return _as_codes(self.silence(part.voice.codec, frames, codebooks))
        return self.codecs[part.voice.codec].conceal(part.last, part.missing, frames)

    def _session(self, part: _Part) -> Session:
        """The engine's session of the stream that runs, opened where there is none."""
        if part.session is None:
            voice = part.voice
            part.session = self._engine(part).open(
                cast(Direction, voice.direction), bandwidth=part.bandwidth, start=cast(Start, voice.start), codes=False,
                int16=voice.int16,
            )  # fmt: skip
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
            audio = _as_samples(delivery.audio)
            output.audio = audio if output.audio is None else np.concatenate([output.audio, audio], axis=1)
        if delivery.done:
            kind, tag = part.commands.popleft()
            assert kind == "flush", "a session is done when it was flushed"
            output.answers.append(("flushed", tag, part.frames()))
            self._by_session.pop(delivery.session, None)
            part.session = part.last = None
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

    def _collect(self) -> list[tuple[Any, Output]]:
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


def _as_samples(audio: torch.Tensor) -> Array:
    """Audio [1, C, n] as [C, n] on the CPU, float32 or int16."""
    samples: Array = (audio if audio.is_cpu else audio.cpu()).numpy()[0]
    return samples if audio.dtype == torch.int16 else samples.astype(np.float32, copy=False)


def _as_frames(codes: Codes) -> Frames:
    scale = None if codes.scale is None else codes.scale[0].cpu().numpy().astype(np.float32)
    return Frames(codes.data[0].cpu().numpy().astype(np.uint16), scale)


def _last(scale: "torch.Tensor | None") -> "torch.Tensor | None":
    return None if scale is None else scale[:, -1:]


def _as_codes(frames: Frames) -> Codes:
    data = torch.from_numpy(frames.codes.astype(np.int64))[None]
    return Codes(data, None if frames.scale is None else torch.from_numpy(frames.scale.copy())[None], None)
