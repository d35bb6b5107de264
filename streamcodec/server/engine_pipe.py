"""The two ends of the pipe between the server and an engine's process: messages of any picklable kind, in order.

The server's end is a transport of its event loop, so that neither sending nor receiving takes a thread of its own, nor
the waking of one. Each message stands behind its size: samples, which most messages are, as they lie in memory, and all
else pickled. Nobody but the two processes can write to it.
"""

import asyncio
import pickle
import select
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np

from .voice import Array, Frames, Output

__all__ = ["InnerPipe", "OuterPipe", "Samples", "from_plain", "to_plain"]

HEAD = struct.Struct("=IB")  # bytes of the message with this, and its kind
SAMPLES_HEAD = struct.Struct("=IBIQBB")  # the same, the voice, what it took, channels, bytes of a sample
PICKLED, SAMPLES = 0, 1
TYPES: "dict[int, np.dtype[Any]]" = {2: np.dtype(np.int16), 4: np.dtype(np.float32)}
READ_BYTES = 1 << 18


class Samples(NamedTuple):
    """audio: [C, n] int16 or float32, for the voice of this number or from it; taken: as in `Output`, from one."""

    number: int
    audio: Array
    taken: int = 0


# An array as what pickle is quick with, its bytes, type and shape: a small array takes ten times as long itself.
Plain = tuple[bytes, str, tuple[int, ...]]


def to_plain(value: Any) -> Any:
    """What a command has as its argument, or an Output, without arrays."""
    if isinstance(value, np.ndarray):
        return value.tobytes(), value.dtype.str, value.shape
    if isinstance(value, Frames):
        return to_plain(value.codes), to_plain(value.scale)
    if isinstance(value, Output):
        frames = [to_plain(frames) for frames in value.frames]
        return value.taken, frames, value.length, to_plain(value.audio), value.answers, value.error
    return value


def from_plain(kind: type, value: Any) -> Any:
    """The inverse, for a value of that kind."""
    if value is None:
        return None
    if kind is np.ndarray:
        return _array(value)
    if kind is Frames:
        codes, scale = value
        return Frames(_array(codes), None if scale is None else _array(scale))
    taken, frames, length, audio, answers, error = value
    audio = None if audio is None else _array(audio)
    return Output(taken, [from_plain(Frames, one) for one in frames], length, audio, answers, error)


def _array(plain: Plain) -> Array:
    data, kind, shape = plain
    return np.ndarray(shape, kind, bytearray(data))  # a copy, since torch wants arrays that can be written


def framed(message: Any) -> bytes:
    if isinstance(message, Samples):
        number, audio, taken = message
        data = audio.tobytes()
        size, depth, width = SAMPLES_HEAD.size + len(data), len(audio), audio.itemsize
        return SAMPLES_HEAD.pack(size, SAMPLES, number, taken, depth, width) + data
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(HEAD.size + len(data), PICKLED) + data


def _unframed(data: bytes | bytearray, start: int, stop: int) -> Any:
    """The inverse, for the message from `start` to `stop`."""
    if data[start + 4] == PICKLED:
        return pickle.loads(data[start + HEAD.size : stop])
    _, _, number, taken, depth, width = SAMPLES_HEAD.unpack_from(data, start)
    start += SAMPLES_HEAD.size
    shape = (depth, (stop - start) // (depth * width))
    audio: Array = np.ndarray(shape, TYPES[width], bytearray(data[start:stop]))  # a copy that can be written to
    return Samples(number, audio, taken)


class Messages:
    """Bytes as they come to the messages that are whole."""

    def __init__(self) -> None:
        self._part = bytearray()  # of a message that is not all here

    def add(self, data: bytes) -> list[Any]:
        buffer: bytes | bytearray = data
        if self._part:
            self._part += data
            buffer = self._part
        found, place, end = [], 0, len(buffer)
        while place + HEAD.size <= end:
            stop = place + HEAD.unpack_from(buffer, place)[0]
            if stop > end:
                break
            found.append(_unframed(buffer, place, stop))
            place = stop
        if self._part:
            del self._part[:place]
        elif place < end:
            self._part += data[place:]
        return found


class OuterPipe(asyncio.Protocol):
    """The server's end. receive: called with each message; lost: called once, when the other end is gone.

    All calls are for the event loop's thread. What is sent before it is open goes when it is.
    """

    def __init__(self, receive: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._receive, self._lost = receive, lost
        self._messages = Messages()
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._closed = False

    async def open(self, sock: socket.socket) -> None:
        """Take over a connected socket."""
        loop = asyncio.get_running_loop()
        if hasattr(socket, "AF_UNIX") and sock.family == socket.AF_UNIX:
            await loop.create_unix_connection(lambda: self, sock=sock)
        else:
            await loop.create_connection(lambda: self, sock=sock)

    def send(self, message: Any) -> None:
        """Return at once; what the other end does not take yet waits here."""
        data = framed(message)
        if self._transport is None:
            self._early.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    # -- the loop's ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's kind is none by its class
        if self._closed:
            self._transport.abort()
            return
        for data in self._early:
            self._transport.write(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        for message in self._messages.add(data):
            self._receive(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost()


class InnerPipe:
    """The engine's end, for its one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.setblocking(True)
        self._messages = Messages()

    def send(self, *messages: Any) -> None:
        """Wait until the server's system has them. Raises OSError when the server is gone."""
        self._socket.sendall(b"".join(map(framed, messages)))

    def receive(self, seconds: float | None) -> list[Any]:
        """The messages that have come; waits so long for one, or for ever. Raises EOFError or OSError when the server
        is gone."""
        found: list[Any] = []
        while (seconds is None and not found) or select.select([self._socket], [], [], 0 if found else seconds)[0]:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise EOFError("the server's process has ended")
            found += self._messages.add(data)
            if found and len(data) < READ_BYTES:  # that was all there is
                break
        return found
