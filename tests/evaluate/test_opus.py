import numpy as np
import pytest

from streamcodec.errors import AudioError, InputError
from streamcodec.evaluate.opus import Opus, audio_bytes, missing_tools
from streamcodec.evaluate.recording import Recording

needs_opus = pytest.mark.skipif(bool(missing_tools()), reason="opusenc and opusdec (opus-tools) are not installed")


@needs_opus
def test_opus_comes_back_aligned_and_as_long_as_it_was() -> None:
    time = np.arange(30001) / 24000
    tone = (0.3 * np.sin(2 * np.pi * (300 + 200 * time) * time)).astype(np.float32)
    (result,) = Opus([64.0])(Recording("tones", "tone", 24000, tone))
    assert result.system == "Opus 64"
    assert result.audio.shape == tone.shape
    middle = slice(6000, 24000)
    error = result.audio[middle] - tone[middle]
    assert np.mean(error**2) < 0.01 * np.mean(tone[middle] ** 2)


def _page(*packets: bytes, unfinished: bool = False) -> bytes:
    lacing = b"".join(bytes([255] * (len(p) // 255) + [len(p) % 255]) for p in packets)
    if unfinished:
        lacing = lacing[:-1]
    return b"OggS" + bytes(22) + bytes([len(lacing)]) + lacing + b"".join(packets)


def test_bytes_of_audio_are_those_of_the_packets() -> None:
    head = _page(b"OpusHead") + _page(b"OpusTags" + bytes(300))
    assert audio_bytes(head + _page(bytes(10), bytes(255), bytes(600)) + _page(bytes(7))) == 872
    # A packet that goes on in the next page.
    assert audio_bytes(head + _page(bytes(255), unfinished=True) + _page(bytes(5))) == 260
    with pytest.raises(AudioError, match="Ogg page"):
        audio_bytes(head + b"noise")


def test_bitrates_that_opus_has_not_are_refused() -> None:
    for rate in (1.0, 300.0):
        with pytest.raises(InputError, match=f"Opus at {rate:g} kbps: it has 6 to 256"):
            Opus([8.0, rate])
