"""What is written to a .scx file is read from it: from any place, while it grows, and after it was appended to."""

import dataclasses
import io
import json
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from entropy_models import random_model
from hypothesis import given
from hypothesis import strategies as st
from scx_files import CODES, HEADER, HOP, block, frames_of, write

from streamcodec.codesfile import CodesBlock, load_codes
from streamcodec.codesfile.scx import Follow, ScxHeader, ScxReader, ScxWriter, cut
from streamcodec.codesfile.scx.blocks import HEAD_BYTES, read_blocks
from streamcodec.errors import AudioError, CodesError, DtypeError, InputError, ShapeError
from streamcodec.files import GrowingFile, NewFile
from streamcodec.packet import unpack


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4), st.integers(0, 3)), max_size=6),
    st.integers(0, 2 * HOP),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, parts, short, scaled):
    path = tmp_path_factory.mktemp("scx") / "a.scx"
    blocks: list = []
    expected, place = {}, 0
    for seed, (frames, codebooks, gap) in enumerate(parts):
        one = block(frames, codebooks, seed, scaled)
        blocks += [gap, one]
        place += gap * HOP
        for t in range(frames):
            expected[place] = [int(code) for code in one.data[0, :, t]]
            place += HOP
    last = block(2, 4, 99, scaled, short)
    write(path, [*blocks, last])
    expected |= {place + HOP * t: [int(code) for code in last.data[0, :, t]] for t in range(2)}
    assert frames_of(path) == expected
    with ScxReader(path) as reader:
        pieces = list(reader.pieces())
        assert reader.header == HEADER
        assert reader.closed
        assert reader.damaged == 0
        assert reader.end()[0] == place + 2 * HOP - short
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert sum(piece.samples + HOP * piece.missing for piece in pieces) == place + 2 * HOP - short
    assert all((piece.scale is not None) == scaled for piece in pieces)


def test_from_any_place_the_same_frames_are_read(tmp_path):
    path = write(tmp_path / "a.scx", [block(1500, seed=1), 50, block(1500, 2, seed=2)])
    whole = frames_of(path)
    size = path.stat().st_size
    with ScxReader(path) as reader:
        assert reader.entries
        for place in (1, HOP, 1000 * HOP - 1, 1520 * HOP, 3049 * HOP + 5):
            start = reader._find(place)
            first = next(iter(reader.pieces(place)))
            assert first.at + HOP * first.frame <= place
            later = frames_of(path, place)
            assert later == {at: codes for at, codes in whole.items() if at >= min(later)}
            assert place - min(later) < 400 * HOP  # near, so that little is read in vain
            assert start < size


def test_a_file_without_an_index_is_sought_by_halves(tmp_path):
    path = write(tmp_path / "a.scx", [block(20_000, seed=1)])
    with ScxReader(path) as reader:
        by_index = next(iter(reader.pieces(15_000 * HOP))).frame
        reader.entries = []
        reads = 0

        class Counted(io.BufferedReader):
            def read(self, *args):
                nonlocal reads
                reads += 1
                return super().read(*args)

        reader._file = Counted(path.open("rb", buffering=0))
        piece = next(iter(reader.pieces(15_000 * HOP)))
        reader._file.close()
    assert abs(piece.frame - by_index) < 2200  # 16 KiB of them
    assert reads < 400


def test_a_file_can_be_read_while_it_grows(tmp_path):
    path, read = tmp_path / "a.scx", []
    with ScxWriter(path, HEADER, block_seconds=0.1) as writer:
        writer.write(block(20, seed=1))
        with ScxReader(path) as reader:
            assert not reader.closed
            assert sum(piece.data.shape[1] for piece in reader.pieces()) == 16  # two blocks of 8; four frames wait

            def follow():
                read.extend(reader.pieces(follow=Follow(poll=0.01, idle=5)))

            thread = threading.Thread(target=follow)
            thread.start()
            for seed in (2, 3):
                time.sleep(0.03)
                writer.write(block(20, seed=seed))
            writer.close()
            thread.join(5)
            assert not thread.is_alive()
            codes = np.concatenate([piece.data for piece in read], 1)
            assert np.array_equal(codes, np.concatenate([block(20, seed=seed).data[0] for seed in (1, 2, 3)], 1))
            assert reader.end()[0] == 60 * HOP


def test_who_follows_a_writer_that_stopped_ends_after_a_while(tmp_path):
    path = write(tmp_path / "a.scx", [block(20)])
    path.write_bytes(path.read_bytes()[:-100])
    with ScxReader(path) as reader:
        assert list(reader.pieces(follow=Follow(poll=0.01, idle=0.03)))


def test_a_crash_loses_at_most_the_last_block(tmp_path):
    path = tmp_path / "a.scx"
    writer = ScxWriter(path, HEADER, block_seconds=0.2)  # 15 frames
    writer.write(block(44, seed=1))
    whole = frames_of(path)
    assert len(whole) == 30
    assert len(frames_of(path)) == 30  # what waits in the writer is lost with it
    writer.abort()
    assert len(frames_of(path)) == 44


def test_a_file_is_appended_to_in_a_section_of_its_own(tmp_path):
    path = write(tmp_path / "a.scx", [block(20, seed=1, short=100)])
    write(path, [block(5, seed=2)], dataclasses.replace(HEADER, metadata={"title": "more"}), existing="append")
    with ScxReader(path) as reader:
        pieces = list(reader.pieces())
        assert reader.end()[0] == 25 * HOP - 100
        assert reader.closed
        assert [piece.header.metadata["title"] for piece in pieces] == ["a talk", "a talk", "more"]
        assert [piece.at for piece in pieces] == [0, 0, 20 * HOP - 100]
        assert next(iter(reader.pieces(22 * HOP))).frame <= 2


def test_what_was_torn_is_cut_off_before_more_is_appended(tmp_path):
    path = write(tmp_path / "a.scx", [block(40, seed=1)])
    data = path.read_bytes()
    for size in (len(data) - 100, 900, len(data) - 1):
        path.write_bytes(data[:size])
        before = frames_of(path)
        write(path, [block(5, seed=2)], existing="append")
        after = frames_of(path)
        assert len(after) == len(before) + 5
        assert before.items() <= after.items()
        with ScxReader(path) as reader:
            assert list(reader.pieces())[-1].last
            assert reader.damaged == 0


def test_only_one_program_writes_a_file_at_a_time(tmp_path):
    path = tmp_path / "a.scx"
    with ScxWriter(path, HEADER) as writer:
        writer.write(block(3))
        with pytest.raises(AudioError, match="another program"):
            ScxWriter(path, HEADER, existing="append")
    assert len(frames_of(path)) == 3


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path):
    path = write(tmp_path / "a.scx", [block(3)])
    before = path.read_bytes()
    with pytest.raises(AudioError, match="exists"):
        ScxWriter(path, HEADER)
    assert path.read_bytes() == before
    write(path, [block(4)], existing="replace")
    assert len(frames_of(path)) == 4


def test_codes_of_another_codec_are_not_appended(tmp_path):
    path = write(tmp_path / "a.scx", [block(3)])
    before = path.read_bytes()
    other = dataclasses.replace(HEADER, codes=dataclasses.replace(CODES, fingerprint="cd" * 32))
    with pytest.raises(AudioError, match="other weights"):
        ScxWriter(path, other, existing="append")
    assert path.read_bytes() == before
    with ScxWriter(tmp_path / "b.scx", HEADER) as writer, pytest.raises(AudioError, match="one codec"):
        writer.section(other)
    path.write_bytes(before + write(tmp_path / "c.scx", [block(3)], other).read_bytes())
    with ScxReader(path) as reader, pytest.raises(AudioError, match="one codec"):
        list(reader.pieces())


def test_a_pipe_can_be_written_to(tmp_path):
    sink = io.BytesIO()
    sink.seekable = lambda: False  # type: ignore[method-assign]
    with ScxWriter(sink, HEADER, block_seconds=0.2) as writer:
        writer.write(block(40))
    (tmp_path / "a.scx").write_bytes(sink.getvalue())
    assert len(frames_of(tmp_path / "a.scx")) == 40


def test_a_new_file_appears_when_it_is_complete(tmp_path):
    with NewFile(tmp_path / "a.scx") as new:
        with ScxWriter(new, HEADER, block_seconds=0.2) as writer:
            writer.write(block(40))
            assert not (tmp_path / "a.scx").exists()
        assert len(frames_of(tmp_path / "a.scx")) == 40


def test_wrong_codes_are_refused_and_the_file_goes_on(tmp_path):
    path = tmp_path / "a.scx"
    with ScxWriter(path, HEADER) as writer:
        writer.write(block(5, seed=1))
        for wrong, error in (
            (CodesBlock(np.zeros((1, 3, 2)), None, 640), DtypeError),
            (CodesBlock(np.zeros((2, 3, 2), int), None, 640), ShapeError),
            (CodesBlock(np.full((1, 3, 2), 1024), None, 640), CodesError),
            (CodesBlock(np.full((1, 3, 2), -1), None, 640), CodesError),
            (CodesBlock(np.zeros((1, 3, 2), int), None, 641), CodesError),
            (CodesBlock(np.zeros((1, 3, 2), int), np.ones((1, 2), np.float32), 640), ShapeError),
        ):
            with pytest.raises(error):
                writer.write(wrong)
        with pytest.raises(InputError, match="missing"):
            writer.missing(10**7)
        writer.write(block(5, seed=2, short=7))
        with pytest.raises(AudioError, match="after the last"):
            writer.write(block(1))
    assert len(frames_of(path)) == 10


@pytest.mark.parametrize("seconds", [0.001, 100, float("nan")])
def test_blocks_have_a_sensible_length(tmp_path, seconds):
    with pytest.raises(InputError, match="blocks of"):
        ScxWriter(tmp_path / "a.scx", HEADER, block_seconds=seconds)
    assert not (tmp_path / "a.scx").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "x"}, "not that of a .scx file"),
        ({"hop_length": 0}, "not positive"),
        ({"sample_rate": "x"}, "must be a number"),
        ({"pre_skip": -1}, "pre_skip"),
        ({"pre_skip": 2**70}, "pre_skip"),
        ({"segment_frames": 5}, "both or none"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"created": 5}, "created"),
        ({"start": "soon"}, "start"),
    ],
)
def test_a_header_that_cannot_be_says_why(change, message):
    values = json.loads(HEADER.body()) | change
    with pytest.raises(ValueError, match=message):
        ScxHeader.parse(json.dumps(values).encode())


def test_a_header_comes_back():
    for header in (HEADER, dataclasses.replace(HEADER, pre_roll=None, pre_skip=7, segment_frames=3, segment_stride=9)):
        assert ScxHeader.parse(header.body()) == header


def test_the_bytes_are_those_of_the_page(tmp_path):
    """Read with struct alone, as docs/container.md has it."""
    data = write(tmp_path / "a.scx", [block(15, seed=1), block(3, seed=2, short=1)]).read_bytes()
    found, offset = [], 0
    while offset < len(data):
        sync, kind, coding, reserved, size, place, back, crc = struct.unpack_from("<4sBBHIQQI", data, offset)
        assert (sync, coding, reserved) == (b"\xfescx", 0, 0)
        assert crc == zlib.crc32(data[offset : offset + 28])
        body = data[offset + 32 : offset + 32 + size]
        assert struct.unpack_from("<I", data, offset + 32 + size)[0] == zlib.crc32(body)
        found.append((kind, place, offset - back, body))
        offset += 36 + size
    assert [one[:3] for one in found] == [(1, 0, 0), (2, 0, 0), (2, 15 * HOP, 0), (3, 18 * HOP - 1, 0)]
    first, last = (unpack(one[3]) for one in found[1:3])
    assert (first.index, last.index, last.last, last.length) == (0, 15, True, 18 * HOP - 1)
    assert np.array_equal(first.codes, block(15, seed=1).data[0])
    index = found[3][3]
    assert struct.unpack("<I", index[-4:])[0] == len(index) + 36
    second = 36 + len(found[0][3])
    assert struct.unpack("<QQQQ", index[:-4]) == (0, second, 15 * HOP, second + 36 + len(found[1][3]))


def test_the_index_stays_small_however_long_the_file_is(tmp_path):
    with ScxWriter(tmp_path / "a.scx", HEADER, block_seconds=0.01) as writer:
        for _ in range(5000):
            writer.write(block(1, 1))
    with ScxReader(tmp_path / "a.scx") as reader:
        assert 500 < len(reader.entries) <= 1024
        assert reader.entries[0].place == 0
        assert reader.end()[0] == 5000 * HOP
    with (tmp_path / "a.scx").open("rb") as file:
        *_, last = read_blocks(file, 0)
    assert len(last.body) < 2**14 + 8
    assert last.end - last.offset == HEAD_BYTES + len(last.body) + 4


def test_codes_that_are_entropy_coded_come_back_with_their_model_alone(tmp_path):
    model = random_model(CODES.fingerprint, codebooks=3, size=1024)
    other = random_model(CODES.fingerprint, codebooks=3, size=1024, seed=1)
    blocks = [block(20, seed=1), 3, block(25, 2, seed=2, short=9)]
    plain = write(tmp_path / "plain.scx", blocks)
    coded = write(tmp_path / "coded.scx", blocks, entropy=model)
    with ScxReader(plain) as reader, ScxReader(coded, model) as found:
        assert found.header.entropy_model == model.hash
        assert found.end() != reader.end()
        assert found.end()[0] == reader.end()[0]
        for one, two in zip(reader.pieces(), found.pieces(), strict=True):
            assert np.array_equal(one.data, two.data)
            assert (one.frame, one.missing, one.length, one.at) == (two.frame, two.missing, two.length, two.at)
        part = cut(found, tmp_path / "part.scx", 0.1, 0.3)
    with ScxReader(part.path, model) as found, ScxReader(plain) as reader:
        assert found.header.entropy_model == model.hash
        same = cut(reader, tmp_path / "same.scx", 0.1, 0.3)
        assert found.end()[0] == same.place
    for wrong in (None, other):
        with ScxReader(coded, wrong) as reader, pytest.raises(AudioError, match="entropy model"):
            list(reader.pieces())
    with pytest.raises(AudioError, match="other weights"):
        ScxWriter(tmp_path / "b.scx", HEADER, entropy=random_model("cd" * 32, codebooks=3, size=1024))


def test_all_codes_at_once_where_they_are_one_signal(tmp_path):
    path = write(tmp_path / "a.scx", [block(20, seed=1), block(20, seed=2, short=9)])
    codes = load_codes(path)
    assert codes.length == 40 * HOP - 9
    assert np.array_equal(codes.data[0], np.concatenate([block(20, seed=1).data[0], block(20, seed=2).data[0]], 1))
    for blocks, word in (([block(3), 2, block(3)], "missing"), ([block(3, 1), block(3, 2)], "stretches")):
        with pytest.raises(AudioError, match=word):
            load_codes(write(path, blocks, existing="replace"))
    write(path, [block(3)], existing="replace")
    write(path, [block(3)], existing="append")
    with pytest.raises(AudioError, match="several sections"):
        load_codes(path)


@pytest.mark.parametrize("content", [b"", b"\xfescx", b"RIFF" * 50_000, b"\xfescx" * 50_000])
def test_what_is_no_scx_file_is_refused(tmp_path, content):
    (tmp_path / "a.scx").write_bytes(content)
    with pytest.raises(AudioError, match=r"not a \.scx file"):
        ScxReader(tmp_path / "a.scx")


def test_an_empty_recording_leaves_no_file_behind(tmp_path):
    with GrowingFile(tmp_path / "a.scx"):
        assert (tmp_path / "a.scx").exists()
    assert not (tmp_path / "a.scx").exists()
