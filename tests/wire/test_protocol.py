"""Both ends of a session over a fake link: every message, every state, limits, loss and resume."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fake_link import DELAYS, FACTS, OFFERS, TOKEN, Link, frames, hello, wave
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.packet import CodesMessage, PcmMessage, pack
from streamcodec.protocol import (
    FAULTS,
    ClientSession,
    CodesReceived,
    Ended,
    HelloReceived,
    Limits,
    Lost,
    Member,
    Missing,
    PcmFormat,
    PcmReceived,
    RedundancyAgreed,
    RoomFacts,
    RoomRequest,
    Scope,
    ServerSession,
    State,
)
from streamcodec.protocol import messages as m
from streamcodec.protocol.link import Arrivals, Bucket, Unacknowledged
from streamcodec.protocol.states import CLIENT, SERVER, Cause


def text(**values):
    return json.dumps(values)


def errors(messages):
    return [json.loads(message) for message in messages if isinstance(message, str) and '"error"' in message]


def only(messages):
    (error,) = errors(messages)
    return error


def of(events, kind):
    return [event for event in events if isinstance(event, kind)]


# What passes


def told(events):
    """Events as values that can be compared."""
    return [
        (type(event), event.index, event.rows.tobytes(), event.last) if isinstance(event, PcmReceived) else event
        for event in events
    ]


@pytest.mark.parametrize("format", ["s16le", "f32le"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_packet_like_the_one_before_is_judged_by_the_same_rules(format, resume, monkeypatch):
    """With and without remembering what the one before was like: the same events, and the same is said."""
    pcm = PcmFormat(format=format, sample_rate=24000, channels=1)
    rng, kind = np.random.default_rng(0), np.int16 if format == "s16le" else np.float32

    def packet(number, index, count=200, bad=False, **flags):
        rows = (rng.uniform(-1, 1, (count, 1)) * (30000 if kind is np.int16 else 1)).astype(kind)
        rows[:1] = np.nan if bad and kind is np.float32 else rows[:1]
        return pack(PcmMessage(number, index, rows, **flags))

    def streams():
        usual = [packet(number, 200 * number) for number in range(4)]
        yield "all are alike", [*usual, packet(4, 800), packet(5, 1000)]
        yield "a number is missing", [*usual, packet(5, 1000), packet(4, 800)]
        yield "an index is missing", [*usual, packet(4, 1000), packet(5, 800), packet(6, 800)]
        yield "a gap is told", [*usual, packet(4, 1000, discontinuity=True), packet(5, 1200)]
        yield "a sample is none", [*usual, packet(4, 800, bad=True), packet(5, 1000), packet(6, 1000, bad=True)]
        yield "another length", [*usual, packet(4, 800, 100), packet(5, 900), packet(6, 1100, 100)]
        yield "the last index", [*usual, packet(4, 2**53 - 1 - 200), usual[3]]
        for place in range(24):
            other = bytearray(packet(4, 800))
            other[place] ^= 1
            yield f"byte {place} is another", [*usual, bytes(other), packet(5, 1000), packet(4, 800)]
        yield "it is cut", [*usual, packet(4, 800)[:-1], packet(5, 1000)]

    def run(messages):
        link = Link(mode="encode", pcm=pcm, resume=resume)
        link.server.messages_to_send()
        said = [told(link.server.receive(message, 1.0)) for message in messages]
        return said, link.server.messages_to_send(), link.server.missing, link.server.refused_messages

    cases = dict(streams())
    with_memory = {name: run(messages) for name, messages in cases.items()}
    monkeypatch.setattr("streamcodec.packet.Likeness.read_header", lambda self, data: None)
    for name, messages in cases.items():
        assert run(messages) == with_memory[name], name


@pytest.mark.parametrize("mode", ["encode", "decode", "roundtrip"])
@pytest.mark.parametrize("crc", [False, True])
def test_each_mode_takes_and_gives_its_own(mode, crc):
    link = Link(mode=mode, crc=crc)
    pcm, codes = wave(480), frames(8, 3)
    if mode == "decode":
        link.client.send_codes(codes)
    else:
        link.client.send_pcm(pcm)
    if mode == "encode":
        link.server.send_codes(codes, last=True, length=900)
    else:
        link.server.send_pcm(pcm)
    link.run()
    for event in (link.at_server[-1], link.at_client[-1]):
        if isinstance(event, PcmReceived):
            np.testing.assert_array_equal(event.samples, pcm)
        else:
            np.testing.assert_array_equal(event.codes, codes)
    assert {type(link.at_server[-1]), type(link.at_client[-1])} == {
        "encode": {PcmReceived, CodesReceived},
        "decode": {PcmReceived, CodesReceived},
        "roundtrip": {PcmReceived},
    }[mode]


def test_integers_are_rounded_to_the_nearest_and_clipped():
    link = Link(mode="roundtrip", pcm=PcmFormat(format="s16le", sample_rate=8000, channels=2))
    samples = np.array([[0.0, 0.5, 1.0, -1.0, -2.0], [0.6, 1.4, 1.5, 2.5, -0.6]], np.float32)
    samples[1] /= 32768
    link.client.send_pcm(samples)
    link.run()
    heard = np.rint(link.at_server[-1].samples * 32768)
    np.testing.assert_array_equal(heard, [[0, 16384, 32767, -32768, -32768], [1, 1, 2, 2, -1]])


def test_all_text_messages_of_a_stream():
    link = Link()
    link.client.change_bandwidth(3.0)
    link.client.mark("m 1")
    link.client.flush()
    link.client.ask_statistics()
    link.client.ping("p")
    link.run()
    assert [type(event) for event in link.at_server[1:]] == [m.Bandwidth, m.Marker, m.Flush, m.AskStatistics]
    link.server.change_bandwidth(3.0, frame=7)
    link.server.change_codebooks(2, frame=8)
    link.server.drop(8, 5)
    link.server.echo("m 1")
    link.server.flushed(13)
    link.server.statistics(link.now + 5, {"queued": 2})
    link.run()
    got = link.at_client
    assert [type(event) for event in got] == [
        m.Welcome, m.Pong, m.NewBandwidth, m.CodebooksChanged, m.Dropped, m.Marker, m.Flushed, m.Statistics,
    ]  # fmt: skip
    assert (got[2].codebooks, got[2].frame) == (4, 7)
    assert (got[3].codebooks, got[3].agreed) == (2, 4)
    assert (got[4].unit, got[4].index, got[4].count) == ("frames", 8, 5)
    assert (got[-1].seconds, got[-1].dropped, got[-1].server) == (5.0, 5, {"queued": 2})
    link.client.goodbye()
    link.run()
    assert link.at_server[-1] == Ended("goodbye", "goodbye")
    assert link.at_client[-1] == Ended("goodbye", "goodbye")
    assert link.server.close.code == 1000
    assert (link.server.state, link.client.state) == (State.CLOSING, State.CLOSING)


def test_welcome_tells_all():
    welcome = Link(bandwidth=1.5, frames_per_packet=4).client.welcome
    assert welcome.codec == FACTS
    assert (welcome.bandwidth, welcome.codebooks, welcome.frames_per_packet) == (1.5, 2, 4)
    assert (welcome.token, welcome.resume_seconds, welcome.delays) == (TOKEN, 30.0, DELAYS)
    assert welcome.limits.message_bytes == Limits().message_bytes


def test_members_of_a_room_are_told_who_comes_speaks_and_goes():
    wants = RoomRequest(name="r", role="both", member="Ada")
    members = (Member(id=1, member="Ada", role="both", stream=1), Member(id=2, member="", role="listener"))
    link = Link(first=hello("room", room=wants), room=RoomFacts(name="r", id=1, members=members))
    assert link.client.welcome.room.members == members
    link.client.send_pcm(wave(160))
    link.server.joined(Member(id=3, member="Bob", role="speaker", stream=9))
    link.server.send_codes(frames(8, 1), stream=9, index=40)
    link.server.send_codes(frames(2, 1), stream=9, reduced=True)
    link.server.left(3, "lost", stream=9)
    link.run()
    assert isinstance(link.at_server[-1], PcmReceived)
    joined, missing, first, second, left = link.at_client[1:]
    assert (joined.member.member, left.id, left.reason) == ("Bob", 3, "lost")
    assert missing == Missing(0, 40, 9)
    assert (first.stream, first.index, second.index, second.reduced) == (9, 40, 41, True)
    # The number of who left is given anew: that stream begins at 0.
    link.server.joined(Member(id=4, member="Cyd", role="speaker", stream=9))
    link.server.send_codes(frames(2, 1), stream=9)
    link.run()
    assert (link.at_client[-1].stream, link.at_client[-1].index) == (9, 0)
    listener = Link(
        first=hello("room", room=replace(wants, role="listener", receive="pcm")), room=link.client.welcome.room
    )
    listener.server.send_pcm(wave(80), stream=1)
    listener.run()
    assert listener.at_client[-1].stream == 1
    assert only(listener.answers(text(type="marker", sequence=0, id="x")))["code"] == "bad_state"


def test_the_index_begins_again_after_the_last_packet_and_after_a_flush():
    link = Link()
    for _ in range(2):
        link.client.send_pcm(wave(100))
        link.client.send_pcm(wave(10))
        link.client.flush()
        link.server.send_codes(frames(8, 2))
        link.server.send_codes(frames(8, 0), last=True, length=110)
        link.run()
    assert [event.index for event in of(link.at_server, PcmReceived)] == [0, 100] * 2
    assert [(event.index, event.length) for event in of(link.at_client, CodesReceived)] == [(0, None), (2, 110)] * 2


def test_what_a_client_leaves_out_is_missing_and_what_a_server_leaves_out_too():
    link = Link()
    link.client.send_pcm(wave(100), index=50)
    link.server.send_codes(frames(8, 2), index=4)
    link.run()
    assert link.at_server[1] == Missing(0, 50)
    assert link.at_client[1] == Missing(0, 4)
    with pytest.raises(ValueError, match="150 or more"):
        link.client.send_pcm(wave(1), index=149)


# What is refused


def media(sequence, index=0, count=100, **fields):
    return pack(PcmMessage(sequence, index, wave(count).T, **fields))


def bad_samples(value):
    samples = wave(100).T.copy()
    samples[50] = value
    return pack(PcmMessage(0, 0, samples))


REFUSED = [
    (bad_samples(np.nan), "not_finite", True),
    (bad_samples(-np.inf), "not_finite", True),
    (bad_samples(8.5), "out_of_range", True),
    (media(0) + b"\0", "bad_message", True),
    (media(0, count=4464), "ok", True),
    (media(0, index=7), "index_gap", False),
    (media(0, index=7, discontinuity=True), "ok", True),
    (media(0, index=240001, discontinuity=True), "index_gap", False),
    (media(0, discontinuity=True), "index_gap", False),
    (media(0, stream=1), "bad_message", False),
    (media(0, last=True), "bad_message", False),
    (pack(PcmMessage(0, 0, np.zeros((9, 2), np.float32))), "bad_message", False),
    (pack(PcmMessage(0, 0, np.zeros((9, 1), np.int16))), "bad_message", False),
    (pack(CodesMessage(0, 0, frames(8, 1), 10)), "bad_state", False),
]


@pytest.mark.parametrize(("data", "code", "placed"), REFUSED, ids=range(len(REFUSED)))
def test_a_refused_packet_leaves_the_session_usable(data, code, placed):
    link = Link()
    out = link.answers(data)
    if code == "ok":
        assert not out
        return
    error = only(out)
    assert (error["code"], error["scope"], error["sequence"]) == (code, "message", 0)
    # Its place counts as missing where it is known; what follows is taken either way.
    assert of(link.at_server, Missing) == ([Missing(0, 100)] if placed else [])
    assert not link.answers(media(1, index=100 if placed else 0))
    assert isinstance(link.at_server[-1], PcmReceived)


def test_codes_outside_the_codebook_and_bad_scales_are_refused():
    link = Link(mode="decode", codec="scaled")
    scale = np.ones(2, np.float32)
    codes = frames(16, 2, size=1000)
    codes[3, 1] = 1000
    cases = [
        ((codes, scale), "out_of_range"),
        ((codes * 0, scale * np.float32(np.nan)), "not_finite"),
        ((codes * 0, scale * 0), "out_of_range"),
        ((codes * 0, None), "bad_message"),
        ((np.zeros((17, 2), np.uint16), scale), "bad_message"),
    ]
    index = 0
    for number, ((values, scales), code) in enumerate(cases):
        error = only(link.answers(pack(CodesMessage(number, index, values, 10, scale=scales))))
        assert (error["code"], error["sequence"]) == (code, number)
        index += 2 if code != "bad_message" else 0
    assert not link.answers(pack(CodesMessage(len(cases), index, codes * 0, 10, scale=scale)))
    assert isinstance(link.at_server[-1], CodesReceived)
    assert only(link.answers(text(type="bandwidth", sequence=6, bandwidth=3)))["code"] == "bad_state"


def test_a_packet_above_the_limit_is_missing():
    link = Link(limits=Limits(message_bytes=300))
    assert only(link.answers(media(0)))["code"] == "too_large"
    assert link.at_server[-1] == Missing(0, 100)


BAD_TEXT = [
    "", "x", "[]", "1", "null", '"hello"', "{", "{}", '{"type":1}', '{"type":"nothing"}', '{"type":"marker"}',
    '{"type":"marker","sequence":0}', '{"type":"marker","sequence":true,"id":"x"}',
    '{"type":"marker","sequence":0.0,"id":"x"}', '{"type":"marker","sequence":-1,"id":"x"}',
    '{"type":"marker","sequence":4294967296,"id":"x"}', '{"type":"marker","sequence":0,"id":""}',
    '{"type":"marker","sequence":0,"id":"\\n"}', '{"type":"marker","sequence":0,"id":"' + "x" * 65 + '"}',
    '{"type":"ping","id":"a","id":"b"}', '{"type":"ping","id":"a","more":NaN}', '{"type":"ping","id":"a","n":1e999}',
    '{"type":"ping","id":"a","more":-Infinity}', '{"type":"ping","id":"a","n":9007199254740992}',
    '{"type":"ping","id":"a","n":' + "9" * 5000 + "}", '{"type":"ping","id":"a","n":0.' + "1" * 5000 + "}",
    '{"type":"ping","id":"a","n":' + "[" * 9 + "]" * 9 + "}", '{"type":"ping","id":"a"} {}',
    '{"type":"ping","id":"\\ud800"}', '{"type":"ping","id":"a"' + " " * 9000 + "}", "[" * 8000, '{"a":' * 1500,
    '"' + '\\"' * 4000, "\ud800", '{"type":"bandwidth","sequence":0,"bandwidth":"6"}',
    '{"type":"bandwidth","sequence":0,"bandwidth":6.5}', '{"type":"flush","sequence":0,"length":5}',
    '{"type":"ack","sequence":0}', '{"type":"hello","version":1,"mode":"encode"}', '{"type":"welcome"}',
]  # fmt: skip


@pytest.mark.parametrize("message", BAD_TEXT, ids=range(len(BAD_TEXT)))
def test_bad_text_is_answered_and_the_session_goes_on(message):
    link = Link()
    error = only(link.answers(message))
    assert error["scope"] == "message"
    assert error["code"] in ("bad_message", "too_large", "bad_state", "bad_bandwidth")
    # A refused message whose number can be read has used it up.
    taken = link.server._arrivals.expected
    assert taken == ('"sequence":0' in message and '"sequence":0.' not in message and '"ack"' not in message)
    assert not link.answers(media(taken))


def test_null_is_as_no_key_where_there_is_a_default():
    session = ServerSession(OFFERS, Limits(), 0.0)
    values = {"type": "hello", "version": 1, "mode": "encode", "pcm": {"format": "f32le", "sample_rate": 24000}}
    plain = m.parse(values, m.FROM_CLIENT)
    nulls = dict.fromkeys(("codec", "bandwidth", "frames_per_packet", "crc", "resume", "start", "room", "key"))
    (event,) = session.receive(text(**values, **nulls), 0.0)
    assert event.agreement.hello == plain
    link = Link()
    assert only(link.answers(text(type="marker", sequence=0, id=None)))["code"] == "bad_message"


def test_unknown_keys_are_ignored():
    link = Link()
    assert not link.answers(text(type="marker", sequence=0, id="x", later=[1, {"a": None}]))
    assert link.at_server[-1] == m.Marker(sequence=0, id="x")


BAD_HELLO = [
    ({"version": 2}, "unsupported_version"),
    ({"mode": "sing"}, "bad_message"),
    ({"codec": "other"}, "unknown_codec"),
    ({"bandwidth": 5}, "bad_bandwidth"),
    ({"frames_per_packet": 0}, "bad_frames"),
    ({"frames_per_packet": 151}, "bad_frames"),
    ({"frames_per_packet": 1.0}, "bad_message"),
    ({"pcm": None}, "bad_message"),
    ({"pcm": {"format": "s24le", "sample_rate": 24000}}, "bad_message"),
    ({"pcm": {"format": "s16le", "sample_rate": 7999}}, "bad_rate"),
    ({"pcm": {"format": "s16le", "sample_rate": 48001}}, "bad_rate"),
    ({"pcm": {"format": "s16le", "sample_rate": True}}, "bad_message"),
    ({"pcm": {"format": "s16le", "sample_rate": 8000, "channels": 3}}, "bad_channels"),
    ({"pcm": {"format": "s16le", "sample_rate": 8000, "channels": 0}}, "bad_channels"),
    ({"crc": 1}, "bad_message"),
    ({"max_delay": 0.05}, "bad_message"),
    ({"max_delay": 61}, "bad_message"),
    ({"redundancy": {"frames": 0, "codebooks": 1}}, "bad_message"),
    ({"redundancy": {"frames": 65, "codebooks": 1}}, "bad_message"),
    ({"redundancy": 3}, "bad_message"),
    ({"max_delay": 1, "resume": False}, "bad_message"),
    ({"mode": "room"}, "bad_message"),
    ({"room": {"name": "r", "role": "speaker"}}, "bad_message"),
    ({"mode": "room", "room": {"name": "a b", "role": "speaker"}}, "room_name"),
    ({"mode": "room", "room": {"name": "r", "role": "king"}}, "bad_message"),
    ({"mode": "room", "room": {"name": "r", "role": "speaker", "member": "\u202e"}}, "bad_message"),
    ({"key": "a b"}, "bad_message"),
]


@pytest.mark.parametrize(("change", "code"), BAD_HELLO, ids=range(len(BAD_HELLO)))
def test_a_bad_hello_ends_the_handshake(change, code):
    session = ServerSession(OFFERS, Limits(), 0.0)
    values = {"type": "hello", "version": 1, "mode": "encode", "pcm": {"format": "f32le", "sample_rate": 24000}}
    (ended,) = session.receive(text(**{**values, **change}), 0.0)
    error = only(session.messages_to_send())
    assert (error["code"], error["scope"], ended.code) == (code, "session", code)
    assert session.close.code == FAULTS[code].close
    assert session.state is State.CLOSING
    assert session.receive(text(**values), 0.0) == []
    if code != "bad_message":
        assert error["allowed"]


FIRST = [text(type="ping", id="x"), text(type="marker", sequence=0, id="x"), media(0), "nonsense", b""]


@pytest.mark.parametrize("message", FIRST, ids=range(len(FIRST)))
@pytest.mark.parametrize("greeted", [False, True])
def test_nothing_comes_before_welcome(message, greeted):
    session = ServerSession(OFFERS, Limits(), 0.0)
    if greeted:
        assert isinstance(session.receive(m.to_text(hello()), 0.0)[0], HelloReceived)
    events = session.receive(message, 0.0)
    assert isinstance(events[-1], Ended)
    assert only(session.messages_to_send())["scope"] == "session"


def test_the_host_refuses_with_a_time_to_come_again():
    link = Link(accept=False)
    link.server.refuse("busy", "all 24 sessions are taken", link.now, retry_after=5.0)
    link.run()
    error, ended = link.at_client
    assert (error.code, error.retry_after, ended.code) == ("busy", 5.0, "busy")
    assert link.server.close.code == 4450


def test_shutting_down_tells_the_client():
    link = Link()
    assert link.server.shut_down(retry_after=3.0)[-1].code == "server_shutdown"
    link.run()
    assert link.at_client[-2].retry_after == 3.0
    assert link.server.close.code == 1001


def test_every_fault_has_its_own_close_code():
    closes = [fault.close for fault in FAULTS.values()]
    assert len(set(closes)) == len(closes)
    assert all(4000 <= close < 5000 for close in closes)


def test_a_host_that_sends_too_early_is_told_and_too_late_is_not():
    link = Link(accept=False)
    with pytest.raises(RuntimeError, match="not open"):
        link.server.send_codes(frames(8, 1))
    link = Link()
    link.server.shut_down()
    link.server.messages_to_send()
    link.server.send_codes(frames(8, 1))
    link.server.echo("x")
    assert link.server.messages_to_send() == []


def test_all_states_can_be_left_and_reached():
    for table, first in ((SERVER, State.HANDSHAKE), (CLIENT, State.START)):
        reached = {first} | {state for row in table.values() for state in row.values()}
        assert reached == set(table)
        for state, row in table.items():
            assert any(cause in row for cause in (Cause.GONE, Cause.EXPIRED)), state


# Limits


def test_too_fast_is_told_when_to_go_on():
    link = Link(limits=Limits(burst=10, messages_per_second=5.0))
    for _ in range(9):
        link.answers(text(type="ping", id="x"))
    error = only(link.answers(text(type="ping", id="x")))
    assert (error["code"], error["scope"], error["retry_after"]) == ("too_fast", "connection", 0.2)
    assert link.server.state is State.DETACHED
    assert link.at_server[-1] == Lost("too_fast")


def test_too_many_errors_end_the_session():
    link = Link(limits=Limits(refused_messages=3))
    for _ in range(2):
        assert only(link.answers("x"))["scope"] == "message"
    last = errors(link.answers("x"))
    assert [error["code"] for error in last] == ["bad_message", "too_many_errors"]
    assert link.server.state is State.CLOSING


def test_time_runs_out():
    session = ServerSession(OFFERS, Limits(), 0.0)
    assert (session.deadline, session.tick(9.9)) == (10.0, [])
    assert session.tick(10.0)[-1].code == "handshake_timeout"
    link = Link()
    assert link.server.tick(link.now + 59.9) == []
    assert link.server.tick(link.server.deadline)[-1].code == "idle_timeout"
    link = Link()
    link.cut()
    assert link.server.tick(link.now + 29.9) == []
    assert link.server.tick(link.now + 30)[-1].code == "resume_timeout"
    assert link.server.state is State.CLOSED


def test_a_slow_client_stops_the_server_and_one_that_never_acknowledges_is_cut_off():
    link = Link(limits=Limits(unacknowledged_bytes=1000))
    while link.server.writable:
        link.server.send_codes(frames(8, 1))
    assert 1000 <= link.server.unacknowledged[1] < 1034
    link.run()
    assert link.server.writable  # the client has acknowledged
    sent = 0
    while link.server.state is State.OPEN:
        link.server.echo("x" * 64)
        link.server.messages_to_send()
        sent += 1
        assert sent < 10000
    assert link.server.close.code == FAULTS["too_slow"].close


def test_with_a_max_delay_each_end_leaves_out_what_would_be_late():
    link = Link(mode="roundtrip", max_delay=1.0)
    for _ in range(100):  # 1.33 s; of which 16 packets and 0.4 s may be on their way
        link.client.send_pcm(wave(320))
        link.server.send_pcm(wave(320))
    sent = 16 + 31  # each end sends until more than 0.4 s, 30 packets, are on their way
    assert link.client.unacknowledged[0] == sent
    assert link.client.left_out == link.server.left_out == (100 - sent) * 320
    link.run()
    link.client.send_pcm(wave(320))
    link.server.send_pcm(wave(320))
    link.run()
    assert of(link.at_server, Missing) == [Missing(sent * 320, (100 - sent) * 320, 0)]
    assert of(link.at_client, m.Dropped)[0].index == sent * 320
    assert of(link.at_client, m.Dropped)[0].count == (100 - sent) * 320
    assert link.at_server[-1].index == link.at_client[-1].index == 100 * 320
    assert link.server.dropped_units == (100 - sent) * 320


def test_with_redundancy_the_packet_after_what_was_left_out_carries_some_of_it():
    link = Link(mode="encode", max_delay=1.0, redundancy=RedundancyAgreed(frames=5, codebooks=3))
    for number in range(100):
        link.server.send_codes(frames(8, 1, number))
    sent = 16 + 31
    link.run()
    link.server.send_codes(frames(8, 1, 100))
    link.run()
    assert of(link.at_client, Missing) == [Missing(sent, 100 - sent - 5, 0)]
    again, last = of(link.at_client, CodesReceived)[-2:]
    assert (again.index, again.again, again.reduced) == (95, True, True)
    assert np.array_equal(again.codes, np.concatenate([frames(8, 1, n)[:3] for n in range(95, 100)], 1))
    assert (last.index, last.again) == (100, False)
    link.server.send_codes(frames(8, 1, 101))  # nothing was left out before it
    link.run()
    assert [event.index for event in of(link.at_client, CodesReceived)[-2:]] == [100, 101]


def test_with_redundancy_a_client_of_codes_carries_them_too():
    link = Link(mode="decode", max_delay=1.0, redundancy=RedundancyAgreed(frames=4, codebooks=1))
    for number in range(100):
        link.client.send_codes(frames(8, 1, number))
    link.run()
    link.client.send_codes(frames(8, 1, 100))
    link.run()
    assert [event.index for event in of(link.at_server, CodesReceived)[-2:]] == [96, 100]
    assert of(link.at_server, CodesReceived)[-2].codes.shape == (1, 4)
    assert of(link.at_server, Missing)[0].count == 100 - (16 + 31) - 4


MEASURED = RedundancyAgreed(frames=6, codebooks=3, measured=True)


def sender(link, mode):
    """The end that sends codes, and what comes of them."""
    return (link.server, link.at_client) if mode == "encode" else (link.client, link.at_server)


def left_out_and_sent(link, mode, number, lost):
    """Frames from `number` on, one a packet, the next of which follows `lost` that were left out; the next number."""
    end, _ = sender(link, mode)
    link.now += 0.02
    for _ in range(lost):
        end.lose(frames(8, 1, number))
        number += 1
    end.send_codes(frames(8, 1, number), index=number)
    link.run()
    return number + 1


@pytest.mark.parametrize("mode", ["encode", "decode"])
def test_by_measured_loss_packets_carry_nothing_at_first_and_more_the_more_was_lacking(mode):
    link = Link(mode=mode, redundancy=MEASURED)
    end, came = sender(link, mode)
    assert link.client.welcome.redundancy == MEASURED
    number = left_out_and_sent(link, mode, left_out_and_sent(link, mode, 0, 0), 2)
    assert [event.again for event in of(came, CodesReceived)] == [False, False]
    levels = []
    for _ in range(80):
        number = left_out_and_sent(link, mode, number, 7)
        levels.append(end.measured.level)
    assert (levels[0], levels[-1]) == (0, 3)
    assert sorted(levels) == levels
    assert of(came, CodesReceived)[-2].codes.shape == (3, 6)
    assert of(came, CodesReceived)[-2].again
    receiver = link.client if mode == "encode" else link.server
    assert receiver.again == sum(event.codes.shape[1] for event in of(came, CodesReceived) if event.again)
    for _ in range(1800):  # nothing is lost any more
        number = left_out_and_sent(link, mode, number, 0)
    assert end.measured.level == 0
    assert end.measured.loss < 0.01


def test_who_comes_late_to_a_stream_has_lost_nothing():
    link = Link(mode="encode", redundancy=MEASURED)
    link.server.send_codes(frames(8, 1), index=100_000)
    for number in range(300):
        link.server.send_codes(frames(8, 1), index=100_001 + number)
        link.run()
    assert (link.server.measured.level, link.server.measured.loss) == (0, 0.0)


@pytest.mark.parametrize(("setting", "agreed"), [("off", None), ("fixed", replace(MEASURED, measured=None))])
def test_a_server_agrees_to_no_more_than_its_operator_does(setting, agreed):
    link = Link(mode="encode", redundancy=MEASURED, limits=Limits(redundancy=setting))
    assert link.client.welcome.redundancy == agreed
    assert link.server.measured is link.client.measured is None
    number = 0
    for _ in range(40):
        number = left_out_and_sent(link, "encode", number, 7)
    assert of(link.at_client, CodesReceived)[-2].again == (setting == "fixed")
    link.to_server(text(type="loss", frames=10, missing=5))
    assert only(link.server.messages_to_send())["code"] == "bad_state"


def test_an_older_server_that_does_not_know_measured_loss_is_a_fixed_one():
    client = ClientSession()
    client.hello(hello("encode", redundancy=MEASURED))
    link = Link(mode="encode", redundancy=replace(MEASURED, measured=None))
    welcome = m.to_text(link.client.welcome)
    assert "measured" not in welcome
    client.receive(welcome)
    assert client.state is State.OPEN
    assert client.measured is None
    for number in range(200):
        client.receive(pack(CodesMessage(number, number, frames(8, 1), 10)))
    assert "loss" not in str([item for item in client.messages_to_send() if isinstance(item, str)][1:])


@pytest.mark.parametrize(
    "values",
    [{"frames": 5, "missing": 6}, {"frames": 0, "missing": 0}, {"frames": 5, "missing": -1}, {"frames": 5},
     {"frames": 5.0, "missing": 1}, {"frames": True, "missing": 0}, {"frames": 2**60, "missing": 0}],
)  # fmt: skip
def test_a_report_of_loss_that_cannot_be_is_refused_and_changes_nothing(values):
    link = Link(mode="encode", redundancy=MEASURED)
    link.to_server(text(type="loss", **values))
    assert only(link.server.messages_to_send())["code"] == "bad_message"
    assert (link.server.measured.level, link.server.measured.loss) == (0, 0.0)


def test_nobody_who_did_not_ask_gets_earlier_frames():
    link = Link(mode="encode", max_delay=1.0)
    for number in range(100):
        link.server.send_codes(frames(8, 1, number))
    link.run()
    link.server.send_codes(frames(8, 1, 100))
    link.run()
    assert not any(event.again for event in of(link.at_client, CodesReceived))
    link = Link(mode="roundtrip", redundancy=RedundancyAgreed(frames=5, codebooks=3))  # it has no codes
    assert link.client.welcome.redundancy is None


def test_a_client_tells_of_a_second_that_it_left_out_at_most():
    link = Link(mode="encode", max_delay=2.0)
    link.client.send_pcm(wave(320))
    link.client.leave_out(20 * 24000)  # more than gap_seconds
    link.client.send_pcm(wave(320))
    link.run()
    assert of(link.at_server, Missing) == [Missing(320, 24000, 0)]
    assert link.client.left_out == 20 * 24000


@given(st.lists(st.tuples(st.sampled_from(["client", "server", "carry", "cut"]), st.integers(1, 40)), max_size=40))
def test_what_is_on_its_way_is_bounded_whatever_the_link_does(steps):
    link, given_frames = Link(mode="encode", max_delay=0.4), 0
    for what, count in steps:
        if what == "carry":
            link.run()
        elif what == "cut":
            link.cut()
            link.reconnect()
        else:
            for _ in range(count):
                if what == "client":
                    link.client.send_pcm(wave(320))
                else:
                    link.server.send_codes(frames(8, 1))
                    given_frames += 1
        for end in (link.client, link.server):
            assert end.unacknowledged[0] <= 16 + 0.16 * 75 + 2 + 8  # a few of them tell what was dropped
    link.server.send_codes(frames(8, 1), last=True, length=given_frames * 320)  # whatever waits: the end comes
    link.run()
    packets = of(link.at_client, CodesReceived)
    assert packets[-1].index == given_frames
    assert packets[-1].last
    lost = sum(gap.count for gap in of(link.at_client, Missing))
    assert lost == link.server.left_out == sum(one.count for one in of(link.at_client, m.Dropped))
    assert sum(packet.codes.shape[1] for packet in packets) + lost == given_frames + 1


def test_both_ends_hold_little_while_they_talk():
    link = Link()
    for _ in range(200):
        link.client.send_pcm(wave(320))
        link.server.send_codes(frames(8, 1))
        link.run()
        assert link.client.unacknowledged[0] <= 16
        assert link.server.unacknowledged[0] <= 16
    assert link.at_client[-1].index == 199


# Loss and resume


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12),
    st.integers(0, 1),
)
def test_a_session_that_loses_its_connection_goes_on_to_the_bit(cuts, wrap):
    link = Link()
    if wrap:  # the numbers wrap
        near = 2**32 - 5
        for end in (link.client, link.server):
            end._held.next = near
            end._arrivals.expected, end._arrivals.last = near, near - 1
    said, sent = [], []
    for number, (work, up, down) in enumerate(cuts):
        for i in range(work):
            pcm, codes = wave(10, seed=100 * number + i), frames(8, 1, seed=100 * number + i)
            link.client.send_pcm(pcm)
            link.server.send_codes(codes)
            said.append(pcm)
            sent.append(codes)
        link.client.mark(str(number))
        link.cut((up, down))
        link.server.send_codes(frames(8, 1, seed=number))  # goes on meanwhile
        sent.append(frames(8, 1, seed=number))
        link.reconnect()
        assert link.server.state is link.client.state is State.OPEN
    np.testing.assert_array_equal(
        np.concatenate([e.samples for e in of(link.at_server, PcmReceived)] or [wave(0)], 1),
        np.concatenate(said or [wave(0)], 1),
    )
    np.testing.assert_array_equal(
        np.concatenate([e.codes for e in of(link.at_client, CodesReceived)], 1), np.concatenate(sent, 1)
    )
    assert [e.id for e in of(link.at_server, m.Marker)] == [str(n) for n in range(len(cuts))]
    assert link.server.resumes == len(cuts)


def test_damage_is_mended_by_a_resume():
    link = Link(crc=True)
    link.client.send_pcm(wave(10))
    link.client.send_pcm(wave(20))
    first, second = link.client.messages_to_send()
    damaged = bytearray(first)
    damaged[30] ^= 4
    error = only(link.answers(bytes(damaged)))
    assert (error["code"], error["scope"]) == ("bad_crc", "connection")
    assert link.answers(second) == []
    link.cut()
    link.reconnect()
    assert [e.samples.shape[1] for e in of(link.at_server, PcmReceived)] == [10, 20]


def test_a_gap_of_numbers_closes_the_connection_only():
    link = Link()
    assert only(link.answers(media(1)))["allowed"] == 0
    assert link.server.close.code == FAULTS["sequence_gap"].close
    link.cut()
    link.reconnect()
    assert link.server.close is None
    assert not link.answers(media(0))


def test_a_session_can_be_taken_over_while_the_server_still_sees_the_old_connection():
    link = Link()
    link.client.send_pcm(wave(10))
    link.client.messages_to_send()
    link.client.disconnected()
    link.reconnect()
    assert of(link.at_server, PcmReceived)


def test_what_is_not_held_cannot_be_resumed():
    link = Link()
    link.cut()
    assert link.server.resume(m.Resume(version=1, token=TOKEN, last_sequence=77), link.now)[-1].code == "resume_gap"
    assert only(link.server.messages_to_send())["scope"] == "session"


def test_a_session_without_resume_keeps_nothing_and_ends_with_its_connection():
    link = Link(resume=False)
    link.server.send_codes(frames(8, 1))
    assert link.server.unacknowledged == (0, 0)
    assert link.client.welcome.token is None
    link.cut()
    assert link.at_server[-1] == Ended("lost", "the connection was lost")
    assert (link.server.state, link.client.state) == (State.CLOSED, State.CLOSED)
    fresh = Link(resume=False)
    assert only(fresh.answers(media(5)))["scope"] == "session"


def test_a_client_closes_on_a_server_that_breaks_the_rules():
    link = Link()
    bad = pack(CodesMessage(0, 0, frames(8, 1), 10)) + b"\0"
    (ended,) = link.client.receive(bad)
    assert (ended.code, link.client.close.code) == ("bad_message", 4400)
    link = Link()
    (lost,) = link.client.receive(pack(CodesMessage(3, 0, frames(8, 1), 10)))
    assert (lost, link.client.state) == (Lost("sequence_gap"), State.DETACHED)
    assert Scope(FAULTS["sequence_gap"].scope) is Scope.CONNECTION


# Parts


@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(0, 30))
def test_numbers_wrap(start, sent, held):
    out = Unacknowledged(True)
    out.next = start
    for number in range(sent):
        out.add(str(number))
    last = (start + min(held, sent) - 1) % 2**32
    assert out.after(last) == [str(number) for number in range(min(held, sent), sent)]
    assert out.acknowledge(last)
    assert len(out) == sent - min(held, sent)
    assert not out.acknowledge((start + sent) % 2**32)
    assert out.acknowledge((start - 1) % 2**32)  # an old one changes nothing
    assert len(out) == sent - min(held, sent)


def test_arrivals_are_acknowledged_by_number_and_by_size():
    arrivals = Arrivals(3, 100)
    due = []
    for number in range(6):
        arrivals.take(number, 10 if number < 3 else 60)
        due.append(arrivals.due())
    assert due == [None, None, 2, None, 4, None]


def test_a_bucket_saves_up_to_its_burst_and_more_only_over_a_resume():
    bucket = Bucket(10.0, 3, 0.0)
    assert [bucket.take(50.0) for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(0.1)]
    bucket.catch_up(51.0)
    assert [bool(bucket.take(51.0)) for _ in range(11)] == [False] * 10 + [True]
    assert bucket.take(40.0) > 0  # a clock that goes back gives nothing
