import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from train_small import run_of, small

from streamcodec.train.board import Board
from streamcodec.train.config import to_toml
from streamcodec.train.shards import newest, read_folder


def _log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_logs_and_leaves_two_checkpoints(recordings: Path, tmp_path: Path) -> None:
    run = run_of(recordings, tmp_path, run={"save_minutes": 0.0})
    updates = list(run.updates())
    assert len(updates) == 6
    logged = _log(tmp_path)
    assert [float(row["step"]) for row in logged] == [2, 4, 6]
    expected = sum(row["mel"] for row in updates[2:4]) / 2
    assert float(logged[1]["mel"]) == pytest.approx(expected, rel=1e-5)
    # No codebook is in use in the stage without quantiser; all are at the end.
    assert float(logged[0]["perplexity_0"]) == 1
    assert all(float(logged[-1][f"perplexity_{k}"]) > 1.5 for k in range(4))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000005", "step-00000006"]


@pytest.mark.slow
def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(recordings: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    list(run_of(recordings, whole).updates())
    parts = tmp_path / "parts"
    for stop in (3, 5):  # in the middle of an interval of the log
        run = run_of(recordings, parts)
        for _ in run.updates():
            if run.trainer.step_count == stop:
                run.stop()
        assert newest(parts) == parts / "checkpoints" / f"step-{stop:08d}"
    list(run_of(recordings, parts).updates())
    tensors = [read_folder(newest(folder))[0] for folder in (whole, parts)]
    assert all(tensors[0][name].equal(tensors[1][name]) for name in tensors[0])
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in _log(folder)] for folder in (whole, parts)]
    assert rows[0] == rows[1]


def test_a_run_ends_early_by_the_clock(recordings: Path, tmp_path: Path) -> None:
    run = run_of(recordings, tmp_path, run={"steps": 100_000})
    began = time.monotonic()
    list(run.updates(minutes=0.02))
    assert time.monotonic() - began < 30
    assert newest(tmp_path) is not None
    assert 0 < run.trainer.step_count < 100_000


def test_a_budget_of_minutes_ends_annealed(recordings: Path, tmp_path: Path) -> None:
    run = run_of(recordings, tmp_path, run={"steps": 0, "minutes": 0.02})
    list(run.updates())
    assert run.trainer.elapsed >= 1.2
    assert run.trainer.learning_rate() == pytest.approx(0.01 * run.trainer.settings.optimizer.learning_rate)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_bit(recordings: Path, tmp_path: Path) -> None:
    """kill -9 at a moment that nobody chose, again and again, until the run is through; then the same numbers."""
    settings = small(run={"steps": 20, "save_minutes": 0.001})
    config = tmp_path / "small.toml"
    config.write_text(to_toml(settings))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "streamcodec", "train", "run", "--data", str(recordings), "--config", str(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    kills = 0
    for kill_at in (4, 13, None):
        process = subprocess.Popen(
            [*command, "--out", str(killed)],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if kill_at is not None and line.startswith("step ") and int(line.split()[1]) >= kill_at:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.wait()
        process.stderr.close()
    assert kills == 2
    assert process.returncode == 0
    # In this process, undisturbed.
    list(run_of(recordings, whole, run={"steps": 20}).updates())
    one, two = (read_folder(newest(folder))[0] for folder in (killed, whole))
    assert set(one) == set(two)
    assert not [name for name in one if not one[name].equal(two[name])]
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in _log(folder)] for folder in (killed, whole)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_tensorboard_has_losses_and_audio(recordings: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard files need the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_of(recordings, tmp_path, run={"tensorboard": True, "audio_every": 3})
    list(run.updates())
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"losses/mel", "losses/feature", "codebooks/perplexity_0", "run/learning_rate"} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("losses/mel")] == [2, 4, 6]
    assert set(tags["audio"]) == {
        f"crop_{n}/{name}" for n in (0, 1) for name in ("original", "2_codebooks", "4_codebooks")
    }
    assert [event.step for event in events.Audio("crop_0/original")] == [3, 6]
    assert events.Audio("crop_0/original")[0].sample_rate == 24000


def test_without_tensorboard_a_run_says_so_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    board = Board(tmp_path, 0, wanted=True)
    assert board.missing
    board.row({"mel": 1.0}, 1)
    board.audio("a", torch.zeros(10), 24000, 1)
    board.close()
    assert not list(tmp_path.iterdir())
    assert not Board(tmp_path, 0, wanted=False).missing
