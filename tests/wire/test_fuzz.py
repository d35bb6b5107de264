"""Whatever a peer sends, in whatever order, a session answers, stays bounded, and never raises.

The seed is printed. The long run, a million messages to each end, takes ten minutes and is asked for by its mark,
``pytest tests/wire/test_fuzz.py -m long -s``. STREAMCODEC_FUZZ_SEED=n repeats a seed: in the short run, and in part 0
of the long one.
"""

import functools
import os
import random

import fake_link
import numpy as np
import pytest
from fake_link import CODED, DELAYS, MODEL, PREDICTORS, TOKEN, Link, hello

from streamcodec.entropy import FrameEncoder
from streamcodec.packet import (
    CodedMessage,
    CodesMessage,
    EarlierFrames,
    PacketError,
    PcmMessage,
    drop_codebooks,
    pack,
    unpack,
)
from streamcodec.protocol import (
    ClientSession,
    CodesReceived,
    HelloReceived,
    Limits,
    PcmFormat,
    PcmReceived,
    RedundancyAgreed,
    Resume,
    RoomFacts,
    RoomRequest,
    ServerSession,
    State,
)
from streamcodec.protocol import messages as m
from streamcodec.protocol.end import MAX_HELD

LIMITS = Limits(message_bytes=8192, burst=100, refused_messages=40, unacknowledged_bytes=20_000)
WORDS = [
    "null", "true", "1e999", "-1", "0.5", "4294967295", "9007199254740993", '"x"', '"\\ud800"', "[]", "{}", "NaN",
    "[" * 9 + "]" * 9, '"' + "a" * 600 + '"', '"\\u0000"', "9" * 60, '"s16le"', '"codes"', '"room"', '"both"',
]  # fmt: skip


wave, frames = functools.cache(fake_link.wave), functools.cache(fake_link.frames)


class Fuzzer:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def hello(self):
        pick = self.random.choice
        mode = pick(["encode", "decode", "roundtrip", "room"])
        pcm = PcmFormat(format=pick(["s16le", "f32le"]), sample_rate=pick([8000, 24000, 48000]), channels=pick([1, 2]))
        role, codes = pick(["speaker", "listener", "both"]), pick(["pcm", "codes"])
        room = RoomRequest(name="r", role=role, send=codes, receive=pick(["pcm", "codes"])) if mode == "room" else None
        redundancy = pick([None, RedundancyAgreed(frames=3, codebooks=2, measured=pick([None, True]))])
        return hello(mode, pcm=pcm, room=room, crc=pick([True, False]), resume=pick([True, True, False]),
                     codec=pick(["default", "scaled", "coded"]), entropy=pick([None, MODEL.hash]),
                     redundancy=redundancy)  # fmt: skip

    def media(self, sequence, index):
        pick, count = self.random.choice, self.random.choice([1, 2, 9])
        rest = {"discontinuity": pick([False] * 5 + [True]), "crc": pick([False, True])}
        if pick([True, False]):
            samples = wave(count, pick([1, 2]), seed=count).T * np.float32(pick([1, 1, 1, 9, np.nan, np.inf]))
            if pick([True, False]):
                samples = np.clip(np.nan_to_num(samples * 9), -9, 9).astype(np.int16)
            return pack(PcmMessage(sequence, index, samples, **rest)), count
        scaled = pick([True, False])
        codes = frames(pick([1, 8, 16]), count, seed=count, size=pick([1000, 1024]))
        scale = np.full(count, pick([1.0, 1.0, -1.0, np.nan]), np.float32) if scaled else None
        if pick([True, False]):
            coded = FrameEncoder(PREDICTORS[MODEL.hash]).encode(codes[:8])
            depth, restart = pick([len(codes[:8]), 1, 8]), pick([True, True, False])
            packet = CodedMessage(sequence, index, coded, depth, count, 10, scale=scale, restart=restart, **rest)
            return pack(packet), count
        if index > 2 and pick([True, False]):
            scales = np.full(2, pick([1.0, -1.0]), np.float32) if scaled else None
            rest["earlier"] = EarlierFrames(frames(pick([1, 17]), 2, seed=3, size=pick([1000, 1024])), scales)
        return pack(CodesMessage(sequence, index, codes, pick([10, 10, 10, 12]), scale=scale, **rest)), count

    def text(self, sequence, known):
        pick = self.random.choice
        n = pick([sequence] * 6 + [0, sequence + 1])
        n = n % 2**32
        if known == "client":
            kinds = [
                lambda: m.Bandwidth(sequence=n, bandwidth=pick([1.5, 3.0, 5.0])), lambda: m.Marker(sequence=n, id="x"),
                lambda: m.Flush(sequence=n, length=pick([None, 5])), m.AskStatistics, lambda: m.Ping(id="p"),
                lambda: m.Acknowledge(sequence=self.random.randrange(40)), self.hello,
                lambda: m.LossReport(frames=pick([1, 50]), missing=pick([0, 1, 9])),
                lambda: Resume(version=1, token=TOKEN, last_sequence=n),
            ]  # fmt: skip
        else:
            kinds = [
                lambda: m.NewBandwidth(sequence=n, bandwidth=3.0, codebooks=4, frame=1),
                lambda: m.Marker(sequence=n, id="x"), lambda: m.Flushed(sequence=n, length=5),
                lambda: m.Acknowledge(sequence=self.random.randrange(40)), lambda: m.Pong(id="p", server_time=0.0),
                lambda: m.Dropped(sequence=n, stream=0, unit="frames", index=0, count=3),
                lambda: m.Left(sequence=n, id=1, reason="lost"),
                lambda: m.LossReport(frames=pick([1, 50]), missing=pick([0, 1, 9])),
                lambda: m.Resumed(session="s", server_time=1.0, last_sequence=n),
                lambda: m.ErrorMessage(code="bad_message", scope="message", message="x"),
            ]  # fmt: skip
        return m.to_text(pick(kinds)())

    def damaged(self, message):
        """The message with bytes or characters changed, taken out, doubled, or words put in."""
        draw = self.random
        binary = isinstance(message, bytes)
        data = bytearray(message if binary else message.encode())
        for _ in range(draw.choice([1, 1, 1, 2, 8])):
            at = draw.randrange(len(data) + 1)
            what = draw.randrange(5)
            if what == 0:
                del data[at : at + draw.choice([1, 4, 50])]
            elif what == 1 and data:
                data[at % len(data)] = draw.randrange(256)
            elif what == 2 and data:
                data[at % len(data)] ^= 1 << draw.randrange(8)
            elif what == 3:
                data[at:at] = data[: draw.choice([1, 8, 200])]
            else:
                data[at:at] = draw.randbytes(4) if binary else draw.choice(WORDS).encode()
        data = data[: 2 * LIMITS.message_bytes]
        return bytes(data) if binary else data.decode("utf-8", draw.choice(["replace", "surrogateescape"]))

    def garbage(self):
        size = self.random.choice([0, 1, 23, 24, 25, 60, 300])
        data = self.random.randbytes(size)
        if self.random.random() < 0.3:
            data = bytes([1, self.random.choice([1, 2])]) + data
        return data if self.random.random() < 0.5 else data.decode("latin-1")

    def message(self, session, known):
        sequence, index = session._arrivals.expected, session._next_in.get(0, 0)
        what = self.random.random()
        if what < 0.08:
            return self.garbage()
        message = self.media(sequence, index)[0] if what < 0.6 else self.text(sequence, known)
        return self.damaged(message) if self.random.random() < 0.4 else message


def check(event):
    """What a host is given is always in range."""
    if isinstance(event, PcmReceived):
        assert event.samples.dtype == np.float32
        assert not event.samples.size or np.isfinite(event.samples).all()
    if isinstance(event, CodesReceived):
        assert not event.codes.size or event.codes.max() < 1024


def bounded(session):
    messages, held = session.unacknowledged
    assert messages <= MAX_HELD + 1
    assert held <= 2 * LIMITS.unacknowledged_bytes + 2 * LIMITS.message_bytes
    assert len(session._next_in) <= 2**16


def fuzz_server(count, seed):
    """Sessions one after the other, until `count` messages were sent. Returns how often something was received."""
    fuzzer, sent, received, now = Fuzzer(seed), 0, 0, 0.0
    while sent < count:
        session = ServerSession(CODED, LIMITS, now, PREDICTORS)
        opening = m.to_text(fuzzer.hello())
        message = opening if fuzzer.random.random() < 0.95 else fuzzer.damaged(opening)
        while session.state is not State.CLOSED and sent < count:
            now += fuzzer.random.choice([0.0, 0.001, 0.02, 0.02])
            events = session.receive(message, now)
            sent += 1
            for event in events:
                check(event)
                if isinstance(event, HelloReceived):
                    session.accept("s", TOKEN, DELAYS, now, 1e9, RoomFacts(name="r", id=1, members=()))
                elif isinstance(event, (PcmReceived, CodesReceived)):
                    received += 1
                elif isinstance(event, m.Marker):
                    session.echo(event.id)
            out = session.messages_to_send()
            assert sum(map(len, out)) <= 4 * LIMITS.unacknowledged_bytes
            bounded(session)
            if session.close or session.state is State.DETACHED or fuzzer.random.random() < 0.002:
                session.disconnected(now)
                if session.state is State.DETACHED and fuzzer.random.random() < 0.8:
                    last = session._held.next - 1 if session._held.next else None
                    session.resume(Resume(version=1, token=TOKEN, last_sequence=last), now)
                elif session.state is State.DETACHED:
                    session.tick(now + LIMITS.resume_seconds)
                    assert session.state is State.CLOSED
            message = fuzzer.message(session, "client")
    return received


def fuzz_client(count, seed):
    fuzzer, sent, received = Fuzzer(seed), 0, 0
    while sent < count:
        link = Link(first=fuzzer.hello(), limits=LIMITS, offers=CODED, room=RoomFacts(name="r", id=1, members=()))
        client = link.client
        assert client.state is State.OPEN
        while client.state is not State.CLOSED and sent < count:
            for event in client.receive(fuzzer.message(client, "server")):
                check(event)
                received += isinstance(event, (PcmReceived, CodesReceived))
            sent += 1
            client.messages_to_send()
            bounded(client)
            if client.close or client.state is State.DETACHED:
                client.disconnected()
                if client.state is State.DETACHED:
                    client.resume()
                    last = client._held.next - 1 if client._held.next else None
                    client.receive(m.to_text(m.Resumed(session="s", server_time=1.0, last_sequence=last)))
    return received


def fuzz_hello(count, seed):
    """First messages only: a client's handshake, of a server that says anything."""
    fuzzer = Fuzzer(seed)
    welcome = next(x for x in _welcome() if isinstance(x, str))
    for _ in range(count):
        client = ClientSession()
        client.hello(fuzzer.hello())
        client.receive(fuzzer.damaged(welcome))
        client.messages_to_send()


def _welcome():
    session = ServerSession(CODED, Limits(), 0.0)
    session.receive(m.to_text(hello()), 0.0)
    session.accept("s", TOKEN, DELAYS, 0.0, 1e9)
    return session.messages_to_send()


def fuzz_packets(count, seed):
    fuzzer = Fuzzer(seed)
    for _ in range(count):
        data = fuzzer.damaged(fuzzer.media(1, 2)[0])
        try:
            packet = unpack(data)
        except PacketError:
            continue
        assert pack(packet) == data  # one packet has one spelling
        if isinstance(packet, CodesMessage):
            assert unpack(drop_codebooks(data, 1)).codes.shape[0] == 1


RUNS = [fuzz_server, fuzz_client, fuzz_hello, fuzz_packets]


def run(fuzz, count, seed):
    print(f"STREAMCODEC_FUZZ_SEED={seed}")
    received = fuzz(count, seed)
    if received is not None:
        assert received > count / 100  # or the fuzzer has lost its way


@pytest.mark.slow
@pytest.mark.parametrize(("fuzz", "count"), list(zip(RUNS, [10_000, 3_000, 3_000, 5_000], strict=True)))
def test_fuzz(fuzz, count):
    run(fuzz, count, int(os.environ.get("STREAMCODEC_FUZZ_SEED", "1")))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(10))
@pytest.mark.parametrize("fuzz", RUNS[:2], ids=lambda fuzz: fuzz.__name__)
def test_fuzz_a_million_messages(fuzz, part):
    """Ten parts of 100,000 for each end; a new seed at each run, unless one is given."""
    run(fuzz, 100_000, int(os.environ.get("STREAMCODEC_FUZZ_SEED", random.SystemRandom().randrange(2**32))) + part)
