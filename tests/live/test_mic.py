"""`streamcodec mic` without a sound card: its options, its keys and its messages."""

import os
import signal
import sys
import threading

import numpy as np
import pytest
from fake_sounddevice import device, sounddevice

from streamcodec import load
from streamcodec.audio import _Kept
from streamcodec.cli import main
from streamcodec.cli.mic import _Display
from streamcodec.live import running
from streamcodec.live.keys import Keys
from streamcodec.live.line import Line
from streamcodec.live.recorder import Recorder
from streamcodec.live.roundtrip import RoundTrip
from streamcodec.live.watchdog import Watchdog

DEVICES = [device("Laptop", 2, 2)]


@pytest.fixture
def terminal(monkeypatch):
    """A pseudo-terminal as standard input; the end that types."""
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    typing, reading = pty.openpty()
    with open(reading, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdin", file)
        yield typing
    os.close(typing)


def test_keys_come_one_by_one_and_the_terminal_is_restored(terminal):
    import termios

    before = termios.tcgetattr(sys.stdin.fileno())
    with Keys() as keys:
        assert keys.available
        assert list(keys.pressed()) == []
        os.write(terminal, b"+-=M\x1b[A\x1b[B\x1bOAq")
        assert list(keys.pressed()) == ["+", "-", "+", "m", "+", "-", "+", "q"]
    assert termios.tcgetattr(sys.stdin.fileno()) == before


def test_without_a_terminal_there_are_no_keys(monkeypatch, tmp_path):
    (tmp_path / "in").write_text("qqq")
    with (tmp_path / "in").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        with Keys() as keys:
            assert not keys.available
            assert list(keys.pressed()) == []


def test_keys_change_the_bandwidth_mute_and_end(terminal, capsys):
    codec = load()
    trip = RoundTrip(Line(codec, bandwidth=3.0))
    with Keys() as keys:
        display = _Display(trip, codec, keys, threading.Event())
        for typed, bandwidth in ((b"+", 6.0), (b"+", 6.0), (b"--", 1.5), (b"-x", 1.0), (b"-", 1.0), (b"\x1b[A", 1.5)):
            os.write(terminal, typed)
            assert display.tick() is False
            assert trip.line.bandwidth == bandwidth
        os.write(terminal, b"m")
        display.tick()
        assert trip.playout.muted
        os.write(terminal, b"m")
        display.tick()
        assert not trip.playout.muted
        os.write(terminal, b"q")
        assert display.tick() is True
    err = capsys.readouterr().err
    assert "keys: + and - bandwidth, m mute, q quit" in err
    assert "in -100 dB | out -100 dB | 6 kbps | delay - | underruns 0 | step 0.0 of 20.0 ms" in err


def test_a_recording_keeps_every_bit(tmp_path):
    import soundfile

    rows = np.random.default_rng(0).standard_normal((1000, 2)).astype(np.float32)
    recorder = Recorder(tmp_path / "a.wav", 24000, 2)
    recorder.write(rows[:300])
    recorder.write(rows[300:])
    assert not (tmp_path / "a.wav").exists()
    recorder.close()
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav", dtype="float32")[0], rows)


@pytest.fixture
def mic(monkeypatch, capsys, tmp_path):
    """Run the command; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice(DEVICES, rates=(24000, 48000)))

    def run(*arguments):
        return (main(["mic", *arguments]), *capsys.readouterr())

    return run


def test_list_devices(mic):
    assert mic("--list-devices") == (0, "*  0  Laptop  (Fake; 2 in, 2 out; 44100 Hz)\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bandwidth", "5"], r"bandwidth 5.0 kbps is not offered by streamcodec_24khz; choose one of 1, 1.5, 3, 6"),
        (["--input", "Moon"], r"no input device fits 'Moon'; there are: 0 (Laptop)"),
        (["--rate", "96000"], r"it takes 24000 Hz, 48000 Hz (see --rate)"),
        (["--rate", "1"], r"--rate 1 cannot be used; it must be 4000 to 384000"),
        (["--seconds", "nan"], r"--seconds nan cannot be used"),
        (
            ["--record-input", "a.mp3"],
            r"a.mp3 has the extension '.mp3'; it must be .wav",
        ),
        (["--record-output", "no/a.wav"], r"cannot write no/a.wav: the directory"),
    ],
)
def test_what_cannot_be_done_is_explained(mic, arguments, message):
    code, out, err = mic(*arguments)
    assert (code, out) == (2, "")
    assert "streamcodec: error: " in err
    assert message in err


def test_without_sounddevice_it_says_what_to_install(mic, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    code, _, err = mic()
    assert code == 2
    assert "pip install '.[live]'" in err


def test_devices_that_never_call_back_end_it(mic, monkeypatch, tmp_path):
    monkeypatch.setattr(running, "Watchdog", lambda: Watchdog(patience=0.1))
    code, out, err = mic("--record-output", "out.wav")
    assert (code, out) == (2, "")
    assert err.count("no callback arrived from the input and output device for 0.1 s; opening the devices again") == 3
    assert "use headphones" in err
    assert "error: no callback arrived" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_it_with_a_summary_and_complete_recordings(mic, monkeypatch, name):
    import soundfile

    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"no {name} here")
    write, blocks = _Kept.write, []

    def played(tape):
        blocks.append(np.full((600, tape.channels), 0.25, np.float32))
        return blocks[-1]

    def interrupted(kept, data):  # again and again, within libsndfile, which takes no exceptions
        if len(blocks) > 1:
            signal.raise_signal(number)
        return write(kept, data)

    monkeypatch.setattr(running, "_drained", played)
    monkeypatch.setattr(_Kept, "write", interrupted)
    code, out, err = mic("--record-output", "out.wav")
    assert code == 0, err
    assert "delay not measured | underruns 0 | opened again 0 times" in out
    np.testing.assert_array_equal(soundfile.read("out.wav", always_2d=True)[0], np.concatenate(blocks))


def test_the_end_of_the_terminal_leaves_time_to_end_well(tmp_path):
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    script = (
        "import sys, threading; from pathlib import Path\n"
        "from streamcodec.cli.signals import told_by_signals; from streamcodec.live.keys import Keys\n"
        "told = threading.Event()\n"
        "with told_by_signals(told.set), Keys():\n"
        "    print('ready', flush=True); told.wait(60)\n"
        "print('a summary', flush=True); print('a word', file=sys.stderr, flush=True)\n"
        f"Path({str(tmp_path / 'recording')!r}).touch()\n"
    )
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-c", script])
    heard = b""
    while b"ready" not in heard:
        heard += os.read(terminal, 1024)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert (tmp_path / "recording").exists()
