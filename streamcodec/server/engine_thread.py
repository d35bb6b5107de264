"""An `EngineLoop` in a thread of its own, which sleeps until there is something to do."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..codecs import Codec
from .engine_loop import EngineLoop
from .voice import Output, Voice

__all__ = ["EngineThread"]


class EngineThread(EngineLoop):
    """deliver: called in this thread with a batch of (voice, output) after each step; it has to hand them to the loop.

    The rest as for an `EngineLoop`, `stepped` and `failed` called in this thread.
    """

    def __init__(
        self, codecs: dict[str, Codec], *, deliver: Callable[[list[tuple[Voice, Output]]], None], **options: Any
    ) -> None:
        super().__init__(codecs, **options)
        self.ready = threading.Event()
        self.cpu_seconds = 0.0
        self.broken: BaseException | None = None
        self._deliver = deliver
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

    def post(self, voice: Voice, kind: str, argument: Any) -> None:
        with self._condition:
            self._commands.append((voice, kind, argument))
            self._condition.notify()

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self.prepare()
            self.ready.set()
            while self._next():
                pass
        except BaseException as error:
            self.broken = error
            self._failed("", error if isinstance(error, Exception) else RuntimeError(repr(error)))
            raise

    def _next(self) -> bool:
        """Wait for something to do, and do it. False at the end."""
        moving = self.moving
        with self._condition:
            while not (self._commands or moving or self._stopping):
                self._condition.wait()
            if self._stopping:
                return False
            commands, self._commands = self._commands, deque()
        for command in commands:
            self.command(*command)
        batch = self.turn()
        self.cpu_seconds = time.thread_time()
        if batch:
            self._deliver(batch)
        return True
