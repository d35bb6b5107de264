"""The server's engine in a thread, in place of `EngineProcesses`: it starts at once, and a test can look into it."""

import asyncio
import contextlib
import threading
import time
from collections import deque

from streamcodec.server.engine_loop import EngineLoop


class EngineThread(EngineLoop):
    """The arguments are those of `EngineProcesses`; `stepped` and `failed` are called in the thread."""

    def __init__(self, codecs, *, engines, deliver, **options):
        super().__init__(codecs, **options)
        for engine in self.engines.values():
            engine.prepare = lambda: None  # a test takes few of the steps that this would make: they are made then
        self.ready = threading.Event()
        self.cpu_seconds = 0.0
        self.broken = None
        self._deliver = deliver
        self._condition = threading.Condition()
        self._commands = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="engine", daemon=True)

    # -- from the event loop ---------------------------------------------------------------------------------------

    def start(self):
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self):
        """Ends after the step that runs."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self):
        return self._thread.is_alive() and self.broken is None

    def post(self, voice, kind, argument):
        with self._condition:
            self._commands.append((voice, kind, argument))
            self._condition.notify()

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _main(self):
        try:
            self.prepare()
            self.ready.set()
            while self._next():
                pass
        except BaseException as error:
            self.broken = error
            self._failed("", error if isinstance(error, Exception) else RuntimeError(repr(error)))
            raise

    def _next(self):
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
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
                self._loop.call_soon_threadsafe(self._deliver, batch)
        return True
