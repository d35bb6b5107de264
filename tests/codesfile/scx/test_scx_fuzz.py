"""A .scx file that was cut anywhere, or in which any bit is wrong: what is whole is still read, and nothing breaks."""

import random
import tracemalloc

import pytest
from scx_files import HOP, block, frames_of, write

from streamcodec.codesfile.scx import ScxReader
from streamcodec.codesfile.scx.blocks import CODES, Block, pack_block, read_blocks
from streamcodec.errors import AudioError


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Two sections, with a gap, two bandwidths and an index."""
    path = write(tmp_path_factory.mktemp("scx") / "a.scx", [block(31, seed=1), 4, block(20, 2, seed=2)])
    return write(path, [block(9, seed=3, short=5)], existing="append")


def blocks_of(path):
    with path.open("rb") as file:
        return [one for one in read_blocks(file, 0) if isinstance(one, Block)]


def expected(good, touched):
    """The frames of the blocks of codes that are whole and whose header is, where bytes `touched` are no good."""
    whole = frames_of(good)
    blocks = [one for one in blocks_of(good) if not any(one.offset <= byte < one.end for byte in touched)]
    headers = {one.offset for one in blocks if one.kind == 1}
    from streamcodec.packet import unpack

    kept = set()
    for one in blocks:
        if one.kind == CODES and one.offset - one.back in headers:
            count = unpack(one.body).codes.shape[1]
            kept |= {one.place + HOP * t for t in range(count)}
    return {at: codes for at, codes in whole.items() if at in kept}


def test_cut_anywhere_the_blocks_before_are_read(good, tmp_path):
    data, path = good.read_bytes(), tmp_path / "cut.scx"
    header = blocks_of(good)[0].end
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        if size < header:
            with pytest.raises(AudioError, match=r"not a \.scx file"):
                ScxReader(path)
        else:
            assert frames_of(path) == expected(good, range(size, len(data))), size


def test_with_any_bit_wrong_all_other_blocks_are_read(good, tmp_path):
    data, path, generator = good.read_bytes(), tmp_path / "bad.scx", random.Random(5)
    for bit in generator.sample(range(8 * len(data)), 400):
        wrong = bytearray(data)
        wrong[bit // 8] ^= 1 << bit % 8
        path.write_bytes(wrong)
        assert frames_of(path) == expected(good, [bit // 8]), bit


def test_without_any_header_there_is_nothing_to_read(tmp_path):
    path = write(tmp_path / "a.scx", [block(9)])
    data = path.read_bytes()
    for byte in range(0, blocks_of(path)[0].end, 5):
        wrong = bytearray(data)
        wrong[byte] ^= 4
        path.write_bytes(wrong)
        with pytest.raises(AudioError, match="header"):
            ScxReader(path)


def test_a_hole_is_counted_and_its_time_is_kept(good, tmp_path):
    data, path = bytearray(good.read_bytes()), tmp_path / "bad.scx"
    hit = [one for one in blocks_of(good) if one.kind == CODES][1]
    data[hit.offset : hit.end] = bytes(hit.end - hit.offset)
    path.write_bytes(data)
    with ScxReader(path) as reader:
        pieces = list(reader.pieces())
        assert reader.damaged == hit.end - hit.offset
    assert [piece.missing for piece in pieces[:3]] == [0, 15, 4]
    assert pieces[1].frame == 30


def test_bytes_that_belong_to_nobody_are_stepped_over(good, tmp_path):
    path, generator = tmp_path / "more.scx", random.Random(6)
    blocks, data = blocks_of(good), good.read_bytes()
    for _ in range(30):
        at = generator.choice([one.end for one in blocks[:-1]])
        junk = b"".join(generator.choice([b"\xfescx", b"\xfe", bytes(40), generator.randbytes(50)]) for _ in range(9))
        path.write_bytes(data[:at] + junk + data[at:])
        with ScxReader(path) as reader:
            pieces = list(reader.pieces())
            assert reader.damaged >= len(junk)
        assert pieces[0].frame == 0


def test_nonsense_in_whole_blocks_gives_an_error_and_never_another(good, tmp_path):
    """Whoever writes right checksums may write anything."""
    path, generator = tmp_path / "evil.scx", random.Random(7)
    blocks, data = blocks_of(good), good.read_bytes()
    outcomes = set()
    for _ in range(400):
        one = generator.choice(blocks)
        body = bytearray(one.body)
        for _ in range(generator.randint(0, 3)):
            body[generator.randrange(len(body))] = generator.randrange(256)
        body = body[: generator.choice([len(body), len(body), generator.randrange(len(body) + 1)])]
        kind, coding = generator.choice([one.kind, 1, 2, 3, 9]), generator.choice([0, 0, 0, 1])
        numbers = [generator.choice([old, 0, 2**64 - 1, generator.randrange(2**64)]) for old in (one.place, one.back)]
        new = pack_block(kind, bytes(body), *numbers, coding)
        path.write_bytes(data[: one.offset] + new + data[one.end :])
        try:
            with ScxReader(path) as reader:
                for piece in reader.pieces(generator.choice([0, 0, 1, 2**40])):
                    assert piece.data.max(initial=0) < 1024
                reader.end()
            outcomes.add("read")
        except AudioError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_memory_does_not_depend_on_what_a_file_claims(tmp_path):
    path = tmp_path / "a.scx"
    write(path, [block(15, seed=1)])
    head = pack_block(CODES, bytes(2**20), 0, 0)[:32]
    with path.open("ab") as file:
        file.write(head * 20_000)  # each is whole, and says that a megabyte follows
    tracemalloc.start()
    try:
        frames_of(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
