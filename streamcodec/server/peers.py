"""Several processes on one port: a connection finds the one that holds its session or its room.

The kernel gives a new connection to any process, and only its first message says where it belongs: a token begins with
the number of the process that gave it out, and a room's name decides which process has the room. A process that gets
what is another's passes the messages on, over a Unix socket in a directory that only this user can enter.
"""

import asyncio
import contextlib
import json
import math
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import unix_connect
from websockets.asyncio.server import Server, ServerConnection, unix_serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from ..protocol import SUBPROTOCOL, ProtocolError
from ..protocol.text import parse

__all__ = ["Peers", "summed"]

HEADER_BYTES = 4096  # of what a process says about a connection that it passes on
METRICS = "/metrics"


class Peers:
    """The processes. worker: this one's number, of `workers`. folder: of the sockets."""

    def __init__(self, worker: int, workers: int, folder: Path) -> None:
        self.worker, self.workers, self._folder = worker, workers, folder

    def _path(self, worker: int) -> str:
        return str(self._folder / f"{worker}.sock")

    async def listen(
        self, connected: Callable[[ServerConnection, str, str | None], Awaitable[None]], metrics: Callable[[], bytes],
        **options: Any,
    ) -> Server:  # fmt: skip
        """Take what other processes pass on: the connection, the client's address and its bearer token."""

        async def inside(ws: ServerConnection) -> None:
            first = await ws.recv()
            if first == METRICS:
                await ws.send(metrics())
            else:
                about = json.loads(first)
                await connected(ws, about["address"], about["bearer"])

        return await unix_serve(inside, self._path(self.worker), ping_interval=None, **options)

    def place(self, message: str | bytes, most: int) -> int:
        """The process where a connection with this first message belongs."""
        try:
            values = parse(message, most) if isinstance(message, str) else {}
        except ProtocolError:
            return self.worker
        room, token = values.get("room"), values.get("token")
        if values.get("type") == "hello" and isinstance(room, dict) and isinstance(room.get("name"), str):
            return zlib.crc32(room["name"].encode("utf-8", "replace")) % self.workers
        number = token.partition("-")[0] if values.get("type") == "resume" and isinstance(token, str) else ""
        known = number.isascii() and number.isdecimal() and len(number) < 5 and int(number) < self.workers
        return int(number) if known else self.worker

    async def carry(
        self, ws: ServerConnection, address: str, bearer: str | None, first: str | bytes, worker: int
    ) -> bool:
        """Pass a connection on until it ends; False, at once, where the other process is not there."""
        about = json.dumps({"address": address[:HEADER_BYTES], "bearer": bearer})
        try:
            inside = await unix_connect(
                self._path(worker), subprotocols=[SUBPROTOCOL], compression=None, max_size=None,  # type: ignore[list-item]
                max_queue=4, ping_interval=None,
            )  # fmt: skip
            await inside.send(about)
            await inside.send(first)
        except (OSError, InvalidHandshake, ConnectionClosed):
            return False
        tasks = [asyncio.create_task(_pass(ws, inside)), asyncio.create_task(_pass(inside, ws))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[1].done():
                # The other process has closed it, for a reason, or was cut off.
                tasks[0].cancel()
                if inside.close_code in (None, 1006):
                    ws.transport.abort()
                else:
                    await ws.close(inside.close_code, inside.close_reason or "")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            inside.transport.abort()
        return True

    async def metrics(self, own: bytes) -> bytes:
        """The sums over all processes; those that do not answer are left out."""

        async def ask(worker: int) -> bytes:
            with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed, TimeoutError, asyncio.TimeoutError):
                async with unix_connect(self._path(worker), subprotocols=[SUBPROTOCOL], open_timeout=2) as ws:  # type: ignore[list-item]
                    await ws.send(METRICS)
                    answer = await asyncio.wait_for(ws.recv(), 2)
                    return answer if isinstance(answer, bytes) else answer.encode()
            return b""

        others = [worker for worker in range(self.workers) if worker != self.worker]
        return summed([own, *await asyncio.gather(*(ask(worker) for worker in others))])


async def _pass(source: Any, target: Any) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        async for message in source:
            await target.send(message)


def summed(texts: list[bytes]) -> bytes:
    """Expositions in the text format of Prometheus, added up: each of the server's series is a count or an amount."""
    families: dict[str, dict[str, float]] = {}
    for text in texts:
        head: list[str] = []
        for line in text.decode().splitlines():
            if line.startswith("#"):
                head = [*head, line] if line.startswith("# TYPE") and head else [line]
                continue
            series, _, value = line.rpartition(" ")
            family = families.setdefault("\n".join(head), {})
            family[series] = math.fsum((family.get(series, 0.0), float(value)))
    lines = []
    for title, values in families.items():
        lines += [title, *(f"{series} {value!r}" for series, value in values.items())]
    return ("\n".join(lines) + "\n").encode()
