"""Frames read and written by hand are those of the WebSocket library."""

import pytest
from websockets.frames import Frame, Opcode

from streamcodec.server.frames import BINARY, TEXT, alone, extent, head, unmasked

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY, Opcode.CONT])
def test_a_frame_of_the_librarys_client_is_found_whole_and_unmasked(opcode, size):
    payload = bytes(range(256)) * (size // 256 + 1)
    data = b"before" + Frame(opcode, payload[:size]).serialize(mask=True) + b"after"
    start, end = extent(data, 6)
    assert data[end:] == b"after"
    assert unmasked(data, start, end) == payload[:size]


@pytest.mark.parametrize("size", SIZES)
def test_of_a_frame_that_is_not_all_here_the_end_lies_beyond_what_is(size):
    data = Frame(Opcode.BINARY, bytes(size)).serialize(mask=True)
    for here in {*range(1, min(len(data), 20)), len(data) // 2, len(data) - 1} - {0, len(data)}:
        found = extent(data[:here], 0)
        assert found is not None
        assert found[1] > here
        assert found[1] - found[0] <= size  # so that no frame is taken for one that is too long


@pytest.mark.parametrize(
    "first", [data for data in range(256) if data & 0x70 or data & 15 not in (0, 1, 2, 8, 9, 10)][::7]
)
def test_what_no_client_may_send_is_told_by_the_first_byte(first):
    assert extent(bytes((first,)), 0) is None
    assert extent(bytes((first, 128)) + bytes(4), 0) is None


def test_a_frame_without_a_mask_is_told_by_the_second_byte():
    assert extent(Frame(Opcode.BINARY, b"abc").serialize(mask=False), 0) is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "opcode"), [(TEXT, Opcode.TEXT), (BINARY, Opcode.BINARY)])
def test_frames_of_ours_are_those_of_the_librarys_server(kind, opcode, size):
    assert head(kind, size) + bytes(size) == Frame(opcode, bytes(size)).serialize(mask=False)


@pytest.mark.parametrize("size", [*SIZES, 1920])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY, Opcode.CONT])
def test_one_binary_frame_of_usual_size_is_read_at_once_and_nothing_else(size, opcode):
    payload = bytes(range(256)) * (size // 256 + 1)
    data = Frame(opcode, payload[:size]).serialize(mask=True)
    usual = opcode is Opcode.BINARY and 126 <= size <= 65_535
    assert alone(data, 65_535) == (payload[:size] if usual else None)
    assert alone(data, size - 1) is None
    for other in (data[:-1], data + b"x", data[:4], Frame(opcode, payload[:size]).serialize(mask=False)):
        assert alone(other, 65_535) is None
    assert alone(Frame(opcode, payload[:size], fin=False).serialize(mask=True), 65_535) is None
