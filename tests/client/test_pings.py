"""A server that answers no ping: gone, or only slow to read."""

import asyncio
import re
import time

import pytest

pytest.importorskip("websockets", reason="the extra `client` is not installed")

from websockets.utils import accept_key

from streamcodec.client import transport
from streamcodec.client.transport import SendRate, Transport
from streamcodec.protocol import SUBPROTOCOL, VERSION, ClientSession, Hello
from streamcodec.protocol.messages import PcmFormat


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers the handshake, and then neither reads nor writes."""
    request = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = re.search(r"Sec-WebSocket-Key: (\S+)", request)[1]
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
    )
    await asyncio.sleep(30)


@pytest.mark.parametrize("resumable", [True, False])
def test_a_ping_without_answer_ends_only_what_can_be_resumed(resumable, monkeypatch):
    monkeypatch.setattr(transport, "PING_SECONDS", 0.1)

    async def lasts() -> bool:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        protocol = ClientSession()
        one = await Transport.open(url, protocol, None, SendRate(time.monotonic), lambda: None, resumable)
        pcm = PcmFormat(format="s16le", sample_rate=24000, channels=1)
        protocol.hello(Hello(version=VERSION, mode="encode", resume=resumable, pcm=pcm))
        one.pump()

        async def listen() -> None:
            async for _ in one:
                pass

        try:
            await asyncio.wait_for(listen(), 10 if resumable else 1)
        except asyncio.TimeoutError:
            return True
        finally:
            server.close()
        return False

    assert asyncio.run(lasts()) is not resumable
