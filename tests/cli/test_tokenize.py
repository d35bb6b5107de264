"""The command `tokenize`, as a person sees it."""

import io
import re
import sys
import time

import pytest
import soundfile
from commands import assert_fails

import streamcodec
from streamcodec.cli import main
from streamcodec.cli.parser import build_parser
from streamcodec.cli.tokenize import _bar
from streamcodec.cli.tokenize_options import FORMATS
from streamcodec.corpus import Failure, Progress, formats
from streamcodec.corpus import tokenize as corpus_tokenize


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Starting others takes seconds; tests/corpus does it."""
    run = corpus_tokenize
    monkeypatch.setattr("streamcodec.cli.tokenize.tokenize", lambda *a, **k: run(*a, **k | {"processes": 0}))


@pytest.fixture
def corpus(voice, tmp_path):
    """A recording in three parts, and a bad one."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    pcm, rate = soundfile.read(voice)
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", pcm[i * 9000 : (i + 1) * 9000], rate)
    (folder / "bad.wav").write_bytes(b"RIFF")
    return folder


def test_a_folder_becomes_a_data_set_and_what_was_left_out_is_said(cli, corpus, tiny):
    code, out, err = cli("tokenize", "recordings", "tokens", "--codec", tiny)
    assert code == 0
    assert out.startswith("3 recordings, 1 left out | ")
    assert "left out: bad.wav: " in err
    assert "1 recording left out; all of them are in tokens/failures.jsonl" in err
    assert (corpus.parent / "tokens" / "failures.jsonl").exists()
    assert len(streamcodec.TokenDataset("tokens")) == 3
    code, out, _ = cli("tokenize", "recordings", "tokens", "--codec", tiny, "--shard", "0/1")
    assert code == 0
    assert out.startswith("0 recordings, 3 from earlier runs, 1 left out | ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_bar_tells_what_is_done_what_is_left_and_the_speed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with _bar(ranks=1) as advance:
        for done in range(1, 4):
            time.sleep(0.12)  # tqdm draws ten times a second at most
            progress = Progress(2000, before=1000, done=done, seconds=3600.0, began=time.monotonic() - 3600)
            progress.failures += [Failure("bad.wav", "why")]
            advance(progress)
    shown = sys.stderr.getvalue().split("\r")[-1]
    match = re.search(r"1004/2000 \[00:00<(\d\d):\d\d, .*, 1\.0 h of audio an hour, 1 left out\]", shown)
    assert match, shown
    assert int(match[1]) >= 1  # a thousand recordings at ten a second: those of earlier runs took none of this time


def test_json_has_the_figures(result, corpus, tiny):
    found = result("tokenize", "recordings", "tokens", "--codec", tiny, "--codebooks", 2, "--format", "tar")
    assert (found["items"], found["before"], found["failed"]) == (3, 0, 1)
    assert found["audio_seconds"] == pytest.approx(27_000 / 24_000)
    assert found["hours_an_hour"] > 0


def test_ranks_come_from_torchrun_and_slurm(cli, corpus, tiny, monkeypatch):
    assert_fails(cli, "tokenize", "recordings", "tokens", "--shard", "auto", match="RANK.*SLURM.*say --shard I/N")
    for rank, names in enumerate((("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))):
        with monkeypatch.context() as patch:
            patch.setenv(names[0], str(rank))
            patch.setenv(names[1], "2")
            assert cli("tokenize", "recordings", "tokens", "--codec", tiny, "--shard", "auto")[0] == 0
    assert sorted(streamcodec.TokenDataset("tokens").keys) == ["0.wav", "1.wav", "2.wav"]


def test_what_cannot_begin_is_explained(cli, corpus, tiny):
    assert_fails(cli, "tokenize", "nothing", "tokens", "--codec", tiny, match="nothing does not exist")
    assert_fails(cli, "tokenize", "recordings", "tokens", "--bandwidth", 7, "--codec", tiny, match="choose one of")
    for wrong in (["--shard", "2/2"], ["--shard", "x"], ["--processes", "0"], ["--format", "zip"]):
        with pytest.raises(SystemExit) as caught:
            main(["tokenize", "recordings", "tokens", *wrong])
        assert caught.value.code == 2


def test_the_formats_on_offer_are_those_that_there_are():
    assert set(FORMATS) == set(formats.FORMATS)
    assert build_parser([]).parse_args(["tokenize", "a", "b"]).format in FORMATS
