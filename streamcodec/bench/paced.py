"""Many paced sessions with a live server from one event loop, cheaply: it is the server that is measured.

The packets lie ready but for their numbers; frames of the WebSocket are put together here (RFC 6455; the mask's key is
0, so that masking changes nothing) and taken apart without a library.
"""

import asyncio
import base64
import gc
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from ..errors import StreamcodecError
from ..packet import HEADER_BYTES, PCM
from ..protocol import SUBPROTOCOL, VERSION, Hello, PcmFormat
from ..protocol.messages import Acknowledge, Flush, Goodbye, to_text

__all__ = ["LoadError", "Paced", "apart", "drive"]

OPEN_SECONDS = 20.0
ACKNOWLEDGE_EVERY = 16
HEADER = struct.Struct("<BBHIQHHBBH")  # docs/protocol.md
TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89  # with FIN


class LoadError(StreamcodecError):
    """A session of the load was refused, or its connection broke."""


@dataclass
class Paced:
    """One session's results. latencies: of each packet that came back, (when its last sample was to be sent, in seconds
    from when the last of all sessions began; seconds from then to when the packet with that sample came back)."""

    latencies: list[tuple[float, float]] = field(default_factory=list)
    sent: int = 0
    samples: int = 0  # that came back
    failure: str = ""


class _Session(asyncio.Protocol):
    """One session: opens, sends a packet at each tick, and notes when its audio comes back."""

    def __init__(
        self, url: str, rate: int, blocks: list[bytes], block: int, packet_frames: int, offset: int,
        bandwidth: float | None,
    ) -> None:  # fmt: skip
        self.result = Paced()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._url, self._rate, self._blocks, self._block, self._offset = urlsplit(url), rate, blocks, block, offset
        self._hello = Hello(
            version=VERSION, mode="roundtrip", bandwidth=bandwidth, frames_per_packet=packet_frames,
            pcm=PcmFormat(format="s16le", sample_rate=rate, channels=1),
        )  # fmt: skip
        self._buffer = bytearray()
        self._upgraded = False
        self._unacknowledged = self._sequence = 0
        self._begin = self._end = self._all_begun = 0.0

    # The socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's kind is none by its class
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {self._url.path} HTTP/1.1", f"Host: {self._url.netloc}", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}", "", "",
        ]  # fmt: skip
        self._transport.write("\r\n".join(lines).encode())

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("the connection broke")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._fail(head.partition(b"\r\n")[0].decode("latin-1"))
                return
            self._upgraded, self._buffer = True, bytearray(rest)
            self._write(TEXT, to_text(self._hello).encode())
        self._frames()

    def _frames(self) -> None:
        buffer, place = self._buffer, 0
        while len(buffer) - place >= 2:
            start, size = place + 2, buffer[place + 1]
            if size >= 126:
                wide = 2 if size == 126 else 8
                size, start = int.from_bytes(buffer[start : start + wide], "big"), start + wide
            if len(buffer) < start + size:
                break
            if buffer[place] == BINARY:
                self._media(buffer, start)
            else:
                self._other(buffer[place], bytes(buffer[start : start + size]))
            place = start + size
        del buffer[:place]

    def _write(self, kind: int, payload: bytes) -> None:
        size = len(payload)
        head = bytes((kind, 128 | size)) if size < 126 else struct.pack(">BBH", kind, 254, size)
        self._transport.write(head + b"\0\0\0\0" + payload)

    # The session

    def _media(self, buffer: bytearray, start: int) -> None:
        now = self._loop.time()
        _, _, _, sequence, index, _, count, _, _, _ = HEADER.unpack_from(buffer, start)
        self.result.samples = index + count
        if count:  # the last packet may be an empty one
            due = self._begin + (index + count) / self._rate
            self.result.latencies.append((due - self._all_begun, now - due))
        self._acknowledge(sequence)

    def _acknowledge(self, sequence: int) -> None:
        self._unacknowledged += 1
        if self._unacknowledged >= ACKNOWLEDGE_EVERY:
            self._unacknowledged = 0
            self._write(TEXT, to_text(Acknowledge(sequence=sequence)).encode())

    def _other(self, kind: int, payload: bytes) -> None:
        if kind == PING:
            self._write(0x8A, payload)
        elif kind == CLOSE:
            self._fail(f"closed by the server: {payload[2:].decode('utf-8', 'replace')}")
        elif kind == TEXT:
            message = json.loads(payload)
            if message["type"] == "welcome" and not self.opened.done():
                self.opened.set_result(None)
            elif message["type"] == "error":
                self._fail(f"{message['code']}: {message['message']}")

    def _fail(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(LoadError(f"a session was not opened: {reason}"))
        elif self._end:  # while it is under way
            self.result.failure = self.result.failure or reason
        self._end = 0.0

    def start(self, begin: float, end: float, all_begun: float) -> None:
        """Send from `begin` to `end`, times of the loop: a packet when its last sample would have been heard. All
        sessions have begun at `all_begun`.
        """
        self._begin, self._end, self._all_begun = begin, end, all_begun
        self._loop.call_at(begin + self._block / self._rate, self._tick)

    def _tick(self) -> None:
        if not self._end or self._transport.is_closing():
            return
        sent, block = self.result.sent, self._block
        payload = self._blocks[(self._offset + sent) % len(self._blocks)]
        header = HEADER.pack(1, PCM, 0, self._sequence, sent * block, 0, block, 1, 16, 0)
        size = HEADER_BYTES + len(payload)
        head = bytes((BINARY, 128 | size)) if size < 126 else struct.pack(">BBH", BINARY, 254, size)
        self._transport.write(b"".join((head, b"\0\0\0\0", header, payload)))
        self._sequence = (self._sequence + 1) % 2**32
        self.result.sent += 1
        due = self._begin + (self.result.sent + 1) * block / self._rate
        if due < self._end:
            self._loop.call_at(due, self._tick)
        else:  # so that what the codec is late by comes back too
            self._write(TEXT, to_text(Flush(sequence=self._sequence)).encode())

    def goodbye(self) -> None:
        self._end = 0.0
        if not self._transport.is_closing():
            self._write(TEXT, to_text(Goodbye()).encode())
            self._transport.close()


def apart(sessions: int, block: int, rate: int) -> float:
    """Seconds between the beginnings of two of so many sessions, whose packets have `block` samples: those of a packet,
    and the fraction by which all packets are spread evenly.
    """
    return (1 + 1 / sessions) * block / rate


async def drive(
    url: str, sessions: int, seconds: float, *, rate: int, blocks: list[bytes], block: int, packet_frames: int,
    bandwidth: float | None, settle: float = 1.0, look: Callable[[], None] = lambda: None,
) -> list[Paced]:  # fmt: skip
    """Run so many sessions in mode roundtrip, and what each saw.

    url: ws://, with the path. seconds: of each session; rate: Hz; blocks: s16le packets of `block` samples,
    `packet_frames` frames of the codec, sent in turn, each session beginning with another of them. Sessions begin, and
    so end, one after the other (`apart`). settle: seconds for the last answers to come. look: called twice, when all
    are open and nothing was sent yet, and before any is closed. Raises LoadError where a session cannot be opened.
    """
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    opened: list[_Session] = []
    for number in range(sessions):
        offset = number * len(blocks) // sessions

        def make(offset: int = offset) -> _Session:
            return _Session(url, rate, blocks, block, packet_frames, offset, bandwidth)

        try:
            _, session = await loop.create_connection(make, parts.hostname or "", parts.port or 80)
            await asyncio.wait_for(session.opened, OPEN_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            raise LoadError(f"{url} cannot be reached: {error or 'no answer'}") from error
        opened.append(session)
    gc.collect()
    gc.freeze()  # what is here already is not looked through again while latencies are taken
    look()
    begin = loop.time() + 0.1
    begins = [begin + number * apart(sessions, block, rate) for number in range(sessions)]
    for session, own in zip(opened, begins, strict=True):
        session.start(own, own + seconds, begins[-1])
    await asyncio.sleep(begins[-1] - loop.time() + seconds + settle)
    look()
    for session in opened:
        session.goodbye()
    await asyncio.sleep(0.1)
    return [session.result for session in opened]
