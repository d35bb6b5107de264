"""A fake link between the two ends, and a codec for the wire."""

import dataclasses

import numpy as np
from entropy_models import random_model

from streamcodec.entropy import Predictor
from streamcodec.packet import pack
from streamcodec.protocol import (
    ClientSession,
    Delay,
    Delays,
    Hello,
    HelloReceived,
    Limits,
    PcmFormat,
    Resume,
    ServerSession,
    codec_facts,
)

FACTS = codec_facts(
    name="test_24khz",
    sample_rate=24000,
    channels=1,
    hop_length=320,
    num_codebooks=8,
    codebook_size=1024,
    bandwidths=(1.5, 3.0, 6.0),
    bandwidth_codebooks=(2, 4, 8),
    default_bandwidth=6.0,
    encoder_delay=0,
    decoder_delay=0,
)
SCALED = codec_facts(
    name="scaled",
    sample_rate=48000,
    channels=2,
    hop_length=320,
    num_codebooks=16,
    codebook_size=1000,
    bandwidths=(3.0, 24.0),
    bandwidth_codebooks=(2, 16),
    default_bandwidth=24.0,
    encoder_delay=0,
    decoder_delay=0,
    scaled=True,
)
OFFERS = {"default": FACTS, "scaled": SCALED}
MODEL = random_model(codebooks=8, size=1024, most=30)
PREDICTORS = {MODEL.hash: Predictor(MODEL)}
CODED = {"coded": dataclasses.replace(FACTS, entropy=MODEL.hash), **OFFERS}
DELAYS = Delays(framing=Delay(samples=320, ms=13.333), total_ms=13.333)
TOKEN = "t" * 22


def hello(mode="encode", **fields):
    """A hello with PCM in f32le at 24 kHz where nothing else is said."""
    return Hello(version=1, mode=mode, **{"pcm": PcmFormat(format="f32le", sample_rate=24000), **fields})


class Link:
    """Client and server with wires that can be cut. Messages travel when `run` is called; events pile up."""

    def __init__(self, first=None, limits=None, offers=OFFERS, room=None, accept=True, **fields):
        self.now = 100.0
        self.offers, self.limits = offers, limits or Limits()
        self.server = ServerSession(offers, self.limits, self.now, PREDICTORS)
        self.client = ClientSession(PREDICTORS[MODEL.hash])
        self.at_server, self.at_client = [], []
        self.room, self.accept = room, accept
        self.client.hello(first or hello(**fields))
        self.run()

    def run(self):
        """Carries everything in both directions until both ends are silent."""
        while True:
            up, down = self.client.messages_to_send(), self.server.messages_to_send()
            if not up and not down:
                return
            for message in up:
                self.to_server(message)
            for message in down:
                self.at_client += self.client.receive(message)

    def to_server(self, message):
        events = self.server.receive(message, self.now)
        for event in events:
            if isinstance(event, HelloReceived) and self.accept:
                self.server.accept("s1", TOKEN, DELAYS, self.now, 1.7e9, self.room)
        self.at_server += events
        return events

    def answers(self, message):
        """What the server says to this message, without the client hearing of it."""
        self.to_server(message)
        return self.server.messages_to_send()

    def cut(self, carried=(0, 0)):
        """The connection breaks after so many messages of the client's and of the server's still arrive."""
        for message in self.client.messages_to_send()[: carried[0]]:
            self.to_server(message)
        for message in self.server.messages_to_send()[: carried[1]]:
            self.at_client += self.client.receive(message)
        self.at_server += self.server.disconnected(self.now)
        self.at_client += self.client.disconnected()

    def reconnect(self):
        """A new connection, as a host does it."""
        self.client.resume()
        fresh = ServerSession(self.offers, self.limits, self.now)
        (message,) = self.client.messages_to_send()
        (request,) = fresh.receive(message, self.now)
        assert isinstance(request, Resume)
        assert request.token == TOKEN
        self.at_server += self.server.resume(request, self.now)
        self.run()


def wave(count, channels=1, seed=0):
    """[C, N] float32, within full scale."""
    return np.random.default_rng(seed).uniform(-1, 1, (channels, count)).astype(np.float32)


def frames(codebooks, count, seed=0, size=1024):
    """[K, T] uint16."""
    return np.random.default_rng(seed).integers(0, size, (codebooks, count)).astype(np.uint16)


def same(a, b):
    """Two packets or events, arrays included."""
    assert type(a) is type(b)
    for name in a.__dataclass_fields__:
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
        else:
            assert left == right, name


__all__ = [
    "CODED",
    "DELAYS",
    "FACTS",
    "MODEL",
    "OFFERS",
    "PREDICTORS",
    "SCALED",
    "TOKEN",
    "Link",
    "frames",
    "hello",
    "pack",
    "same",
    "wave",
]
