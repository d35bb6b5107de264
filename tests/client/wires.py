"""A TCP proxy that cuts connections, and streams of a whole session for comparison."""

import asyncio
import contextlib
import random

import numpy as np

from streamcodec.client import CodesPacket, Pcm

__all__ = ["Proxy", "collect", "random_cuts", "sent_while_read"]


class Proxy:
    """Forwards to a port and cuts each connection after as many bytes, of both directions together, as `budget` gives.

    budget: called for each connection; None never cuts. open: whether connections are let through at all.
    """

    def __init__(self, port, budget=lambda: None):
        self.target, self.budget, self.open = port, budget, True
        self.cuts = self.connections = 0
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *error):
        self._server.close()
        self.cut()

    def cut(self):
        """Break all connections, without a word."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader, writer):
        self.connections += 1
        if not self.open:
            writer.transport.abort()
            return
        left = self.budget()
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        pair = {writer, back}
        self._writers |= pair

        async def carry(source, sink):
            nonlocal left
            with contextlib.suppress(OSError):
                while data := await source.read(2048):
                    if left is not None:
                        left -= len(data)
                        if left < 0:  # the last bytes arrive in part: a message is cut in the middle
                            sink.write(data[:left])
                            await sink.drain()
                            self.cuts += 1
                            break
                    sink.write(data)
                    await sink.drain()
            for end in pair:
                end.transport.abort() if left is not None and left < 0 else end.close()

        await asyncio.gather(carry(reader, back), carry(there, writer))
        self._writers -= pair


def random_cuts(seed, least=600, most=16_000, times=12):
    """Budgets for so many connections; those that follow are not cut."""
    rng = random.Random(seed)
    budgets = [rng.randint(least, most) for _ in range(times)]
    return lambda: budgets.pop() if budgets else None


async def sent_while_read(session, send):
    """All events of a session up to its first `last` packet, while `send(session)` runs."""
    sending = asyncio.ensure_future(send(session))
    events = []
    try:
        async for event in session:
            events.append(event)
            if isinstance(event, (Pcm, CodesPacket)) and event.last:
                break
    finally:
        await sending
    return events


def collect(events):
    """All samples [n, C] of the Pcm events, or all codes [K, T]."""
    audio = [event.samples for event in events if isinstance(event, Pcm)]
    if audio:
        return np.concatenate(audio)
    return np.concatenate([e.codes for e in events if isinstance(e, CodesPacket) and e.codes.size], axis=1)
