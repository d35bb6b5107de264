"""Packets that carry earlier frames: whatever is lost, what came is in its place, and what could come again does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import InputError
from streamcodec.packet import CodesMessage, EarlierFrames, PacketError, drop_codebooks, pack, read_header, unpack
from streamcodec.redundancy import LEVELS_FROM, Earlier, LossMeter, MeasuredRedundancy, frames_from


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
    assert earlier.last() is earlier.last(5) is None
    earlier.frames, earlier.codebooks = 2, 1
    assert earlier.last().codes.shape == (1, 2)
    earlier.push(frames(1, 1))
    assert earlier.last().codes.shape == (1, 2)
    earlier.clear()
    assert earlier.last() is None
    for wrong in ((-1, 1), (2000, 1), (1, 0), (1, 256)):
        with pytest.raises(InputError):
            Earlier(*wrong)


def levels(losses, seconds, rate=50, seed=0):
    """The levels, second by second, of a sender over a link that loses these shares of packets of two frames, each for
    so many seconds; and the share of the lost frames that came again."""
    rng, meter, measured = np.random.default_rng(seed), LossMeter(rate), MeasuredRedundancy(4, 3, rate)
    earlier, found, expected, index, lost, again = Earlier(0, 3), [], 0, 0, 0, 0
    for loss in losses:
        for _ in range(seconds * rate // 2):
            codes = frames(6, 2, index)
            data = pack(CodesMessage(index, index, codes, 10, earlier=earlier.last()))
            earlier.push(codes)
            index += 2
            if rng.random() < loss:
                continue
            for part in frames_from(unpack(data), expected):
                meter.count(part.count, part.codes is None or part.again)
                lost += part.count if part.codes is None or part.again else 0
                again += part.count if part.again else 0
                expected = part.index + part.count
            report = meter.report()
            if report is not None:
                measured.take(*report)
                earlier.frames, earlier.codebooks = measured.frames, measured.codebooks
                found.append(measured.level)
    return found, again / max(1, lost)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_carried_follows_the_loss_that_is_measured(seed):
    found, again = levels([0, 0.2, 0], 24, seed=seed)
    clean, lossy, after = found[:23], found[32:44], found[-4:]
    assert set(clean) == {0}
    assert set(lossy) == {3}
    assert set(after) == {0}
    assert np.abs(np.diff(found)).max() == 1
    assert again > 0.6
    assert levels([0], 60)[1] == 0


@pytest.mark.parametrize("loss", LEVELS_FROM)
def test_a_loss_at_the_border_of_two_levels_does_not_make_it_swing(loss):
    """Measured over 3 s it is above the border and below it, again and again."""
    measured = MeasuredRedundancy(4, 4, 50.0)
    found = []
    for turn in range(400):
        measured.take(150, round(150 * loss * (1.3 if turn % 2 else 0.7)))
        found.append(measured.level)
    assert np.count_nonzero(np.diff(found[20:])) == 0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), max_size=30), st.integers(1, 64), st.integers(1, 99))
def test_no_report_makes_it_carry_more_than_was_given(reports, most, codebooks):
    measured = MeasuredRedundancy(most, codebooks, 12.5)
    for count, share in reports:
        before = measured.level
        measured.take(count, int(share * count))
        assert abs(measured.level - before) <= 1
        assert 0 <= measured.loss <= 1
        assert (measured.frames == 0) == (measured.level == 0)
        assert measured.frames <= most
        assert 1 <= measured.codebooks <= codebooks
        Earlier(measured.frames, measured.codebooks)
    if measured.level == 3:
        assert (measured.frames, measured.codebooks) == (most, codebooks)


@pytest.mark.parametrize("report", [(3, 4), (-1, 0), (5, -1)])
def test_a_report_that_cannot_be_is_refused(report):
    with pytest.raises(InputError, match="frames are lost"):
        MeasuredRedundancy(4, 4, 50.0).take(*report)
    with pytest.raises(InputError, match="are allowed"):
        MeasuredRedundancy(0, 4, 50.0)


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
