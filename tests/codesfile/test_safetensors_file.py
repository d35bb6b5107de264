"""Codes in safetensors files."""

import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.codes import Codes
from streamcodec.codesfile import CodesBlock, CodesHeader, CodesReader, CodesWriter, safetensors_file
from streamcodec.errors import AudioError, CodesError, DtypeError, ShapeError

HEADER = CodesHeader(
    codec="tiny",
    source="somewhere/tiny",
    fingerprint="ab" * 32,
    bandwidth=1.5,
    sample_rate=24000,
    channels=1,
    hop_length=320,
    codebook_size=1024,
    start="exact",
)


def random_codes(codebooks: int, frames: int, size: int = 1024, scaled: bool = False, seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    data = torch.randint(0, size, (1, codebooks, frames), generator=generator)
    return Codes(data, torch.rand(1, frames, generator=generator) if scaled else None, frames * 320)


def split(codes: Codes, places: list[int]) -> list[Codes]:
    """Cut at frames; a cut that leaves no frames gives an empty block, as a stream does."""
    frames, parts = codes.data.shape[2], []
    for start, end in zip([0, *places], [*places, frames], strict=True):
        scale = None if codes.scale is None else codes.scale[:, start:end]
        parts.append(Codes(codes.data[:, :, start:end], scale, (end - start) * 320))
    return parts


def save(path: Path, parts: list[Codes], header: CodesHeader = HEADER) -> Path:
    with CodesWriter(path, header) as writer:
        for part in parts:
            writer.append(part)
    return path


def rewrite(path: Path, change) -> None:
    """Let `change` edit the JSON header of a safetensors file."""
    data = path.read_bytes()
    (count,) = struct.unpack("<Q", data[:8])
    layout = json.loads(data[8 : 8 + count])
    layout = change(layout) or layout
    text = json.dumps(layout).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + count :])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 8),
    st.integers(0, 200),
    st.sampled_from([2, 1024, 2**15, 2**15 + 1, 2**17]),
    st.booleans(),
    st.lists(st.integers(0, 200), max_size=6),
    st.integers(1, 70),
    st.integers(0, 319),
)
def test_what_is_written_is_read_in_any_blocks(tmp_path_factory, codebooks, frames, size, scaled, cuts, block, short):
    path = tmp_path_factory.mktemp("codes") / "codes.safetensors"
    codes = random_codes(codebooks, frames, size, scaled)
    parts = split(codes, sorted(min(cut, frames) for cut in cuts))
    short = short if frames else 0
    parts.append(Codes(codes.data[:, :, :0], None if codes.scale is None else codes.scale[:, :0], -short))
    save(path, parts, dataclasses.replace(HEADER, codebook_size=size))

    plain = safetensors.torch.load_file(path)
    assert plain.keys() == ({"codes", "scale"} if scaled else {"codes"})
    assert plain["codes"].dtype == (torch.int16 if size <= 2**15 else torch.int32)
    assert torch.equal(plain["codes"].long(), codes.data)
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["length"] == str(frames * 320 - short)

    with CodesReader(path) as reader:
        assert reader.header == dataclasses.replace(HEADER, codebook_size=size, length=frames * 320 - short)
        assert (reader.codebooks, reader.frames) == (codebooks, frames)
        blocks = list(reader.blocks(block))
    assert [b.data.shape[2] for b in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert [b.length for b in blocks[:-1]] == [block * 320] * (len(blocks) - 1)
    if frames:
        again = Codes.cat(blocks)
        assert again.data.dtype == torch.int64
        assert torch.equal(again.data, codes.data)
        assert again.length == frames * 320 - short
        assert (again.scale is None) == (not scaled)
        assert not scaled or torch.equal(again.scale, codes.scale)


def test_transposing_in_small_blocks_gives_the_same_file(tmp_path, monkeypatch):
    codes = [random_codes(3, 1000, scaled=True)]
    expected = save(tmp_path / "a", codes).read_bytes()
    monkeypatch.setattr(safetensors_file, "TRANSPOSE_FRAMES", 7)
    assert save(tmp_path / "b", codes).read_bytes() == expected


def test_lengths_follow_the_codec_where_frames_overlap(tmp_path):
    path = save(tmp_path / "codes", [Codes(random_codes(1, 10).data, None, 2500)])
    with CodesReader(path) as reader:
        lengths = [codes.length for codes in reader.blocks(4, samples=lambda frames: frames * 300)]
    assert lengths == [1200, 1200, 100]


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail() -> None:
        with CodesWriter(tmp_path / "codes", HEADER) as writer:
            writer.append(random_codes(2, 5))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AudioError, match="no codes"), CodesWriter(tmp_path / "codes", HEADER):
        pass
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_what_the_file_cannot_hold(tmp_path):
    with pytest.raises(AudioError, match="does not exist"):
        CodesWriter(tmp_path / "missing" / "codes", HEADER)
    with CodesWriter(tmp_path / "codes", HEADER) as writer:
        writer.append(random_codes(2, 5))
        for bad in (random_codes(3, 5), Codes(torch.zeros(2, 2, 5, dtype=torch.int64), None, 5)):
            with pytest.raises(ShapeError, match=r"\[1, 2, T\]"):
                writer.append(bad)
        with pytest.raises(ShapeError, match="scale"):
            writer.append(random_codes(2, 5, scaled=True))
        with pytest.raises(CodesError, match="length"):
            writer.append(Codes(random_codes(2, 5).data))
        for value in (-1, 1024):
            with pytest.raises(CodesError, match=r"0\.\.1023"):
                writer.append(Codes(torch.full((1, 2, 5), value), None, 5))
        writer.append(random_codes(2, 7))
    with CodesReader(tmp_path / "codes") as reader:
        assert (reader.frames, reader.header.length) == (12, 12 * 320)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_a_file_that_is_cut_short_is_refused(tmp_path_factory, place):
    path = save(tmp_path_factory.mktemp("codes") / "codes", [random_codes(2, 50, scaled=True)])
    data = path.read_bytes()
    path.write_bytes(data[: place % len(data)])
    with pytest.raises(AudioError, match=r"cut short|not a codes file"):
        CodesReader(path)


def set_entry(name: str, key: str, value: object):
    def change(layout):
        layout[name][key] = value

    return change


def delete(name: str, key: str | None = None):
    def change(layout):
        if key is None:
            del layout[name]
        else:
            del layout[name][key]

    return change


META = "__metadata__"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (delete(META), "not a codes file"),
        (set_entry(META, "format", "pt"), "not a codes file"),
        (lambda layout: [layout], "no JSON object"),
        (set_entry(META, "version", "3"), "version '3'; this streamcodec reads '1' and '2'"),
        (delete(META, "hop_length"), "no 'hop_length'"),
        (set_entry(META, "hop_length", "many"), "hop_length = 'many'"),
        (set_entry(META, "hop_length", "0"), "not positive"),
        (set_entry(META, "length", "-1"), "not positive"),
        (set_entry(META, "bandwidth", "nan"), "not positive"),
        (set_entry(META, "start", "late"), "start = 'late'; it must be one of exact, primed"),
        (delete("codes"), "no tensor 'codes'"),
        (set_entry("codes", "dtype", "F32"), "'codes' as F32; it must be I16 or I32"),
        (set_entry("scale", "dtype", "I32"), "'scale' as I32; it must be F32"),
        (set_entry("codes", "dtype", "Q9"), "damaged entry for the tensor 'codes'"),
        (set_entry("codes", "shape", [1, 2, 49]), "damaged entry for the tensor 'codes'"),
        (set_entry("codes", "shape", [2, 50]), r"\[2, 50\]; it must be \[1, K, T\]"),
        (set_entry("codes", "shape", [2, 1, 50]), r"\[2, 1, 50\]; it must be \[1, K, T\]"),
        (set_entry("codes", "shape", [1, -2, -50]), "damaged entry"),
        (set_entry("codes", "shape", None), "damaged entry"),
        (set_entry("codes", "data_offsets", [-200, 0]), "damaged entry"),
        (set_entry("codes", "data_offsets", [10**12, 10**12 + 200]), "cut short"),
        (lambda layout: layout.update(codes=[]), "damaged entry"),
        (set_entry("scale", "shape", [1, 2, 25]), r"it must be \[1, 50\]"),
    ],
)
def test_a_file_with_a_wrong_header_is_refused(tmp_path, change, message):
    path = save(tmp_path / "codes", [random_codes(2, 50, scaled=True)])
    rewrite(path, change)
    with pytest.raises(AudioError, match=message) as caught:
        CodesReader(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a safetensors file at all", struct.pack("<Q", 4) + b"{{{{"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "codes"
    path.write_bytes(content)
    with pytest.raises(AudioError, match="not a codes file"):
        CodesReader(path)


def test_missing_files_and_directories_are_refused(tmp_path):
    with pytest.raises(AudioError, match="does not exist"):
        CodesReader(tmp_path / "codes")
    with pytest.raises(AudioError, match="directory"):
        CodesReader(tmp_path)


@pytest.mark.parametrize("value", [-1, 1024])
def test_a_code_outside_the_codebook_is_refused_in_its_block(tmp_path, value):
    path = save(tmp_path / "codes", [random_codes(2, 50)])
    data = bytearray(path.read_bytes())
    data[-2:] = struct.pack("<h", value)
    path.write_bytes(data)
    with CodesReader(path) as reader:
        blocks = reader.blocks(25)
        next(blocks)
        with pytest.raises(CodesError, match=r"0\.\.1023 in frames 25\.\.49"):
            next(blocks)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    path = save(tmp_path / "codes", [random_codes(2, 50000)])
    with CodesReader(path) as reader:
        with path.open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(AudioError, match="became shorter"):
            list(reader.blocks(25000))


@pytest.mark.parametrize("scaled", [False, True])
def test_arrays_are_the_codes_of_the_blocks(tmp_path, scaled):
    codes = random_codes(3, 50, scaled=scaled)
    first = save(tmp_path / "codes.safetensors", [codes])
    with CodesReader(first) as reader, CodesWriter(tmp_path / "again.safetensors", HEADER) as writer:
        for block in reader.arrays(7):
            writer.write(block)
        for block, expected in zip(reader.arrays(20), reader.blocks(20), strict=True):
            assert torch.equal(torch.from_numpy(block.data), expected.data)
            assert block.length == expected.length
    assert (tmp_path / "again.safetensors").read_bytes() == first.read_bytes()


@pytest.mark.parametrize(
    ("data", "scale", "error", "text"),
    [
        (np.zeros((1, 2, 3)), None, DtypeError, "codes are float64; they must be integers"),
        (np.zeros((2, 3), np.int16), None, ShapeError, r"\[2, 3\]; a codes file holds \[1, 2, T\]"),
        (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2), np.float32), ShapeError, r"scale .*it must be \[1, 3\]"),
        (np.full((1, 2, 3), 1024, np.uint16), None, CodesError, r"outside 0\.\.1023"),
    ],
)
def test_arrays_that_are_no_codes_are_refused_and_the_file_goes_on(tmp_path, data, scale, error, text):
    good = CodesBlock(np.ones((1, 2, 4), np.uint16), None if scale is None else np.ones((1, 4), np.float32), 1280)
    with CodesWriter(tmp_path / "codes.safetensors", HEADER) as writer:
        writer.write(good)
        with pytest.raises(error, match=text):
            writer.write(CodesBlock(data, scale, 960))
        writer.write(good)
    with CodesReader(tmp_path / "codes.safetensors") as reader:
        assert (reader.frames, reader.header.length) == (8, 2560)
