"""The engines, in processes of their own.

A step is hundreds of short operations, and after each its thread asks for the interpreter's lock again. Beside an event
loop that holds the lock a quarter of the time a step takes half as long again (docs/load.md), so the engine runs
elsewhere, in the one thread of a process: commands go there over a pipe, and what a step gives comes back at once.
"""

import asyncio
import contextlib
import gc
import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch

from ..codecs import Codec
from ..engine.placement import Kind, place
from ..engine.session import Direction
from .children import leaving_ctrl_c
from .engine_loop import EngineLoop
from .engine_pipe import InnerPipe, OuterPipe, Samples, from_plain, to_plain
from .line_writer import unhurried_stderr
from .shared_codecs import SharedCodecs
from .voice import Asked, Frames, Output, Voice, repeated

__all__ = ["EngineProcesses", "settle"]

STOP_SECONDS = 5.0  # until a process that does not end is ended
FIGURES_SECONDS = 0.1  # between what an engine tells of its steps
# Between the beginnings of two turns, at least, where nothing waits for the second: whoever comes meanwhile shares it.
TURN_SECONDS = 0.003


class Command(NamedTuple):
    """What the voice of this number is told. Samples that are fed to it come as `Samples`."""

    number: int
    kind: str
    argument: Any


class Told(NamedTuple):
    """What a voice has to tell, but for audio alone, which comes as `Samples`. output: by `to_plain`."""

    number: int
    output: Any


class Figures(NamedTuple):
    """Of an engine: its steps and failures since the last ones, and the CPU time that it has taken in all."""

    steps: list[tuple[str, float, int]]
    failures: list[tuple[str, str]]
    cpu_seconds: float


class _Engine:
    """One process, as the server sees it. voices: of the server's, by number."""

    pipe: OuterPipe

    def __init__(self, process: Any, sockets: tuple[socket.socket, socket.socket]) -> None:
        self.process, self.sockets = process, sockets
        self.voices: dict[int, Voice] = {}
        self.ready = self.lost = False
        self.cpu_seconds = 0.0


class EngineProcesses:
    """engines: how many processes; a session stays in the one that it was given (`engine.placement`), and each has room
    for all. slots: of each engine. codecs: here they are without weights, which the processes share.

    deliver: called with a batch of (voice, output) after each step. stepped, failed: as for an `EngineLoop`. They are
    called in the event loop's thread, and all calls but `stop` are for it.

    A process that ends takes its sessions with it: each is told so by an Output with an error, and `alive` is false.
    """

    _event_loop: asyncio.AbstractEventLoop

    def __init__(
        self,
        codecs: dict[str, Codec],
        *,
        engines: int,
        slots: int,
        queue_seconds: float,
        deliver: Callable[[list[tuple[Voice, Output]]], None],
        stepped: Callable[[str, float, int], None] = lambda codec, seconds, sessions: None,
        failed: Callable[[str, Exception], None] = lambda codec, error: None,
    ) -> None:
        self._shared = SharedCodecs(codecs)
        self.codecs = self._shared.skeletons()
        self.ready = threading.Event()
        self.broken: BaseException | None = None
        self._deliver, self._stepped, self._failed = deliver, stepped, failed
        self._silence: dict[str, Frames] = {}
        self._numbers = 0
        self._stopping = False
        self._homes: dict[Voice, tuple[_Engine, int]] = {}
        self._opening: list[asyncio.Task[None]] = []
        # spawn: a fork would copy the locks of torch's threads in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self._engines: list[_Engine] = []
        for number in range(engines):
            here, there = socket.socketpair()
            options = {"slots": slots, "queue_seconds": queue_seconds}
            process = context.Process(
                target=_run, args=(there, self._shared, options), name=f"engine-{number}", daemon=True
            )
            self._engines.append(_Engine(process, (here, there)))

    # -- for the server --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """In a running event loop."""
        self._event_loop = asyncio.get_running_loop()
        for engine in self._engines:
            here, there = engine.sockets
            with leaving_ctrl_c():
                engine.process.start()
            there.close()  # the process has its own: else its death would not be seen here
            engine.pipe = OuterPipe(partial(self._received, engine), partial(self._gone, engine))
            opening = self._event_loop.create_task(engine.pipe.open(here))
            opening.add_done_callback(partial(self._opened, engine))
            self._opening.append(opening)

    def stop(self) -> None:
        """Ends after the step that runs. For another thread than the event loop's, which goes on meanwhile."""
        self._stopping = True
        for engine in self._engines:
            if not engine.ready:  # it would first prepare, and nobody has given it anything yet
                engine.process.kill()
            self._in_loop(engine.pipe.send, None)
        for engine in self._engines:
            engine.process.join(STOP_SECONDS)
            if engine.process.is_alive():
                engine.process.kill()
                engine.process.join()
            self._in_loop(engine.pipe.close)
        self._shared.close()

    def _in_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._event_loop.call_soon_threadsafe(call, *arguments)

    @property
    def alive(self) -> bool:
        return self.broken is None and all(engine.process.is_alive() for engine in self._engines)

    @property
    def cpu_seconds(self) -> float:
        return sum(engine.cpu_seconds for engine in self._engines)

    def silence(self, name: str, frames: int, codebooks: int) -> Frames:
        """A codec's codes for silence, once ready."""
        return repeated(self._silence[name], frames, codebooks)

    def post(self, voice: Voice, kind: str, argument: Any) -> None:
        if kind == "open":
            self._open(voice)
            argument = (voice.codec, voice.direction, voice.start, voice.bandwidth, voice.int16)
        home = self._homes.get(voice)
        if home is None:
            return
        engine, number = home
        if kind == "close":
            del self._homes[voice]
            engine.voices.pop(number, None)
        engine.pipe.send(Samples(number, argument) if kind == "feed" else Command(number, kind, to_plain(argument)))

    # -- inside ----------------------------------------------------------------------------------------------------

    def _open(self, voice: Voice) -> None:
        living = [engine for engine in self._engines if not engine.lost]
        if not living:  # in a later turn of the event loop, when whoever opens the voice has it
            batch = [(voice, Output(error=RuntimeError(str(self.broken))))]
            self._event_loop.call_soon(self._deliver, batch)
            return
        engine = living[place(_kind(voice), [[*map(_kind, engine.voices.values())] for engine in living])]
        self._numbers += 1
        self._homes[voice] = engine, self._numbers
        engine.voices[self._numbers] = voice

    def _opened(self, engine: _Engine, opening: "asyncio.Task[None]") -> None:
        if not opening.cancelled() and (error := opening.exception()) is not None:
            self._lost(engine, f"no pipe to it: {type(error).__name__}: {error}")

    def _received(self, engine: _Engine, message: Any) -> None:
        if isinstance(message, Samples):
            number, audio, taken = message
            self._give(engine, number, Output(taken, audio=audio))
        elif isinstance(message, Told):
            self._give(engine, message.number, from_plain(Output, message.output))
        elif isinstance(message, Figures):
            engine.cpu_seconds = message.cpu_seconds
            for step in message.steps:
                self._stepped(*step)
            for codec, text in message.failures:
                self._failed(codec, RuntimeError(text))
        elif isinstance(message, str):
            self._lost(engine, message)
        else:
            self._silence |= message
            engine.ready = True
            if all(other.ready for other in self._engines):
                self._shared.close()
                self.ready.set()

    def _give(self, engine: _Engine, number: int, output: Output) -> None:
        voice = engine.voices.get(number)
        if voice is not None:
            self._deliver([(voice, output)])

    def _gone(self, engine: _Engine) -> None:
        if not self._stopping and not engine.lost:
            self._lost(engine, "without a word")

    def _lost(self, engine: _Engine, why: str) -> None:
        engine.lost = True
        self.broken = RuntimeError(f"the process {engine.process.name} has ended: {why}")
        self._failed("", self.broken)
        voices = list(engine.voices.values())
        engine.voices.clear()
        for voice in voices:
            self._homes.pop(voice, None)
        self._deliver([(voice, Output(error=RuntimeError(str(self.broken)))) for voice in voices])
        self.ready.set()  # who waits for a start that failed must not wait for ever; `alive` says that it is not


def _kind(voice: Voice) -> Kind:
    return voice.codec, cast(Direction, voice.direction)


def _run(sock: socket.socket, shared: SharedCodecs, options: dict[str, Any]) -> None:
    """The process: an `EngineLoop`, until the server says None, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server finishes what is on the way, and then says so
    torch.set_num_threads(1)
    pipe = InnerPipe(sock)
    with unhurried_stderr(), contextlib.suppress(EOFError, OSError):  # the server is gone
        try:
            _serve(pipe, shared.take(), options)
        except (EOFError, OSError):
            raise
        except BaseException as error:  # one that no session's own mistake raises: the server is to know why
            pipe.send(f"{type(error).__name__}: {error}")


def _serve(pipe: InnerPipe, codecs: dict[str, Codec], options: dict[str, Any]) -> None:
    steps: list[tuple[str, float, int]] = []
    failures: list[tuple[str, str]] = []
    engine = EngineLoop(
        codecs,
        stepped=lambda *step: steps.append(step),
        failed=lambda codec, error: failures.append((codec, f"{type(error).__name__}: {error}")),
        **options,
    )
    engine.prepare()
    settle()
    pipe.send(engine.silent_frames)
    voices: dict[int, _Numbered] = {}
    told = begun = 0.0
    while True:
        moving = engine.moving
        if not moving and (rest := begun + TURN_SECONDS - time.monotonic()) > 0:
            time.sleep(rest)
        for message in pipe.receive(0 if moving else FIGURES_SECONDS if steps else None):
            if message is None:
                return
            _command(engine, voices, message)
        begun = time.monotonic() if engine.moving else 0.0
        messages: list[Samples | Told | Figures] = [
            _message(voice.number, output) for voice, output in engine.turn() if voice.number in voices
        ]
        now = time.monotonic()
        if failures or (steps and now - told >= FIGURES_SECONDS):
            told = now
            messages.insert(0, Figures([*steps], [*failures], time.process_time()))
            steps.clear()
            failures.clear()
        if messages:
            pipe.send(*messages)


@dataclass(eq=False)
class _Numbered(Asked):
    """A voice, as the process knows it."""

    number: int = 0


def _command(engine: EngineLoop, voices: dict[int, _Numbered], message: Samples | Command) -> None:
    if isinstance(message, Samples):
        engine.command(voices[message.number], "feed", message.audio)
        return
    number, kind, argument = message
    if kind == "open":
        codec, direction, start, bandwidth, int16 = argument
        voices[number] = _Numbered(codec, direction, start, bandwidth, int16, number=number)
    engine.command(voices[number], kind, from_plain(Frames, argument) if kind == "codes" else argument)
    if kind == "close":
        del voices[number]


def _message(number: int, output: Output) -> Samples | Told:
    audio = output.audio
    if audio is not None and not (output.frames or output.length or output.answers or output.error):
        return Samples(number, audio, output.taken)
    if output.error is not None:  # not every exception survives a pipe
        output.error = RuntimeError(f"{type(output.error).__name__}: {output.error}")
    return Told(number, to_plain(output))


def settle() -> None:
    """Take what there is now (torch's modules above all) out of the garbage collector's sight.

    It looks at everything only when what is new makes up a quarter of what it knows: beside torch that is after
    thousands of sessions, and then takes a tenth of a second, in which no frame moves.
    """
    gc.collect()
    gc.freeze()
