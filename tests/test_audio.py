"""Audio files."""

import contextlib
import io
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec import audio
from streamcodec.audio import AudioReader, AudioWriter
from streamcodec.errors import AudioError, DtypeError, NonFiniteError, ShapeError

LOSSLESS = (".wav", ".flac")
ALL = (*LOSSLESS, ".ogg", ".mp3")


def noise(channels: int, samples: int, seed: int = 0, peak: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-peak, peak, (channels, samples)).astype(np.float32)


def write(path: Path, pcm: np.ndarray, rate: int, **options: str) -> Path:
    soundfile.write(path, pcm.T, rate, **options)
    return path


def read_all(path: Path | BinaryIO, rate: int, channels: int, block: int = 1000) -> np.ndarray:
    with AudioReader(path, rate, channels, block) as reader:
        return np.concatenate(list(reader), axis=1)


# -- reading -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([(16000, 16000), (44100, 24000), (24000, 44100), (8000, 24000)]),
    st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2), (2, 2)]),
    st.integers(1, 5000),
    st.integers(1, 3000),
)
def test_reader_blocks_are_the_whole_file_resampled_and_mixed(tmp_path_factory, rates, channels, samples, block):
    path = tmp_path_factory.mktemp("audio") / "in.wav"
    (rate, wanted_rate), (found, wanted) = rates, channels
    pcm = noise(found, samples)
    write(path, pcm, rate, subtype="FLOAT")
    mixed = pcm.mean(0, keepdims=True) if wanted < found else pcm
    expected = soxr.resample(mixed.T, rate, wanted_rate).T
    if wanted > found:
        expected = np.repeat(expected, wanted, 0)
    with AudioReader(path, wanted_rate, wanted, block) as reader:
        blocks = list(reader)
        assert reader.length == expected.shape[1]
        assert bool(reader.changes) == (rate != wanted_rate or found != wanted)
    assert [b.shape[1] for b in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert all(b.dtype == np.float32 and b.shape[0] == wanted and b.flags.owndata for b in blocks)
    np.testing.assert_allclose(np.concatenate(blocks, 1), expected, atol=1e-6)


def test_reader_resamples_across_reads_as_in_one_piece(tmp_path, monkeypatch):
    path = write(tmp_path / "in.wav", noise(1, 30000), 44100, subtype="FLOAT")
    expected = read_all(path, 24000, 1)
    monkeypatch.setattr(audio, "READ_FRAMES", 777)
    np.testing.assert_array_equal(read_all(path, 24000, 1), expected)


@pytest.mark.parametrize("extension", ALL)
def test_reader_reads_every_format(tmp_path, extension):
    time = np.arange(24000) / 24000
    pcm = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[None]
    path = write(tmp_path / f"in{extension}", pcm, 24000)
    result = read_all(path, 24000, 1)
    assert result.shape == pcm.shape
    assert np.abs(result - pcm).mean() < (1e-4 if extension in LOSSLESS else 0.02)


@contextlib.contextmanager
def fifo(path: Path, data: bytes) -> Iterator[Path]:
    """A named pipe into which `data` is written once somebody reads."""
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[data])
    writer.start()
    yield path
    writer.join()


@pytest.mark.parametrize("extension", ALL)
def test_reader_takes_file_objects_pipes_and_what_follows_other_bytes(tmp_path, extension):
    path = write(tmp_path / f"in{extension}", noise(1, 70_000), 24000)
    expected, data = read_all(path, 24000, 1), path.read_bytes()
    with fifo(tmp_path / "pipe", data) as pipe:
        np.testing.assert_array_equal(read_all(pipe, 24000, 1), expected)
    with fifo(tmp_path / "another", data) as pipe, pipe.open("rb") as file:
        np.testing.assert_array_equal(read_all(file, 24000, 1), expected)
        assert not file.closed
    memory = io.BytesIO(b"before" + data)
    memory.seek(6)
    np.testing.assert_array_equal(read_all(memory, 24000, 1), expected)


def test_reader_names_a_file_object_and_refuses_text(tmp_path):
    with (
        fifo(tmp_path / "pipe", b"no audio") as pipe,
        pipe.open("rb") as file,
        pytest.raises(AudioError, match=r"pipe cannot be read as audio"),
    ):
        AudioReader(file, 24000, 1, 100)
    with pytest.raises(AudioError, match="file object is empty"):
        AudioReader(io.BytesIO(), 24000, 1, 100)
    for source in (io.StringIO("text"), 5):
        with pytest.raises(AudioError, match="opened to read bytes"):
            AudioReader(source, 24000, 1, 100)


def test_reader_says_what_it_changes(tmp_path):
    stereo, mono = write(tmp_path / "s.wav", noise(2, 50), 44100), write(tmp_path / "m.wav", noise(1, 50), 48000)
    with AudioReader(stereo, 24000, 1, 10) as reader:
        assert reader.changes == ["averaged 2 channels to 1", "resampled 44100 -> 24000 Hz"]
    with AudioReader(mono, 48000, 2, 10) as reader:
        assert reader.changes == ["copied 1 channel to 2"]
    with AudioReader(mono, 48000, 1, 10) as reader:
        assert reader.changes == []


def test_reader_refuses_a_mix_that_it_would_have_to_guess(tmp_path):
    path = write(tmp_path / "in.wav", noise(6, 50), 48000)
    with pytest.raises(AudioError, match=r"has 6 channels; the codec needs a file of 2 or 1"):
        AudioReader(path, 48000, 2, 10)


def test_reader_refuses_a_block_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="block is 0"):
        AudioReader(write(tmp_path / "in.wav", noise(1, 50), 48000), 48000, 1, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "is empty"), (b"no audio at all" * 99, "cannot be read as audio")],
)
@pytest.mark.parametrize("extension", [*ALL, ".txt", ".raw"])
def test_reader_refuses_what_is_no_audio(tmp_path, extension, content, message):
    path = tmp_path / f"in{extension}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=message) as caught:
        AudioReader(path, 24000, 1, 100)
    assert str(path) in str(caught.value)


def test_reader_refuses_a_directory_and_a_file_without_samples(tmp_path):
    with pytest.raises(AudioError, match="is a directory"):
        AudioReader(tmp_path, 24000, 1, 100)
    with pytest.raises(AudioError, match="holds no samples"):
        AudioReader(write(tmp_path / "in.wav", noise(1, 0), 24000), 24000, 1, 100)


@pytest.mark.parametrize("extension", ALL)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_reader_refuses_a_file_that_is_cut_short(tmp_path, extension, share):
    path = write(tmp_path / f"in{extension}", noise(1, 100_000), 24000)
    assert read_all(path, 24000, 1).shape == (1, 100_000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(AudioError, match=r"cut short|damaged|cannot be read"):
        read_all(path, 24000, 1)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF - 44])
def test_reader_takes_a_wav_whose_writer_did_not_know_the_size(tmp_path, size):
    pcm = noise(1, 500)
    path = write(tmp_path / "in.wav", pcm, 24000)
    data = bytearray(path.read_bytes())
    assert data[36:40] == b"data"
    data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    np.testing.assert_allclose(read_all(path, 24000, 1), pcm, atol=1e-4)


# -- writing -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(LOSSLESS), st.integers(1, 2), st.lists(st.integers(0, 400), min_size=1, max_size=6))
def test_sixteen_bit_files_keep_their_bits(tmp_path_factory, extension, channels, cuts):
    directory = tmp_path_factory.mktemp("audio")
    samples = sum(cuts) + 1
    raw = np.random.default_rng(samples).integers(-32768, 32768, (channels, samples)).astype(np.int16)
    source = write(directory / f"in{extension}", raw, 24000, subtype="PCM_16")
    pcm = read_all(source, 24000, channels)
    with AudioWriter(directory / f"out{extension}", 24000, channels) as writer:
        for piece in np.split(pcm, np.cumsum(cuts), axis=1):
            writer.write(piece)
        assert (writer.length, writer.clipped) == (samples, 0)
    result, rate = soundfile.read(directory / f"out{extension}", dtype="int16", always_2d=True)
    assert rate == 24000
    np.testing.assert_array_equal(result.T, raw)


@pytest.mark.parametrize("extension", ALL)
def test_writer_clips_and_counts(tmp_path, extension):
    pcm = np.zeros((1, 24000), np.float32)
    pcm[0, 1000:1010], pcm[0, 2000] = 3.0, -1.5
    pcm[0, 3000], pcm[0, 3001] = 1.0, -1.0
    path = tmp_path / f"out{extension}"
    with AudioWriter(path, 24000, 1) as writer:
        writer.write(torch.from_numpy(pcm))
    assert writer.clipped == 11
    result = read_all(path, 24000, 1)
    assert result.shape[1] == 24000
    if extension in LOSSLESS:
        np.testing.assert_allclose(result, np.clip(pcm, -1, 1), atol=1e-4)


def test_writer_writes_a_long_block_in_every_format(tmp_path):
    pcm = noise(2, 3 * audio.READ_FRAMES + 5)
    for extension in ALL:
        path = tmp_path / f"out{extension}"
        with AudioWriter(path, 24000, 2) as writer:
            writer.write(pcm)
        assert read_all(path, 24000, 2).shape == pcm.shape


def test_writer_leaves_no_half_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "out.wav"
    path.write_bytes(b"old")

    def fail() -> None:
        with AudioWriter(path, 24000, 1) as writer:
            writer.write(noise(1, 100))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_writer_refuses_to_write_no_samples(tmp_path):
    with pytest.raises(AudioError, match="no samples"), AudioWriter(tmp_path / "out.flac", 24000, 1):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.aac", "out", "out.WAVE"])
def test_writer_lists_the_extensions_it_knows(tmp_path, name):
    with pytest.raises(AudioError, match=r"\.wav, \.flac, \.ogg, \.mp3"):
        AudioWriter(tmp_path / name, 24000, 1)


def test_writer_refuses_a_rate_a_place_or_a_shape_that_cannot_be(tmp_path):
    with pytest.raises(AudioError, match="12345 Hz"):
        AudioWriter(tmp_path / "out.mp3", 12345, 1)
    with pytest.raises(AudioError, match="does not exist"):
        AudioWriter(tmp_path / "missing" / "out.wav", 24000, 1)
    (tmp_path / "dir.wav").mkdir()
    with pytest.raises(AudioError, match="is a directory"):
        AudioWriter(tmp_path / "dir.wav", 24000, 1)
    writer = AudioWriter(tmp_path / "OUT.WAV", 24000, 1)
    with pytest.raises(ShapeError):
        writer.write(noise(2, 10))
    with pytest.raises(NonFiniteError):
        writer.write(np.full((1, 3), np.nan, np.float32))
    with pytest.raises(DtypeError, match="int16"):  # whose full scale is not 1
        writer.write(np.zeros((1, 3), np.int16))
    writer.abort()
    assert [p.name for p in tmp_path.iterdir()] == ["dir.wav"]


def test_writer_stops_before_a_wav_that_its_header_cannot_describe(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "WAV_LIMIT", 1000)
    with AudioWriter(tmp_path / "out.wav", 24000, 1) as writer:
        writer.write(noise(1, 500))
        with pytest.raises(AudioError, match="4 GiB"):
            writer.write(noise(1, 1))
