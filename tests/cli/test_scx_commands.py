"""``record``, ``play``, ``cut`` and ``cat``, and .scx files in ``encode`` and ``decode``."""

import io
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import ENVIRONMENT, RATE, assert_fails
from range_server import RangeServer

from streamcodec.codesfile.scx import ScxReader


def samples(path):
    return soundfile.read(path, dtype="int16", always_2d=True)[0].T


MADE: dict[str, bytes] = {}


@pytest.fixture
def talk(cli, tiny, voice):
    """talk.scx, and what it decodes to."""
    if not MADE:
        assert cli("encode", voice, "talk.scx", "--codec", tiny)[0] == 0
        assert cli("decode", "talk.scx", "talk.wav")[0] == 0
        MADE.update((name, Path(name).read_bytes()) for name in ("talk.scx", "talk.wav"))
    for name, data in MADE.items():
        Path(name).write_bytes(data)
    return samples("talk.wav")


def test_it_holds_what_the_other_file_of_ours_holds(cli, tiny, voice, talk):
    assert cli("encode", voice, "codes.safetensors", "--codec", tiny)[0] == 0
    assert cli("decode", "codes.safetensors", "codes.wav")[0] == 0
    assert np.array_equal(samples("codes.wav"), talk)
    assert talk.shape == (1, 29517)


def test_a_part_can_be_decoded(cli, result, talk):
    """With an LSTM the start of the file is within the 10 s that a decoder hears first, so it is equal."""
    got = result("decode", "talk.scx", "part.wav", "--from", "0.5", "--to", "0:01")
    assert got["samples"] == RATE // 2
    assert np.abs(samples("part.wav")[0].astype(int) - talk[0, RATE // 2 : RATE]).max() <= 1
    result("decode", "talk.scx", "end.wav", "--from", "-0.25", "-f")
    assert np.abs(samples("end.wav")[0].astype(int) - talk[0, -RATE // 4 :]).max() <= 1


def test_cut_and_cat(cli, result, talk):
    first = result("cut", "talk.scx", "a.scx", "--to", "0.4")
    result("cut", "talk.scx", "b.scx", "--from", "0.4")
    both = result("cat", "a.scx", "b.scx", "both.scx")
    assert (first["seconds"], both["samples"]) == (0.4, talk.shape[1])
    assert cli("decode", "both.scx", "both.wav")[0] == 0
    assert np.abs(samples("both.wav")[0].astype(int) - talk[0]).max() <= 1
    assert_fails(cli, "cat", "a.scx", "both.scx", "both.scx", match="is the file that is read|exists")


def test_cat_repairs_a_file_and_says_what_is_lost(cli, result, talk):
    result("cat", "talk.scx", "talk.scx", "twice.scx")
    data = bytearray(Path("twice.scx").read_bytes())
    data[-200] ^= 1  # in the last block of codes
    Path("bad.scx").write_bytes(data)
    code, _, err = cli("cat", "bad.scx", "good.scx")
    assert code == 0
    assert "bytes are damaged" in err
    with ScxReader("good.scx") as reader:
        assert reader.closed
        list(reader.pieces())
        assert reader.damaged == 0


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["decode", "talk.scx", "x.wav", "--from", "soon"], "no time"),
        (["decode", "talk.scx", "x.wav", "--from", "2", "--to", "1"], "not after"),
        (["decode", "talk.scx", "x.wav", "--offline"], "leave --start and --offline out"),
        (["cut", "talk.scx", "x.scx", "--from", "50"], "nothing between"),
        (["cut", "voice.wav", "x.scx"], "not a .scx file"),
        (["cat", "talk.scx", "x.wav"], "extension"),
        (["play", "talk.scx", "--idle", "0"], "--idle"),
        (["record", "x.wav"], "extension"),
        (["record", "x.scx", "--note", "title"], "NAME=TEXT"),
        (["record", "x.scx", "--append", "--force"], "--append"),
        (["record", "talk.scx"], "exists"),
        (["decode", "http://127.0.0.1:9/x.scx", "x.wav"], "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_left(cli, talk, words, match):
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    assert_fails(cli, *words, match=match)
    assert {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def raw(monkeypatch, voice, seconds=1.0):
    pcm = soundfile.read(voice, dtype="int16")[0][: round(seconds * RATE)]
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(pcm.tobytes()), isatty=lambda: False))


def test_what_comes_on_standard_input_is_recorded(cli, result, tiny, voice, monkeypatch):
    raw(monkeypatch, voice)
    got = result("record", "a.scx", "--input", "-", "--codec", tiny, "--note", "title=a=b", "--block-seconds", "0.1")
    assert got["seconds"] == 1.0
    raw(monkeypatch, voice)
    result("record", "a.scx", "--input", "-", "--codec", tiny, "--append", "--seconds", "0.5", "--bandwidth", "1.8")
    with ScxReader("a.scx") as reader:
        pieces = list(reader.pieces())
        assert reader.header.metadata == {"title": "a=b"}
        assert reader.header.codes.source == tiny
        assert (reader.seconds, reader.closed) == (1.5, True)
        assert [piece.data.shape[0] for piece in pieces[:1] + pieces[-1:]] == [2, 4]
    assert cli("encode", voice, "primed.safetensors", "--codec", tiny, "--start", "primed")[0] == 0
    assert cli("decode", "primed.safetensors", "primed.wav")[0] == 0
    assert cli("decode", "a.scx", "a.wav", "--to", "0.9")[0] == 0
    assert np.mean(samples("a.wav")[0] == samples("primed.wav")[0, : round(0.9 * RATE)]) > 0.99


def test_info_tells_what_is_in_a_file(cli, result, tiny, voice, monkeypatch):
    raw(monkeypatch, voice)
    result("record", "a.scx", "--input", "-", "--codec", tiny, "--note", "title=Monday")
    facts = result("info", "a.scx")
    assert (facts["codec"], facts["seconds"], facts["closed"]) == ("tiny", 1.0, True)
    assert facts["metadata"] == {"title": "Monday"}
    out = cli("info", "a.scx")[1]
    assert "note title      Monday" in out
    assert "seconds         1.00" in out


@pytest.mark.slow
def test_standard_output_takes_a_recording(tiny, voice, tmp_path):
    pcm = soundfile.read(voice, dtype="int16")[0].tobytes()
    command = [sys.executable, "-m", "streamcodec", "record", "-", "--input", "-", "--codec", tiny]
    done = subprocess.run(command, input=pcm, capture_output=True, env=ENVIRONMENT, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "a.scx").write_bytes(done.stdout)
    with ScxReader(tmp_path / "a.scx") as reader:
        assert reader.end()[0] == 29517


def test_a_file_behind_an_address_is_read(cli, talk, tmp_path):
    with RangeServer(Path("talk.scx").read_bytes()) as server:
        assert cli("decode", server.url, "far.wav")[0] == 0
        assert np.array_equal(samples("far.wav"), talk)
        assert json.loads(cli("cut", server.url, "far.scx", "--to", "1", "--json")[1])["seconds"] == 1.0
