"""Ctrl-C, SIGTERM, SIGHUP, a reader that leaves: quiet, and no file stays behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import ENVIRONMENT

from streamcodec.audio import AudioWriter
from streamcodec.cli import running
from streamcodec.cli.signals import told_by_signals


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("where", ["streamcodec.cli.running.load", "streamcodec.audio.AudioWriter.write"])
def test_the_signals_that_end_a_program_are_quiet_and_leave_no_file(cli, tiny, voice, monkeypatch, name, code, where):
    number = getattr(signal, name)
    earlier, before = signal.getsignal(number), sorted(Path().iterdir())
    monkeypatch.setattr(where, lambda *_, **__: os.kill(os.getpid(), number))
    got, out, err = cli("roundtrip", voice, "--codec", tiny)
    assert (got, out, err.strip()) == (code, "", "")
    assert sorted(Path().iterdir()) == before
    assert signal.getsignal(number) == earlier


def test_a_signal_whose_exception_is_lost_ends_the_program_all_the_same(cli, tiny, voice, monkeypatch):
    write = AudioWriter.write

    def lose(writer, pcm):
        with contextlib.suppress(KeyboardInterrupt):  # as a callback out of C does
            os.kill(os.getpid(), signal.SIGTERM)
        write(writer, pcm)

    monkeypatch.setattr(AudioWriter, "write", lose)
    assert cli("roundtrip", voice, "--codec", tiny)[0] == 143
    assert not Path("out.wav").exists()
    monkeypatch.undo()
    assert cli("roundtrip", voice, voice.with_name("next.wav"), "--codec", tiny)[0] == 0


def test_a_signal_that_was_ignored_before_stays_ignored(cli, tiny, voice, monkeypatch):
    earlier, load = signal.signal(signal.SIGHUP, signal.SIG_IGN), running.load  # as under nohup

    def hang_up(*arguments, **options):
        os.kill(os.getpid(), signal.SIGHUP)
        return load(*arguments, **options)

    monkeypatch.setattr(running, "load", hang_up)
    try:
        assert cli("roundtrip", voice, "--codec", tiny)[0] == 0
    finally:
        signal.signal(signal.SIGHUP, earlier)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_who_wants_to_be_told_of_signals_is_told_each_time_but_not_of_those_that_are_ignored():
    earlier, told = signal.signal(signal.SIGHUP, signal.SIG_IGN), []  # as under nohup
    before = signal.getsignal(signal.SIGINT)
    try:
        with told_by_signals(lambda: told.append(None)):
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)
        assert len(told) == 3
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == before
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_a_program_that_is_ended_while_it_works_leaves_no_file(tiny, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(24000 * 300), 24000)
    command = [sys.executable, "-m", "streamcodec", "roundtrip", "long.wav", "--codec", tiny]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env=ENVIRONMENT)
    for _ in range(3000):
        if any(path.stat().st_size for path in tmp_path.glob(".*.part")):
            break
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


def test_a_broken_pipe_is_quiet(tiny):
    command = [sys.executable, "-m", "streamcodec", "info", tiny]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141
