"""Entropy coding on the wire: agreed by both or not there; nothing is lost by it, whatever breaks on the way."""

import dataclasses

import numpy as np
import pytest
from entropy_models import likeliest
from fake_link import CODED, FACTS, MODEL, PREDICTORS, SCALED, Link, frames, hello, same
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.entropy import FrameEncoder
from streamcodec.entropy.frames import Coded
from streamcodec.packet import (
    CODED as FLAG,
)
from streamcodec.packet import (
    HEADER_BYTES,
    RESTART,
    CodedMessage,
    CodesMessage,
    PacketError,
    drop_codebooks,
    pack,
    read_header,
    unpack,
)
from streamcodec.protocol import FAULTS, ClientSession, CodesReceived, Ended, Lost, Missing, State
from streamcodec.protocol.coding import MAX_FRAMES
from streamcodec.protocol.messages import ErrorMessage


def link(mode="decode", offers=CODED, **fields):
    made = Link(first=hello(mode, **{"codec": "coded", "entropy": MODEL.hash, **fields}), offers=offers)
    assert made.client.state is State.OPEN
    return made


def coded_link(mode="decode", **fields):
    made = link(mode, **fields)
    assert made.client.welcome.entropy == made.client.welcome.codec.entropy == MODEL.hash
    return made


def received(events):
    return [event.codes for event in events if isinstance(event, CodesReceived)]


def equal(found, sent):
    assert len(found) == len(sent)
    for left, right in zip(found, sent, strict=True):
        np.testing.assert_array_equal(left, right)


@st.composite
def packets(draw):
    count, codebooks, last = draw(st.integers(1, 5)), draw(st.integers(1, 8)), draw(st.booleans())
    coded = FrameEncoder(PREDICTORS[MODEL.hash]).encode(frames(codebooks, count, draw(st.integers(0, 99))))
    scale = np.ones(count, np.float32) if draw(st.booleans()) else None
    names = ("discontinuity", "reduced", "crc", "restart")
    flags = {name: draw(st.booleans()) for name in names}
    length = draw(st.integers(0, 9)) if last else None
    return CodedMessage(7, 300, coded, codebooks, count, 10, 2, scale, length, last, **flags)


@given(packets())
def test_a_coded_packet_comes_back(packet):
    data = pack(packet)
    same(unpack(data), packet)
    assert bool(read_header(data).flags & RESTART) == packet.restart
    assert len(data) == HEADER_BYTES + len(packet.coded.data) + (4 * packet.crc) + (
        8 * (packet.length is not None) + (0 if packet.scale is None else 4 * packet.frames)
    )


@given(packets())
def test_a_coded_packet_cannot_be_cut(packet):
    with pytest.raises(PacketError, match="not coded"):
        drop_codebooks(pack(packet), 1)


def test_a_check_and_a_restart_are_for_coded_packets_alone():
    plain = bytearray(pack(CodesMessage(0, 0, frames(2, 2), 10)))
    for at, value in ((22, 1), (2, RESTART)):
        wrong = bytearray(plain)
        wrong[at] = value
        with pytest.raises(PacketError, match="no such ones"):
            unpack(bytes(wrong))
    with pytest.raises(PacketError, match="at least one frame"):
        pack(CodedMessage(0, 0, Coded(b"", 0), 1, 0, 10, last=True))


@pytest.mark.parametrize("mode", ["decode", "encode"])
def test_codes_are_coded_where_both_have_the_model_and_come_out_the_same(mode):
    made = coded_link(mode)
    codes = [likeliest(PREDICTORS[MODEL.hash], 30, 8)[:, start : start + 10] for start in (0, 10, 20)]
    for part in codes:
        (made.client if mode == "decode" else made.server).send_codes(part)
    plain = sum(len(pack(CodesMessage(0, 0, part, 10))) for part in codes)
    sent = made.client.sent_bytes if mode == "decode" else made.server.sent_bytes
    before = sent - sum(len(m) for m in (made.client if mode == "decode" else made.server)._out if isinstance(m, bytes))
    assert sent - before < plain / 2
    made.run()
    equal(received(made.at_server if mode == "decode" else made.at_client), codes)


@pytest.mark.parametrize(
    "fields",
    [{"entropy": None}, {"entropy": "ab" * 32}, {"codec": "default"}, {"mode": "roundtrip"}],
    ids=["no model", "another model", "another codec", "no codes"],
)
def test_without_the_same_model_at_both_ends_codes_go_as_they_are(fields):
    made = link(**{"mode": "decode", **fields})
    assert made.client.welcome.entropy is None
    if fields.get("mode") != "roundtrip":
        made.client.send_codes(frames(8, 3))
        (message,) = made.client.messages_to_send()
        assert not read_header(message).flags & FLAG


def test_an_older_client_and_an_older_server_go_on():
    older = Link(first=hello("decode"), offers=CODED)
    older.client.send_codes(frames(8, 3))
    older.run()
    equal(received(older.at_server), [frames(8, 3)])
    server = link(offers={"coded": FACTS})  # knows nothing of models
    server.client.send_codes(frames(8, 3))
    server.run()
    equal(received(server.at_server), [frames(8, 3)])


def test_coded_codes_that_were_not_agreed_are_refused_and_the_session_goes_on():
    made = link(entropy=None)
    coded = FrameEncoder(PREDICTORS[MODEL.hash]).encode(frames(8, 2))
    answer = made.answers(pack(CodedMessage(0, 0, coded, 8, 2, 10, restart=True)))
    assert any("no entropy model was agreed" in text for text in answer)
    assert made.server.state is State.OPEN


@given(st.lists(st.integers(0, 3), min_size=4, max_size=12), st.integers(0, 2**16))
def test_nothing_is_lost_by_connections_that_break(breaks, seed):
    made = coded_link("encode")
    sent = []
    for number, carried in enumerate(breaks):
        codes = frames(8, 1 + number % 3, seed=seed + number)
        sent.append(codes)
        made.server.send_codes(codes)
        if carried < 3:
            made.cut((9, carried))
            made.reconnect()
        else:
            made.run()
    made.run()
    equal(received(made.at_client), sent)


def test_a_stream_begins_anew_at_index_0_after_a_gap_and_every_ten_seconds():
    made = coded_link("encode")
    flags = []

    def send(count, **more):
        made.server.send_codes(frames(8, count), **more)
        flags.append(
            [bool(read_header(m).flags & RESTART) for m in made.server.messages_to_send() if isinstance(m, bytes)]
        )

    send(2)
    send(2)
    send(2, index=9)
    send(2, last=True)
    send(1)
    assert flags == [[True], [False], [True], [False], [True]]
    flags.clear()
    for _ in range(24):
        send(50)
    assert [flag for (flag,) in flags] == [False] * 15 + [True] + [False] * 8  # 75 frames a second


def test_a_damaged_packet_of_a_client_is_refused_and_the_next_one_decodes_once_the_client_knows():
    made = coded_link()
    made.client.send_codes(frames(8, 2))
    made.run()
    made.client.send_codes(frames(8, 2, seed=1))
    (message,) = made.client.messages_to_send()
    damaged = bytearray(message)
    damaged[-3] ^= 4
    events = made.to_server(bytes(damaged))
    assert [(event.index, event.count) for event in events if isinstance(event, Missing)] == [(2, 2)]
    made.run()
    (error,) = [event for event in made.at_client if isinstance(event, ErrorMessage)]
    assert (error.code, error.scope) == ("bad_coding", "message")
    assert "damaged" in error.message
    made.client.send_codes(frames(8, 2, seed=2))
    made.run()
    equal(received(made.at_server), [frames(8, 2), frames(8, 2, seed=2)])


def test_a_damaged_packet_of_a_server_is_sent_again_after_a_resume():
    made = coded_link("encode")
    for seed in range(3):
        made.server.send_codes(frames(8, 2, seed=seed))
    first, second, third = made.server.messages_to_send()
    made.at_client += made.client.receive(first)
    damaged = bytearray(second)
    damaged[-3] ^= 4
    events = made.client.receive(bytes(damaged))
    assert [event.code for event in events if isinstance(event, Lost)] == ["bad_coding"]
    assert made.client.close.code == FAULTS["bad_coding"].close
    assert made.client.receive(third) == []
    made.cut()
    made.reconnect()
    equal(received(made.at_client), [frames(8, 2, seed=seed) for seed in range(3)])


def test_without_a_resume_damage_ends_the_session_with_the_reason():
    made = coded_link("encode", resume=False)
    made.server.send_codes(frames(8, 2))
    (message,) = made.server.messages_to_send()
    events = made.client.receive(message[:-1])
    assert [event.code for event in events if isinstance(event, Ended)] == ["bad_coding"]


def test_a_scale_that_is_refused_does_not_harm_what_follows():
    facts = dataclasses.replace(SCALED, entropy=MODEL.hash, codebook_size=1024, num_codebooks=8,
                                bandwidths=(3.0,), bandwidth_codebooks=(8,), default_bandwidth=3.0)  # fmt: skip
    made = link(offers={"coded": facts})
    for scale in (1.0, -1.0, 1.0):
        made.client.send_codes(frames(8, 2), scale=np.full(2, scale, np.float32))
    made.run()
    equal(received(made.at_server), [frames(8, 2)] * 2)


def test_what_a_packet_may_cost_is_bounded():
    made = coded_link()
    header = pack(CodedMessage(0, 0, Coded(b"", 0), 8, MAX_FRAMES + 1, 10, restart=True))
    assert any(f"it has 1 to {MAX_FRAMES}" in text for text in made.answers(header))
    made.client.send_codes(frames(8, MAX_FRAMES + 1))  # goes as it is
    (message,) = made.client.messages_to_send()
    assert not read_header(message).flags & FLAG


def test_a_room_keeps_its_streams_apart_and_their_numbers_may_be_given_anew():
    from streamcodec.protocol import Member, RoomFacts, RoomRequest

    room = RoomRequest(name="r", role="listener", receive="codes")
    first = hello("room", codec="coded", entropy=MODEL.hash, room=room, pcm=None)
    members = (Member(id=2, member="", role="speaker", stream=1), Member(id=3, member="", role="speaker", stream=2))
    made = Link(first=first, offers=CODED, room=RoomFacts(name="r", id=1, members=members))
    for number in range(3):
        for stream in (1, 2):
            made.server.send_codes(frames(8, 2, seed=10 * stream + number), stream=stream)
    made.server.left(2, "goodbye", 1)
    made.server.joined(Member(id=4, member="", role="speaker", stream=1))
    made.server.send_codes(frames(8, 2, seed=40), stream=1)
    made.run()
    found = [(e.stream, e.codes) for e in made.at_client if isinstance(e, CodesReceived)]
    wanted = [(s, frames(8, 2, seed=10 * s + n)) for n in range(3) for s in (1, 2)] + [(1, frames(8, 2, seed=40))]
    assert [stream for stream, _ in found] == [stream for stream, _ in wanted]
    equal([codes for _, codes in found], [codes for _, codes in wanted])


def test_a_welcome_with_another_model_than_asked_for_is_no_answer():
    made = Link(first=hello("decode", codec="coded", entropy=MODEL.hash), offers=CODED, accept=False)
    made.server.accept("s1", "t" * 22, made.client.welcome or __import__("fake_link").DELAYS, made.now, 1.7e9)
    (welcome,) = made.server.messages_to_send()
    other = ClientSession()
    other.hello(hello("decode", codec="coded", entropy="ab" * 32))
    events = other.receive(welcome)
    assert [event.code for event in events if isinstance(event, Ended)] == ["bad_message"]
