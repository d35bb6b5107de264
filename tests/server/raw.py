"""What no well-behaved client sends: half messages, bad frames, bytes by and by."""

import asyncio
import contextlib

from deadlines import timeout
from websockets.frames import Frame, Opcode


def frame(data, opcode=Opcode.BINARY, fin=True, masked=True):
    """One WebSocket frame as a client sends it."""
    return Frame(opcode, data, fin).serialize(mask=masked)


def text(message, **fields):
    return frame(message.encode(), Opcode.TEXT, **fields)


async def write(talk, data):
    """Bytes on the socket of a client, past its WebSocket library."""
    with contextlib.suppress(OSError):
        talk.ws.transport.write(data)
        await asyncio.sleep(0.05)  # till they are on their way


async def drip(talk, data, seconds):
    """A byte now and then, until the server has enough of it."""
    for byte in data:
        if talk.closed:
            return
        talk.ws.transport.write(bytes([byte]))
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def tcp(server, data=b""):
    """A bare connection that has sent `data`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        yield reader, writer
    finally:
        writer.transport.abort()


async def closed(reader, seconds=30):
    """All that came until the server closed the connection."""
    data = b""
    async with timeout(seconds):
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                data += part
    return data
