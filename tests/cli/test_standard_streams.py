"""``-``, pipes and descriptors."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import ENVIRONMENT, RATE, assert_fails

from streamcodec.cli import main


@pytest.fixture
def piped(monkeypatch, capsysbinary, tmp_path):
    """Run a command with bytes on standard input; its exit code, stdout in bytes, and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(data: bytes, *arguments: object) -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Unseekable(data)))
        code = main([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return code, out, err.decode()

    return run


class Unseekable(io.BytesIO):
    """As a pipe is."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation

    tell = seek


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
def test_what_goes_through_standard_streams_is_what_goes_through_files(piped, tiny, voice, form):
    codec = ["--codec", tiny]
    code, codes, err = piped(voice.read_bytes(), "encode", "-", "-", *codec)
    assert code == 0
    assert " kbps | algorithmic delay " in err
    assert err.count("\n") == 1
    code, audio, err = piped(codes, "decode", "-", "-", *codec, "--format", form)
    assert (code, err.count("\n")) == (0, 1)
    for arguments in (["encode", voice, "c.safetensors"], ["decode", "c.safetensors", f"a.{form}"]):
        assert piped(b"", *arguments, *codec)[0] == 0
    assert Path("c.safetensors").read_bytes() == codes
    np.testing.assert_array_equal(soundfile.read(io.BytesIO(audio))[0], soundfile.read(f"a.{form}")[0])
    assert piped(voice.read_bytes(), "roundtrip", "-", "-", *codec)[1][:4] == b"RIFF"


def test_pipes_with_names_are_read_and_written(cli, tiny, voice):
    os.mkfifo("in")
    os.mkfifo("out")
    copy = "codes.safetensors"
    reader = threading.Thread(target=lambda: Path(copy).write_bytes(Path("out").read_bytes()), daemon=True)
    reader.start()
    assert cli("encode", voice, "out", "--codec", tiny)[0] == 0
    reader.join(10)
    assert Path("out").is_fifo()
    writer = threading.Thread(
        target=lambda: Path("in").write_bytes(Path("codes.safetensors").read_bytes()), daemon=True
    )
    writer.start()
    code, _, err = cli("decode", "in", "out.wav", "--codec", tiny)
    assert (code, err) == (0, "streamcodec: wrote out.wav\n")
    assert soundfile.info("out.wav").frames == 29517


@pytest.mark.slow
def test_a_shells_own_pipes_and_a_reader_that_leaves(tiny, voice, tmp_path):
    line = (
        '"$@" <(cat voice.wav) >(cat > copy.wav); sleep 0.5; "$@" voice.wav /dev/stdout | true; exit ${PIPESTATUS[0]}'
    )
    command = [sys.executable, "-m", "streamcodec", "roundtrip", "--codec", tiny]
    done = subprocess.run(
        ["bash", "-c", line, "bash", *command],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("wrote")) == (141, 1)
    assert "rror" not in done.stderr
    frames, rate = len(soundfile.read(tmp_path / "copy.wav")[0]), soundfile.info(tmp_path / "copy.wav").samplerate
    assert (frames, rate) == (29517, RATE)


def test_what_cannot_be_is_said(cli, tiny, voice):
    codec = ["--codec", tiny]
    assert_fails(cli, "roundtrip", voice, "-", *codec, "--json", match="both want standard output")
    assert_fails(cli, "roundtrip", voice, "a.wav", *codec, "--format", "flac", match=r"--format flac for a\.wav")


def test_standard_input_that_cannot_be_used_is_named(piped, tiny):
    codec = ["--codec", tiny]
    for command in (["encode", "-", "a.safetensors"], ["roundtrip", "-", "a.wav"]):
        code, out, err = piped(b"", *command, *codec)
        assert (code, out) == (2, b"")
        assert "is empty" in err
    assert "is not a codes file" in piped(b"RIFF", "decode", "-", "a.wav", *codec)[2]


def test_a_name_without_extension_needs_a_format(cli, result, tiny, voice):
    assert_fails(cli, "roundtrip", voice, "noname", "--codec", tiny, match="extension ''")
    assert result("roundtrip", voice, "noname", "--codec", tiny, "--format", "mp3")["output"] == "noname"
    assert soundfile.info("noname").format == "MP3"
    assert result("roundtrip", voice, "--codec", tiny, "--format", "flac")["output"] == "out.flac"


def test_a_terminal_is_neither_audio_nor_a_place_for_it(cli, voice, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert_fails(cli, "encode", "-", "a.safetensors", match="standard input, and that is a terminal")
    assert_fails(cli, "encode", voice, "-", match="standard output, and that is a terminal")


@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors in a shell")
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_streams_that_are_closed_or_full_change_no_exit_code_and_are_nobody_elses(redirection, tmp_path):
    code = (
        "import os, sys\nfrom streamcodec.cli import main\ncode = main(sys.argv[1:])\n"
        "with open(os.devnull) as file:\n    sys.exit(code if file.fileno() > 2 else 9)"
    )
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", code, "encode", "nowhere", "x.dac"]
    assert subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, check=False).returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_signal_with_nowhere_to_write_has_its_exit_code():
    code = (
        "import os, signal, sys; from streamcodec import cli; from streamcodec.cli import info\n"
        "info.run = lambda args: os.kill(os.getpid(), signal.SIGTERM); sys.exit(cli.main(['info']))"
    )
    with open("/dev/full", "wb") as full:  # noqa: PTH123, a device
        command = [sys.executable, "-c", code]
        assert subprocess.run(command, stderr=full, env=ENVIRONMENT, timeout=120, check=False).returncode == 143
