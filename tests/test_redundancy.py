"""Packets that carry earlier frames: whatever is lost, what came is in its place, and what could come again does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import InputError
from streamcodec.packet import CodesMessage, EarlierFrames, PacketError, drop_codebooks, pack, read_header, unpack
from streamcodec.redundancy import Earlier, frames_from


def frames(codebooks, count, seed=0):
    return np.random.default_rng(seed).integers(0, 1024, (codebooks, count)).astype(np.uint16)


def sent(counts, most, codebooks, scaled=False):
    """Packets of so many frames, each with up to `most` frames before it; and all frames of the stream."""
    earlier, packets, index = Earlier(most, codebooks), [], 0
    whole = frames(6, sum(counts), 1)
    scales = np.linspace(0.5, 2, sum(counts)).astype(np.float32)
    for number, count in enumerate(counts):
        codes = whole[:, index : index + count]
        scale = scales[index : index + count] if scaled else None
        packets.append(pack(CodesMessage(number, index, codes, 10, scale=scale, crc=True, earlier=earlier.last())))
        earlier.push(codes, scale)
        index += count
    return packets, whole, scales


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.integers(0, 9),
    st.integers(1, 8),
    st.sets(st.integers(0, 11)),
    st.booleans(),
)
def test_what_came_is_in_its_place_and_what_could_come_again_did(counts, most, codebooks, lost, scaled):
    packets, whole, scales = sent(counts, most, codebooks, scaled)
    ends = np.cumsum(counts)
    expected, previous = 0, 0
    for number, data in enumerate(packets):
        if number in lost:
            continue
        parts = frames_from(unpack(data), expected)
        begin = ends[number] - counts[number]
        again = min(begin - previous, most)
        assert [part.count for part in parts if part.again] == ([again] if again else [])
        for part in parts:
            assert part.index == expected
            expected += part.count
            if part.codes is None:
                continue
            depth = min(6, codebooks) if part.again else 6
            assert np.array_equal(part.codes, whole[:depth, part.index : expected])
            assert (part.scale is None) == (not scaled)
            assert part.scale is None or np.array_equal(part.scale, scales[part.index : expected])
        assert expected == ends[number]
        previous = expected


def test_a_packet_that_comes_late_or_twice_gives_what_is_new():
    packets, whole, _ = sent([4, 4], 4, 2)
    first, second = map(unpack, packets)
    assert frames_from(first, 4) == []
    (part,) = frames_from(first, 1)
    assert (part.index, part.count, part.again) == (1, 3, False)
    assert np.array_equal(part.codes, whole[:, 1:4])
    assert [part.index for part in frames_from(second, 4)] == [4]
    assert frames_from(second, 9) == []


def test_how_much_is_carried_follows_what_is_asked():
    earlier = Earlier(3, 2)
    assert earlier.last() is None
    for seed in range(4):
        earlier.push(frames(6, 2, seed))
    assert earlier.last().codes.shape == (2, 3)
    assert np.array_equal(earlier.last().codes[:, 1:], frames(6, 2, 3)[:2])
    assert earlier.last(1).codes.shape == (2, 1)
    earlier.frames = 0  # nothing is lost at present
    assert earlier.last() is None
    earlier.frames, earlier.codebooks = 2, 1
    assert earlier.last().codes.shape == (1, 2)
    earlier.push(frames(1, 1))
    assert earlier.last().codes.shape == (1, 2)
    earlier.clear()
    assert earlier.last() is None
    for wrong in ((-1, 1), (2000, 1), (1, 0), (1, 256)):
        with pytest.raises(InputError):
            Earlier(*wrong)


def test_codebooks_are_dropped_with_the_earlier_frames():
    data = sent([3, 3], 3, 2)[0][1]
    cut = unpack(drop_codebooks(data, 2))
    assert cut.earlier is None
    assert np.array_equal(cut.codes, unpack(data).codes[:2])


@pytest.mark.parametrize(
    "earlier",
    [
        EarlierFrames(frames(2, 5)),  # before frame 4
        EarlierFrames(frames(2, 0)),
        EarlierFrames(frames(2, 2), np.ones(2, np.float32)),
        EarlierFrames(frames(2, 2) + np.uint16(1024)),
    ],
)
def test_earlier_frames_that_cannot_be_are_not_written(earlier):
    with pytest.raises(PacketError):
        pack(CodesMessage(0, 4, frames(3, 2), 10, earlier=earlier))


def test_a_packet_cut_anywhere_or_with_any_byte_wrong_is_refused_or_another_packet():
    data = pack(CodesMessage(0, 7, frames(3, 2), 10, earlier=EarlierFrames(frames(2, 4))))
    for size in range(len(data)):
        with pytest.raises(PacketError):
            unpack(data[:size])
    with pytest.raises(PacketError):
        unpack(data + b"\0")
    generator = np.random.default_rng(0)
    for _ in range(500):
        wrong = bytearray(data)
        wrong[generator.integers(len(data))] = generator.integers(256)
        try:
            packet = unpack(bytes(wrong))
        except PacketError:
            continue
        assert frames_from(packet, 0)[-1].count == packet.codes.shape[1]
        assert read_header(bytes(wrong)).index == packet.index
