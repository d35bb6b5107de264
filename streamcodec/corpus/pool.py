"""Processes that encode, one thread each. One that dies takes nothing with it but the recording it was at."""

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait

import torch

from .encoding import Encoder, Settings
from .items import Failure, Item, Tokens

__all__ = ["run_processes"]


def _work(connection: Connection, settings: Settings) -> None:
    """A worker's life: items come in, tokens go out, in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends the others
    torch.set_num_threads(1)  # the others of its kind have the other cores

    def items() -> Iterator[Item]:
        while (item := connection.recv()) is not None:
            yield item

    try:
        for result in Encoder(settings)(items()):
            connection.send(result)
        connection.send(None)
    except (EOFError, OSError):  # who asked is no more
        return


class _Worker:
    """A process, and the items that it was given and has not answered yet."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")  # torch and fork do not go together
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, settings), daemon=True)
        self.process.start()
        theirs.close()
        self.given: deque[Item] = deque()
        self.told = False  # that there are no more items

    def fill(self, items: Iterator[Item], most: int) -> bool:
        """Give it items until it has so many; whether there are no more."""
        while not self.told and len(self.given) < most:
            item = next(items, None)
            if item is None:
                self.finish()
                return True
            self.give(item)
        return False

    def give(self, item: Item) -> None:
        """One item more."""
        self.given.append(item)
        self._send(item)

    def finish(self) -> None:
        """There are no more items."""
        self.told = True
        self._send(None)

    def _send(self, item: Item | None) -> None:
        with contextlib.suppress(OSError):  # it has died, as `receive` will see
            self.connection.send(item)

    def receive(self) -> Tokens | Failure | None:
        """What it has of the item that it was given first; None where it has ended or died."""
        try:
            result: Tokens | Failure | None = self.connection.recv()
        except (EOFError, OSError):
            return None
        if result is not None:
            self.given.popleft()
        return result

    @property
    def cause(self) -> str:
        """How it ended."""
        code = self.process.exitcode or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def joined(self) -> "_Worker":
        """The same, once the process that has ended or died is gone: only then its exit code is known."""
        self.process.join()
        self.connection.close()
        return self

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.joined()


def run_processes(items: Iterable[Item], processes: int, settings: Settings) -> Iterator[Tokens | Failure]:
    """Tokens of `Item.loaded` items, or why there are none, as they come. One is taken when a process has room.

    A process reads ahead, so when it dies any of the items that it has may be the reason: each of them gets a process
    of its own, and that which ends it again is lost.
    """
    waiting, exhausted = iter(items), False
    suspects: deque[Item] = deque()
    workers: list[_Worker] = []
    try:
        while True:
            while suspects and len(workers) < processes:
                workers.append(_Worker(settings))
                workers[-1].give(suspects.popleft())
                workers[-1].finish()
            while not exhausted and len(workers) < processes:
                workers.append(_Worker(settings))
            for worker in workers:
                exhausted = worker.fill(waiting, 2 * settings.gathered) or exhausted
            if not workers:
                return
            for ready in wait([worker.connection for worker in workers]):
                worker = next(worker for worker in workers if worker.connection is ready)
                result = worker.receive()
                if result is not None:
                    yield result
                    continue
                workers.remove(worker.joined())
                if len(worker.given) == 1:
                    yield Failure(worker.given[0].key, f"the process that encoded it died ({worker.cause})")
                else:
                    suspects.extend(worker.given)
    finally:
        for worker in workers:
            worker.end()
