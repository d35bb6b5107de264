"""Packets: what is written is read, in every width and shape, and nothing else is."""

import zlib

import numpy as np
import pytest
from fake_link import frames, same, wave
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.bits import pack_bits, unpack_bits
from streamcodec.errors import InputError
from streamcodec.packet import (
    HEADER_BYTES,
    MAX_INDEX,
    CodesMessage,
    Likeness,
    PacketError,
    PcmMessage,
    drop_codebooks,
    pack,
    read_header,
    unpack,
)

sequences, indices = st.integers(0, 2**32 - 1), st.integers(0, MAX_INDEX - 65535)
streams, seeds = st.integers(0, 65535), st.integers(0, 2**16)


@st.composite
def codes_packets(draw):
    bits, last = draw(st.integers(1, 16)), draw(st.booleans())
    count = draw(st.integers(0 if last else 1, 80))
    rng = np.random.default_rng(draw(seeds))
    codes = rng.integers(0, 2**bits, (draw(st.integers(1, 32)), count)).astype(np.uint16)
    scale = rng.uniform(0, 1, count).astype(np.float32) if draw(st.booleans()) else None
    length = draw(st.integers(0, MAX_INDEX)) if last and draw(st.booleans()) else None
    flags = {name: draw(st.booleans()) for name in ("discontinuity", "reduced", "crc")}
    return CodesMessage(
        draw(sequences), draw(indices), codes, bits, draw(streams), scale=scale, length=length, last=last, **flags
    )


@st.composite
def pcm_packets(draw):
    last = draw(st.booleans())
    shape = (draw(st.integers(0 if last else 1, 300)), draw(st.integers(1, 3)))
    rng = np.random.default_rng(draw(seeds))
    samples = rng.integers(-32768, 32768, shape).astype(np.int16)
    if draw(st.booleans()):
        samples = rng.uniform(-1, 1, shape).astype(np.float32)
    return PcmMessage(
        draw(sequences), draw(indices), samples, draw(streams), last, draw(st.booleans()), draw(st.booleans())
    )


@given(st.one_of(codes_packets(), pcm_packets()), sequences, st.integers(0, MAX_INDEX), st.data())
def test_a_packet_that_differs_in_its_numbers_has_the_header_that_is_read_and_any_other_none(
    packet, number, index, data
):
    packed = pack(packet)
    likeness = Likeness(packed, read_header(packed))
    other = bytearray(packed)
    other[4:16] = number.to_bytes(4, "little") + index.to_bytes(8, "little")
    if index > MAX_INDEX - read_header(packed).count:
        assert likeness.read_header(bytes(other)) is None
    else:
        assert likeness.read_header(bytes(other)) == read_header(other)
    place = data.draw(st.sampled_from([*range(4), *range(16, HEADER_BYTES)]))
    other[place] ^= data.draw(st.integers(1, 255))
    assert likeness.read_header(bytes(other)) is None
    for size in (0, HEADER_BYTES - 1, len(packed) - 1):
        assert likeness.read_header(packed[:size]) is None
    assert likeness.read_header(packed + b"x") is None


@given(st.one_of(codes_packets(), pcm_packets()))
def test_a_packet_comes_back(packet):
    data = pack(packet)
    same(unpack(data), packet)
    header = read_header(data)
    assert (header.sequence, header.index, header.stream) == (packet.sequence, packet.index, packet.stream)


@given(codes_packets(), st.integers(1, 40))
def test_dropping_codebooks_is_packing_fewer(packet, kept):
    cut = drop_codebooks(pack(packet), kept)
    if kept >= len(packet.codes):
        assert cut == pack(packet)
        return
    fields = {name: getattr(packet, name) for name in CodesMessage.__dataclass_fields__}
    assert cut == pack(CodesMessage(**{**fields, "codes": packet.codes[:kept], "reduced": True}))


@given(st.one_of(codes_packets(), pcm_packets()), st.data())
def test_a_packet_of_another_size_is_refused(packet, data):
    whole = pack(packet)
    size = data.draw(st.integers(0, len(whole) + 5).filter(lambda n: n != len(whole)))
    with pytest.raises(PacketError):
        unpack((whole + bytes(5))[:size])


@given(st.one_of(codes_packets(), pcm_packets()), st.data())
def test_no_flipped_bit_passes_a_crc(packet, data):
    fields = {name: getattr(packet, name) for name in type(packet).__dataclass_fields__}
    damaged = bytearray(pack(type(packet)(**{**fields, "crc": True})))
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    if bit == 8 * 2 + 5:
        return  # the flag that says that there is a CRC: then the size is wrong, see above
    with pytest.raises(PacketError):
        unpack(bytes(damaged))


@pytest.mark.parametrize("bits", range(1, 17))
def test_codes_lie_least_significant_bit_first(bits):
    codes = frames(3, 7, seed=bits, size=2**bits)
    number = sum(int(code) << (n * bits) for n, code in enumerate(codes.ravel()))
    data = pack_bits(codes, bits)
    assert data == number.to_bytes((21 * bits + 7) // 8, "little")
    np.testing.assert_array_equal(unpack_bits(data, bits, 21), codes.ravel())


def test_the_crc_is_zlibs():
    data = pack(CodesMessage(0, 0, frames(8, 1), 10, crc=True))
    assert int.from_bytes(data[-4:], "little") == zlib.crc32(data[:-4])


def test_sizes_for_the_bundled_codec():
    assert HEADER_BYTES == 24
    assert len(pack(CodesMessage(0, 0, frames(12, 1), 10))) == 24 + 15
    assert len(pack(CodesMessage(0, 0, frames(8, 4), 10))) == 24 + 40


def test_samples_are_not_copied():
    data = pack(PcmMessage(0, 0, wave(480).T))
    assert not unpack(data).samples.flags.owndata


ONE = np.zeros((1, 1), np.uint16)
WRONG = [
    CodesMessage(-1, 0, ONE, 10),
    CodesMessage(2**32, 0, ONE, 10),
    CodesMessage(0, MAX_INDEX, ONE, 10),
    CodesMessage(0, -1, ONE, 10),
    CodesMessage(0, 0, ONE, 10, stream=65536),
    CodesMessage(0, 0, ONE + 1024, 10),
    CodesMessage(0, 0, ONE.astype(np.int64) - 1, 10),
    CodesMessage(0, 0, ONE.astype(np.float32), 10),
    CodesMessage(0, 0, ONE[0], 10),
    CodesMessage(0, 0, ONE, 0),
    CodesMessage(0, 0, ONE, 17),
    CodesMessage(0, 0, ONE[:, :0], 10),
    CodesMessage(0, 0, ONE[:0], 10, last=True),
    CodesMessage(0, 0, np.zeros((256, 1), np.uint16), 10),
    CodesMessage(0, 0, np.zeros((1, 65536), np.uint16), 10),
    CodesMessage(0, 0, ONE, 10, length=5),
    CodesMessage(0, 0, ONE, 10, length=-1, last=True),
    CodesMessage(0, 0, ONE, 10, scale=np.ones(2, np.float32)),
    PcmMessage(0, 0, wave(3)[0]),
    PcmMessage(0, 0, wave(3).astype(np.float64)),
    PcmMessage(0, 0, wave(0).T),
]


@pytest.mark.parametrize("packet", WRONG, ids=range(len(WRONG)))
def test_what_does_not_fit_is_refused(packet):
    with pytest.raises(PacketError) as caught:
        pack(packet)
    assert isinstance(caught.value, InputError)


def test_codebooks_are_dropped_of_codes_only_and_one_is_left():
    with pytest.raises(PacketError, match="kind 1"):
        drop_codebooks(pack(PcmMessage(0, 0, wave(4).T)), 1)
    with pytest.raises(PacketError, match="at least one"):
        drop_codebooks(pack(CodesMessage(0, 0, frames(2, 1), 10)), 0)
