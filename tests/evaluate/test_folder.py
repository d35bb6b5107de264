from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from streamcodec.errors import AudioError, InputError
from streamcodec.evaluate.folder import Folder
from streamcodec.evaluate.recording import Recording

RATE = 16000


@pytest.fixture
def recording() -> Recording:
    audio = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    smooth = np.convolve(audio, np.ones(8), "same").astype(np.float32)
    return Recording("speech", "one", RATE, smooth)


@pytest.mark.parametrize("late", [-900, -1, 0, 7, 960])
def test_a_file_that_is_late_or_early_is_moved_to_where_it_belongs(
    recording: Recording, tmp_path: Path, late: int
) -> None:
    moved = np.pad(recording.audio, (late, 300)) if late >= 0 else recording.audio[-late:]
    soundfile.write(tmp_path / "one.wav", moved, RATE, subtype="FLOAT")
    (result,) = Folder("EnCodec", tmp_path)(recording)
    assert (result.system, result.bits) == ("EnCodec", None)
    kept = slice(max(0, -late), None)
    np.testing.assert_array_equal(result.audio[kept], recording.audio[kept])
    assert len(result.audio) == len(recording.audio)


def test_files_of_another_rate_are_resampled(recording: Recording, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.flac", soxr.resample(recording.audio, RATE, 48000), 48000)
    (result,) = Folder("x", tmp_path)(recording)
    error = result.audio[200:-200] - recording.audio[200:-200]
    assert np.mean(error**2) < 0.01 * np.mean(recording.audio**2)


def test_the_recordings_own_group_comes_first(recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    soundfile.write(tmp_path / "one.wav", np.zeros(2 * RATE), RATE)
    soundfile.write(tmp_path / "speech" / "one.wav", recording.audio, RATE, subtype="FLOAT")
    (result,) = Folder("x", tmp_path)(recording)
    np.testing.assert_array_equal(result.audio, recording.audio)


def test_what_has_no_file_is_named_and_what_is_another_recording_refused(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="holds no audio"):
        Folder("x", tmp_path)
    soundfile.write(tmp_path / "two.wav", recording.audio, RATE)
    folder = Folder("x", tmp_path)
    assert list(folder(recording)) == []
    assert "left out: x, for want of files in" in (folder.left_out() or "")
    assert ": one (" in (folder.left_out() or "")
    soundfile.write(tmp_path / "one.wav", recording.audio[:8000], RATE)
    with pytest.raises(InputError, match=r"one.wav has 0.5 s and the recording 2.0 s"):
        list(Folder("x", tmp_path)(recording))
