"""Recordings beyond docs/formats.md: long ones, those read in pieces, damaged ones, and what a disk can do."""

import io
import struct

import numpy as np
import pytest
import soundfile
from formats_table import HALVES, RATE, RAW, SIGNAL, variants, wav, written
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.audio import READ_FRAMES, AudioReader
from streamcodec.containers import Recording, heads
from streamcodec.errors import AudioError, NonFiniteError, StreamcodecError


def recording(data: bytes) -> Recording:
    return Recording(io.BytesIO(data), "FILE")


def all_of(data: bytes, frames: int = 997) -> np.ndarray:
    return np.concatenate(list(recording(data).pieces(frames)))


def music(seconds: float, rate: int) -> np.ndarray:
    """Bursts over a chord: frames that borrow bits from those before them."""
    time = np.arange(round(seconds * rate)) / rate
    chord = sum(np.sin(2 * np.pi * hertz * time) for hertz in (110, 277, 554, 1661, 4987)) / 12
    noise = np.random.default_rng(0).standard_normal(len(time)) * (time % 0.37 < 0.04)
    return (chord + 0.3 * noise).astype(np.float32)


def mp3(pcm: np.ndarray, rate: int, **options: float | str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm, rate, format="MP3", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_read_in_pieces_is_that_read_whole(channels):
    data = mp3(np.stack([music(8, 48000)] * channels, 1), 48000, bitrate_mode="VARIABLE", compression_level=0.8)
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        pieces = np.concatenate(list(file.blocks(READ_FRAMES, dtype="float32", always_2d=True)))
    assert not np.array_equal(pieces, whole)  # what soundfile makes of it, and why it is not left to it
    for frames in (READ_FRAMES, 5000):
        np.testing.assert_array_equal(all_of(data, frames), whole)


def test_an_mp3_without_a_length_is_read_whole_however_its_bits_are_spread():
    # libmpg123 guesses a length by the first frames: 16 s of near silence in few bits, then noise in many.
    pcm = np.concatenate([music(1, 44100) * 1e-4, np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 44100)])
    for samples in (pcm, pcm[::-1]):
        data = mp3(samples, 44100, bitrate_mode="VARIABLE", compression_level=0.3)
        frames = data[data.index(data[:2], 4) :]
        found = recording(frames)
        assert found.length is not None
        assert len(samples) + 1105 <= found.length < len(samples) + 1105 + 2 * 1152
        got = np.concatenate(list(found.pieces(997)))[1105:, 0]
        whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        assert np.abs(got[: len(whole)] - whole).max() < 1e-6


def test_an_mp3_into_which_another_was_put_is_read_on_and_says_so():
    long, short = mp3(music(3, 44100), 44100), mp3(music(1, 44100), 44100)
    place = [at for at in range(1, len(long)) if long[at : at + 2] == long[:2]][40]
    found = recording(long[:place] + short + long[place:])
    lengths = [recording(part).length for part in (long, short)]
    got = sum(len(piece) for piece in found.pieces(5000))
    assert found.length == got
    assert sum(length or 0 for length in lengths) <= got < sum(length or 0 for length in lengths) + 3 * 1152
    assert any("of a recording that another follows, " in note for note in found.notes)
    with pytest.raises(AudioError, match="cut short"):
        recording(short + long[:place])


# -- sizes beyond 32 bits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trailing", [b"", b"LIST" + struct.pack("<I", 4) + b"INFO"])
def test_a_wav_beyond_4_gib_has_all_its_samples(tmp_path, trailing):
    size = 2**32 + 2 * RATE
    path = tmp_path / "huge.wav"
    with path.open("wb") as file:  # sparse: takes no room
        file.write(wav(b"", size=size & 0xFFFFFFFF, riff=0))
        file.truncate(44 + size - len(RAW))
        file.seek(0, io.SEEK_END)
        file.write(RAW + trailing)
    with path.open("rb") as file:
        found = Recording(file, "huge.wav")
        assert found.length == size // 2
        found._parts = found._parts[-1:]
        last = np.concatenate(list(found.pieces(1 << 24)))
    np.testing.assert_array_equal(last[-len(HALVES) :, 0], HALVES)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "CAF"])
@pytest.mark.parametrize("coding", ["PCM_24", "FLOAT", "ULAW"])
def test_what_no_header_can_tell_of_is_read_in_parts(monkeypatch, container, coding):
    even = SIGNAL[: len(SIGNAL) // 2 * 2]
    data = written(container, coding, even)
    expected, letters = all_of(data), {"WAV": b"data", "AIFF": b"SSND", "AU": b"\0\0\0\x18", "CAF": b"data"}[container]
    at = data.index(letters) + 4
    wide = 8 if container == "CAF" else 4
    broken = data[:at] + (b"\xff" * wide) + data[at + wide :]
    monkeypatch.setattr(heads, "LONGEST_PART", 1000)
    assert len(recording(broken)._parts) > 4
    np.testing.assert_array_equal(all_of(broken)[: len(even)], expected)


def test_a_file_of_countless_recordings_is_refused():
    with pytest.raises(AudioError, match="more than 10000 recordings"):
        recording(wav(RAW[:2]) * 10_001)


def test_a_format_that_only_its_name_tells_is_read_by_its_path(tmp_path):
    soundfile.write(tmp_path / "in.sd2", SIGNAL, RATE, format="SD2", subtype="PCM_16")  # with another file beside it
    with AudioReader(tmp_path / "in.sd2", RATE, 1, 997) as reader:
        np.testing.assert_array_equal(np.concatenate(list(reader), 1)[0], HALVES)


@pytest.mark.parametrize("rate", [1, 99, 2_000_000])
def test_rates_that_are_none_are_refused(rate):
    fmt = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    with pytest.raises(AudioError, match=f"says that it has {rate} Hz"):
        recording(wav(fmt=fmt))


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_a_sample_that_is_no_number_is_named_where_the_file_has_it(tmp_path, value, word):
    pcm = np.zeros((90_000, 2), np.float32)
    pcm[70_123, 1] = value
    path = tmp_path / "bad.wav"
    soundfile.write(path, pcm, 48000, subtype="FLOAT")
    place = rf"bad\.wav: sample 70123 \(1\.461 s\) of channel 1 is {word}"
    with AudioReader(path, 24000, 1, 1000) as reader, pytest.raises(NonFiniteError, match=place):
        list(reader)


def test_odd_files_are_said_to_be_odd(tmp_path):
    cases = {
        "read 2 recordings": wav() + wav(),
        "past the 4000 bytes of samples": wav(size=4000),
        "20 bytes in front": b"HTTP/1.0 200 OK\r\n\r\nx" + mp3(music(1, RATE), RATE),
    }
    for words, data in cases.items():
        (tmp_path / "odd").write_bytes(data)
        with AudioReader(tmp_path / "odd", RATE, 1, 100) as reader:
            assert any(words in sentence for sentence in reader.changes), reader.changes
    for data in (wav(), wav(size=0, riff=0), wav(size=0xFFFFFFFF)):
        assert recording(data).notes == []


def test_a_length_that_nobody_knows_is_none(tmp_path):
    data = bytearray(written("FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "unknown.flac").write_bytes(data)
    with AudioReader(tmp_path / "unknown.flac", RATE, 1, 100) as reader:
        assert (reader.length, reader.seconds) == (None, None)
        assert sum(block.shape[1] for block in reader) == len(HALVES)


def test_a_disk_that_fails_is_an_error_and_not_the_end_of_the_file():
    class Failing(io.BytesIO):
        broken = False

        def read(self, size: int | None = -1) -> bytes:
            if self.broken:
                raise OSError(5, "Input/output error")
            return super().read(size)

    file = Failing(wav(RAW * 9))
    found = Recording(file, "FILE")
    pieces = found.pieces(500)
    next(pieces)
    file.broken = True
    with pytest.raises(AudioError, match=r"cannot read FILE: .*Input/output error"):
        list(pieces)


# -- whatever comes ----------------------------------------------------------------------------------------------------

FILES = [variant.data for variant in variants() if variant.want is not None]


@settings(max_examples=150)
@given(st.sampled_from(FILES), st.data())
def test_damaged_files_are_read_to_their_length_or_refused(data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 4))):
        damaged[draw.draw(st.integers(0, min(200, len(damaged)) - 1))] = draw.draw(
            st.sampled_from([0, 1, 127, 128, 255])
        )
    end = draw.draw(st.integers(1, len(damaged)))
    try:
        found = recording(bytes(damaged[:end]))
        count = 0
        for piece in found.pieces(997):
            count += len(piece)
            if count > 1_000_000:  # a header can ask for hours of nothing
                return
        assert found.length in (None, count)
    except StreamcodecError:
        pass
