"""A microphone alone and a speaker alone, and the commands that have one."""

import numpy as np
import pytest
from fake_sounddevice import device, sounddevice

from streamcodec import load
from streamcodec.cli import main
from streamcodec.codesfile.scx import ScxReader, ScxWriter, decode, header_of
from streamcodec.errors import DeviceError
from streamcodec.live import devices, one_way
from streamcodec.live.devices import Device
from streamcodec.live.one_way import Microphone, Speaker

CARD = Device("output", 0, "Laptop", 48000, 2)


@pytest.fixture
def card(monkeypatch):
    """A card whose microphone hears a tone, and that keeps what is played."""
    module = sounddevice([device("Laptop", 2, 2, 48000.0)], rates=(48000,))
    module.played, module.broken = [], False

    class Stream(module.InputStream):
        def __init__(self, **options):
            super().__init__(**options)
            self.rate, self.channels, self.place = options["samplerate"], options["channels"], 0

        def read(self, count):
            if module.broken:
                raise module.PortAudioError("Device unavailable")
            time = (self.place + np.arange(count)) / self.rate
            self.place += count
            return np.repeat(0.3 * np.sin(2 * np.pi * 440 * time)[:, None], self.channels, 1).astype(np.float32), False

        def write(self, rows):
            assert (rows.dtype, rows.shape[1]) == (np.float32, self.channels)
            assert rows.flags["C_CONTIGUOUS"]
            module.played.append(rows.copy())
            return False

        def stop(self): ...

    module.InputStream = module.OutputStream = Stream
    monkeypatch.setattr(devices, "portaudio", lambda extra="live": module)
    monkeypatch.setattr(one_way, "portaudio", lambda extra="live": module)
    return module


def test_what_is_heard_comes_at_the_rate_that_is_wanted(card):
    with Microphone(CARD, 24000, 1) as microphone:
        blocks = microphone.blocks(2400)
        heard = np.concatenate([next(blocks) for _ in range(20)], 1)
    assert heard.shape[0] == 1
    assert abs(heard.shape[1] - 48000) < 100
    spectrum = np.abs(np.fft.rfft(heard[0, 1000:25000]))
    assert abs(spectrum.argmax() * 24000 / 24000 - 440) < 2


def test_what_is_played_comes_at_the_rate_of_the_device(card):
    with Speaker(CARD, 24000, 1) as speaker:
        for _ in range(10):
            speaker.play(np.full((1, 2400), 3.0, np.float32))
    played = np.concatenate(card.played)
    assert played.shape[1] == 2
    assert abs(len(played) - 48000) < 100
    assert played.max() == 1.0  # clipped
    assert max(map(len, card.played)) <= 4800


def test_a_device_that_goes_away_is_said(card):
    with Microphone(CARD, 24000, 1) as microphone:
        next(microphone.blocks(100))
        card.broken = True
        with pytest.raises(DeviceError, match="Laptop does not go on: Device unavailable"):
            next(microphone.blocks(100))


def test_record_hears_the_microphone_and_play_plays_it(card, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["record", "a.scx", "--seconds", "1.5"]) == 0
    assert capsys.readouterr().out == "1.50 s in a.scx\n"
    codec = load()
    with ScxReader("a.scx") as reader:
        assert reader.seconds == 1.5
        expected = np.concatenate([pcm.numpy() for pcm in decode(reader, codec, 0.5)], 1)
    assert main(["play", "a.scx", "--from", "0.5"]) == 0
    played = np.concatenate(card.played)[:, 0]
    assert abs(len(played) - 48000) < 100
    assert np.abs(expected).max() > 0.1
    assert np.corrcoef(played[100:40000:2], expected[0, 50:20000])[0, 1] > 0.9


def test_play_follows_a_file_until_nothing_comes(card, tmp_path, capsys):
    codec = load()
    with ScxWriter(tmp_path / "a.scx", header_of(codec, bandwidth=6.0, start="primed")) as writer:
        writer.append(codec.encode(np.zeros((1, 1, 24000), np.float32)))
        writer.flush()
        assert main(["play", str(tmp_path / "a.scx"), "--follow", "--idle", "0.1", "--json"]) == 0
    assert len(np.concatenate(card.played)) > 40000
