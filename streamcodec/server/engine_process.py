"""The engines in processes of their own, behind the same calls as an `EngineThread`.

A step is hundreds of short operations, and after each its thread asks for the interpreter's lock again. Beside an event
loop that holds the lock a quarter of the time a step takes half as long again (docs/load.md), so the engine runs
elsewhere: commands go there over a pipe, all that a turn of the loop brought in one message, and what a step gives
comes back in one.
"""

import asyncio
import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from ..codecs import Codec
from .engine_thread import EngineThread, Frames, Output, Voice, queue_frames, silence_of

__all__ = ["EngineProcesses"]

STOP_SECONDS = 5.0  # until a process that does not end is ended
LOOK_SECONDS = 0.5  # between looks whether the engine's thread lives, where nothing comes

Command = tuple[int, str, Any]


class _Engine:
    """One process, as the server sees it. voices: of the server's, by number."""

    def __init__(self, process: Any, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.voices: dict[int, Voice] = {}
        self.ready = False
        self.cpu_seconds = 0.0
        self.pending: list[Command] = []
        self.outbox: queue.SimpleQueue[list[Command] | None] = queue.SimpleQueue()


class EngineProcesses:
    """engines: how many processes; a session stays in the one that had the fewest when it began. The rest as for
    `EngineThread`; `deliver`, `stepped` and `failed` are called in threads of this process.

    A process that ends takes its sessions with it: each is told so by an Output with an error, and `alive` is false.
    """

    def __init__(
        self,
        codecs: dict[str, Codec],
        *,
        engines: int,
        slots: int,
        threads: int,
        queue_seconds: float,
        deliver: Callable[[list[tuple[Voice, Output]]], None],
        stepped: Callable[[str, float, int], None] = lambda codec, seconds, sessions: None,
        failed: Callable[[str, Exception], None] = lambda codec, error: None,
    ) -> None:
        self.codecs = codecs
        self.ready = threading.Event()
        self.broken: BaseException | None = None
        self._deliver, self._stepped, self._failed = deliver, stepped, failed
        self._silence: dict[str, Frames] = {}
        self._numbers = 0
        self._stopping = False
        self._homes: dict[Voice, tuple[_Engine, int]] = {}
        self._lock = threading.Lock()
        # spawn: a fork would copy the locks of torch's threads in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self._engines: list[_Engine] = []
        for place in range(engines):
            here, there = context.Pipe()
            options = {"slots": slots, "threads": threads, "queue_seconds": queue_seconds}
            process = context.Process(
                target=_run, args=(there, here, codecs, options), name=f"engine-{place}", daemon=True
            )
            self._engines.append(_Engine(process, here))

    # -- as EngineThread -------------------------------------------------------------------------------------------

    def start(self) -> None:
        for engine in self._engines:
            engine.process.start()
            threading.Thread(target=self._read, args=(engine,), name="engine-reader", daemon=True).start()
            threading.Thread(target=self._write, args=(engine,), name="engine-writer", daemon=True).start()

    def stop(self) -> None:
        """Ends after the step that runs."""
        self._stopping = True
        for engine in self._engines:
            engine.outbox.put(None)
        for engine in self._engines:
            engine.process.join(STOP_SECONDS)
            if engine.process.is_alive():
                engine.process.kill()
                engine.process.join()

    @property
    def alive(self) -> bool:
        return self.broken is None and all(engine.process.is_alive() for engine in self._engines)

    @property
    def cpu_seconds(self) -> float:
        return sum(engine.cpu_seconds for engine in self._engines)

    def credit(self, name: str, queue_seconds: float) -> int:
        """Frames of one voice that may wait."""
        return queue_frames(self.codecs[name], queue_seconds)

    def silence(self, name: str, frames: int, codebooks: int) -> Frames:
        """A codec's codes for silence, once ready. For any thread."""
        return silence_of(self._silence[name], frames, codebooks)

    def post(self, voice: Voice, kind: str, argument: Any) -> None:
        """For the event loop's thread; what one turn of the loop posts goes as one message."""
        if kind == "open":
            engine = min(self._engines, key=lambda engine: len(engine.voices))
            self._numbers += 1
            argument = (voice.codec, voice.direction, voice.start, voice.bandwidth)
            with self._lock:
                self._homes[voice] = engine, self._numbers
                engine.voices[self._numbers] = voice
        home = self._homes.get(voice)
        if home is None:
            return
        engine, number = home
        if kind == "close":
            with self._lock:
                del self._homes[voice]
                engine.voices.pop(number, None)
        engine.pending.append((number, kind, argument))
        if len(engine.pending) == 1:
            self._soon(engine)

    # -- inside ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _soon(engine: _Engine) -> None:
        def send() -> None:
            pending, engine.pending = engine.pending, []
            engine.outbox.put(pending)

        asyncio.get_running_loop().call_soon(send)

    def _write(self, engine: _Engine) -> None:
        """A thread: the pipe may be full while a process is slow, and the loop must not wait for that."""
        while True:
            commands = engine.outbox.get()
            try:
                engine.pipe.send(commands)
            except (OSError, ValueError):  # the process is gone; its reader tells
                return
            if commands is None:
                return

    def _read(self, engine: _Engine) -> None:
        try:
            self._silence |= engine.pipe.recv()
            engine.ready = True
            if all(other.ready for other in self._engines):
                self.ready.set()
            while True:
                outputs, steps, failures, engine.cpu_seconds = engine.pipe.recv()
                for step in steps:
                    self._stepped(*step)
                for codec, text in failures:
                    self._failed(codec, RuntimeError(text))
                with self._lock:
                    known = [(engine.voices.get(number), output) for number, output in outputs]
                batch = [(voice, output) for voice, output in known if voice is not None]
                if batch:
                    self._deliver(batch)
        except (EOFError, OSError) as error:
            if not self._stopping:
                self._lost(engine, error)

    def _lost(self, engine: _Engine, error: Exception) -> None:
        self.broken = RuntimeError(f"the process {engine.process.name} has ended")
        self._failed("", self.broken)
        with self._lock:
            voices = list(engine.voices.values())
        self._deliver([(voice, Output(error=RuntimeError(str(self.broken)))) for voice in voices])
        self.ready.set()  # who waits for a start that failed must not wait for ever; `alive` says that it is not


def _run(pipe: Connection, other: Connection, codecs: dict[str, Codec], options: dict[str, Any]) -> None:
    """The process: an `EngineThread`, and this thread that reads commands for it."""
    other.close()  # the server's end: else its death would not be seen here
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server finishes what is on the way, and then says so
    torch.set_num_threads(1)
    numbers: dict[Voice, int] = {}
    steps: list[tuple[str, float, int]] = []
    failures: list[tuple[str, str]] = []

    def deliver(batch: list[tuple[Voice, Output]]) -> None:
        outputs = []
        for voice, output in batch:
            if output.error is not None:  # not every exception survives a pipe
                output.error = RuntimeError(f"{type(output.error).__name__}: {output.error}")
            if voice in numbers:
                outputs.append((numbers[voice], output))
        told = (outputs, steps[:], failures[:], time.process_time())
        steps.clear()
        failures.clear()
        pipe.send(told)

    engine = EngineThread(
        codecs,
        deliver=deliver,
        stepped=lambda *step: steps.append(step),
        failed=lambda codec, error: failures.append((codec, f"{type(error).__name__}: {error}")),
        **options,
    )
    engine.start()
    voices: dict[int, Voice] = {}
    try:
        while not engine.ready.wait(0.1):
            if not engine.alive:
                return
        pipe.send(engine.silent_frames)
        while engine.alive:  # a thread that is broken ends the process, and so tells the server
            if not pipe.poll(LOOK_SECONDS):
                continue
            commands = pipe.recv()
            if commands is None:
                return
            for number, kind, argument in commands:
                if kind == "open":
                    codec, direction, start, bandwidth = argument
                    voices[number] = voice = Voice(engine, codec, direction, start, bandwidth, _nobody)
                    numbers[voice] = number
                    continue
                voice = voices[number]
                engine.post(voice, kind, argument)
                if kind == "close":
                    del voices[number], numbers[voice]
    except (EOFError, OSError):
        pass  # the server is gone
    finally:
        engine.stop()


def _nobody(output: Output) -> None:
    """Outputs leave by the pipe."""
