"""A small client: the protocol's own `ClientSession` over a socket that a test can cut, stall or fill with garbage."""

import asyncio
import contextlib
import io

import numpy as np
import torch
from deadlines import timeout
from engine_thread import EngineThread
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.protocol import ClientSession, CodesReceived, Ended, Hello, Lost, PcmFormat, PcmReceived, State
from streamcodec.protocol.messages import Flushed, Marker
from streamcodec.server.app import Server
from streamcodec.server.config import Config
from streamcodec.server.engine_process import EngineProcesses
from streamcodec.server.logs import Log

RATE, HOP = 8000, 40


def small_codec(seed=0, **config):
    """200 frames a second, float64: codes are then equal however steps are batched."""
    torch.manual_seed(seed)
    sizes = {"num_filters": 2, "hidden_size": 8, "upsampling_ratios": [5, 4, 2], "codebook_size": 16}
    codec = EncodecCodec({**sizes, "sampling_rate": RATE, "target_bandwidths": [0.8, 1.6, 6.4], **config})
    return codec.double().eval()


def wave(seconds, channels=1, rate=RATE, seed=0):
    """float32 [C, N], a sweep and noise, within full scale."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    tone = 0.4 * np.sin(2 * np.pi * (200 + 300 * t) * t)
    return (tone + 0.1 * rng.standard_normal((channels, len(t)))).clip(-1, 1).astype(np.float32)


def pieces(samples, seed=0, most=700):
    """A random cut into packets."""
    rng, place = np.random.default_rng(seed), 0
    while place < samples.shape[1]:
        count = int(rng.integers(1, most))
        yield samples[:, place : place + count]
        place += count


def hello(mode, **fields):
    pcm = fields.pop("pcm", PcmFormat(format="f32le", sample_rate=RATE))
    return Hello(version=1, mode=mode, **({"pcm": pcm} if pcm else {}), **fields)


@contextlib.asynccontextmanager
async def served(codecs=None, models=None, **options):
    """A server on a free port, with its engine in a thread unless `engines` says how many processes it has.

    `server.stream` has its log.
    """
    stream = io.StringIO()
    engines = EngineProcesses if "engines" in options else EngineThread
    config = Config(**{"port": 0, "slots": 8, "sessions": 8, "drain_seconds": 5.0, **options})
    server = Server(
        config, codecs or {"small": small_codec()}, log=Log("debug", stream), engines=engines, models=models
    )
    await server.start()
    server.stream = stream
    try:
        yield server
    finally:
        await server.stop()


class Talk:
    """One client. events: all that came, in order; connection: options of the WebSocket library's."""

    def __init__(self, server, opening=None, scheme="ws", path="/v1/stream", **connection):
        self.server, self.opening, self.scheme, self.path, self.connection = server, opening, scheme, path, connection
        self.session = ClientSession()
        self.events = []
        self.ws = None
        self.news = asyncio.Event()
        self.reader = None
        self.closed = None

    async def __aenter__(self):
        await self.open()
        if self.opening is not None:
            self.session.hello(self.opening)
            await self.send()
            await self.until(lambda: self.session.welcome or self.over)
        return self

    async def __aexit__(self, *error):
        await self.cut()

    async def open(self):
        url = f"{self.scheme}://127.0.0.1:{self.server.port}{self.path}"
        options = {"subprotocols": ["streamcodec.v1"], "compression": None, "max_size": None, **self.connection}
        self.closed = None
        self.ws = await connect(url, **options)
        self.reader = asyncio.create_task(self.read(self.ws))

    async def read(self, ws):
        try:
            async for message in ws:
                self.events += self.session.receive(message)
                await self.send()
                self.news.set()
        except ConnectionClosed:
            pass
        self.closed = (ws.close_code, ws.close_reason)
        self.events += self.session.disconnected()
        self.news.set()

    async def send(self):
        with contextlib.suppress(ConnectionClosed, OSError):
            for message in self.session.messages_to_send():
                await self.ws.send(message)

    async def cut(self):
        """Break the connection, without a word."""
        if self.ws is not None:
            self.ws.transport.abort()
            await self.reader
            self.ws = None

    async def again(self):
        """Connect anew and resume."""
        await self.open()
        self.session.resume()
        await self.send()
        await self.until(lambda: self.session.state is not State.HANDSHAKE)

    async def until(self, condition, seconds=60):
        async with timeout(seconds):
            while not condition():
                self.news.clear()
                await self.news.wait()

    def of(self, *kinds):
        return [event for event in self.events if isinstance(event, kinds)]

    @property
    def over(self):
        return bool(self.of(Ended))

    @property
    def lost(self):
        return bool(self.of(Lost))

    async def say(self, samples):
        self.session.send_pcm(samples)
        await self.send()

    async def flush(self, length=None, seconds=60):
        """Ends the stream and waits for its last output."""
        before = len(self.of(Flushed))
        self.session.flush(length)
        await self.send()
        await self.until(lambda: len(self.of(Flushed)) > before or self.over, seconds)
        return self.of(Flushed)[-1].length

    async def mark(self, name):
        self.session.mark(name)
        await self.send()
        await self.until(lambda: any(event.id == name for event in self.of(Marker)) or self.over)

    def codes(self, stream=0):
        """All codes of a stream, [K, T]."""
        return np.concatenate([e.codes for e in self.of(CodesReceived) if e.stream == stream and e.codes.size], axis=1)

    def audio(self, stream=0):
        return np.concatenate([e.samples for e in self.of(PcmReceived) if e.stream == stream], axis=1)


def encoded(codec, samples, bandwidth=None, start="primed"):
    """What the codec's own stream gives: codes [K, T], and the samples that they stand for."""
    stream = codec.open_encoder(bandwidth, 1, start=start)
    parts = [stream.push(samples[None]), stream.flush()]
    return np.concatenate([p.data[0].numpy() for p in parts], axis=1), sum(p.length for p in parts)


def decoded(codec, codes, length=None, bandwidth=None, start="primed"):
    """The codec's own stream on codes [K, T]: float32 [C, N]."""
    stream = codec.open_decoder(1, start=start, bandwidth=bandwidth or codec.spec.default_bandwidth)
    parts = [stream.push(torch.from_numpy(codes.astype(np.int64))[None]), stream.flush()]
    return torch.cat(parts, 2)[0, :, :length].float().numpy()
