"""``streamcodec bench live``: what it reports of steps that follow each other, in one process and in several."""

import json

import pytest
from small_presets import small
from streamcodec_kernels.native.compiler import compiler, ready

from streamcodec.bench import live
from streamcodec.checkpoint import save
from streamcodec.cli import main


@pytest.fixture
def directory(tmp_path):
    return str(save(small("encodec_24khz"), tmp_path / "codec"))


@pytest.mark.parametrize("processes", [1, 2])
def test_steps_of_all_processes_are_counted_and_the_slowest_of_them_is_told(directory, processes, capsys):
    command = ["bench", "live", "--codec", directory, "--conversations", "3", "--frames", "2", "--seconds", "0.3"]
    native = bool(ready() or compiler())
    command += ["--backend", "native", "--precision", "int8"] if native else []
    code = main([*command, "--processes", str(processes), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["precision"] == ("int8" if native else "float32")
    assert code == (result["p99_ms"] > result["lasts_ms"])
    assert (result["conversations"], result["processes"]) == (3 * processes, processes)
    assert result["lasts_ms"] == pytest.approx(2000 / 75)
    assert 0 < result["median_ms"] <= result["p99_ms"]
    assert 0 < result["loop_median_ms"] <= result["loop_p99_ms"]
    assert processes <= result["steps"] <= processes * 300 / result["median_ms"] * 2


@pytest.mark.parametrize(
    ("processes", "shares"),
    [(1, [(4, 4)]), (2, [(8, 0), (0, 8)]), (4, [(8, 0), (0, 8), (8, 0), (0, 8)])],
)
def test_processes_share_the_directions_as_engines_do(processes, shares, directory, monkeypatch, capsys):
    given = []

    def together(args, sessions):
        given.extend(sessions)
        return [live.Live(1.0, [0.1], [0.1]) for _ in sessions]

    monkeypatch.setattr(live, "_together", together)
    monkeypatch.setattr(live, "_alone", lambda args, sessions: together(args, [sessions])[0])
    assert main(["bench", "live", "--conversations", "4", "--processes", str(processes)]) == 0
    assert given == shares


def test_late_steps_are_told_and_are_the_exit_code(capsys, monkeypatch):
    monkeypatch.setattr(live, "_alone", lambda *_: live.Live(0.010, [0.008] * 97 + [0.011, 0.012, 0.02], [0.001] * 100))
    assert main(["bench", "live"]) == 1
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[2].split("|")[1:-1]]
    assert cells == ["10", "1", "float32", "1", "10.00", "100", "8.00", "12.00", "3.00%", "1.00", "1.00"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conversations", "0"], "must be positive"),
        (["--processes", "0"], "must be positive"),
        (["--seconds", "nan"], "must be positive"),
        (["--codec", "pyproject.toml"], "pyproject.toml"),
        (["--backend", "abacus"], "abacus"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message, capsys):
    assert main(["bench", "live", *arguments]) == 2
    assert message in capsys.readouterr().err
