"""What no well-behaved client sends: half messages, bad frames, bytes by and by."""

import asyncio
import contextlib
from typing import NamedTuple

import h11
from deadlines import timeout
from websockets.frames import Frame, Opcode
from websockets.protocol import State


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
        if talk.closed or talk.ws.state is not State.OPEN:  # the library ends its side before the talk hears of it
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


class Response(NamedTuple):
    """fields: by names in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


def request(method="GET", path="/", version="1.1", **fields):
    """The bytes of a request. fields: with underscores for dashes; None leaves one out, a list repeats it."""
    lines = [f"{method} {path} HTTP/{version}"]
    for name, value in {"Host": "127.0.0.1", **fields}.items():
        values = value if isinstance(value, list) else [value] if value is not None else []
        lines += [f"{name.replace('_', '-')}: {one}" for one in values]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def parsed(data, method="GET"):
    """A whole answer, as h11 reads it: it complains of what is no HTTP."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    http.receive_data(data)
    http.receive_data(b"")
    head, body = http.next_event(), b""
    while isinstance(event := http.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return Response(head.status_code, {name.decode(): value.decode("latin-1") for name, value in head.headers}, body)


async def ask(server, method="GET", path="/", version="1.1", **fields):
    """Send a request; the answer, after which the connection is closed."""
    async with tcp(server, request(method, path, version, **fields)) as (reader, _):
        return parsed(await closed(reader), method)
