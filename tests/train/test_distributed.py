"""Several processes: what torchrun starts must train what one process with all of their rows trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from train_small import run_of, small

from streamcodec.errors import ConfigError
from streamcodec.train.config import to_toml
from streamcodec.train.distributed import World, joined
from streamcodec.train.shards import newest, read_folder

# Sums over rows are added in another order, about 1e-7 apart in float32 at each update. Adam divides a gradient by its
# own size, so a weight whose gradient is that small may move by the whole learning rate either way: such weights are
# few, and what is held to is the distance relative to how far the weights moved.
TOLERANCE = 1e-3
TWO_RANKS = str(Path(__file__).with_name("two_ranks.py"))


def _started(*arguments: str) -> None:
    """A Python that must end well."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def _moved(folder: Path, start: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = newest(folder)
    assert found is not None
    tensors, _ = read_folder(found)
    names = [name for name in start if name.startswith(("networks.", "discriminators.", "learner.codebooks"))]
    return {name: (tensors[name] - start[name]).detach().double() for name in names}


SECTIONS = {"discriminator": {"alone": 1, "chance": 1.0}, "run": {"steps": 5}, "quantizer": {"dead": 0.3}}


@pytest.fixture(scope="module")
def two(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by two processes, in the folder `whole` beside its settings."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "two.toml").write_text(to_toml(small(**SECTIONS)))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "streamcodec", "train"]
    _started(*torchrun, "run", *_of_two(recordings, folder), "--out", str(folder / "whole"))
    return folder


def _of_two(recordings: Path, folder: Path) -> list[str]:
    return ["--data", str(recordings), "--config", str(folder / "two.toml")]


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_two_processes_train_what_one_with_twice_the_batch_does(recordings: Path, tmp_path: Path, two: Path) -> None:
    one = run_of(recordings, tmp_path / "one", **SECTIONS, data={"batch": 4})
    start = {name: value.detach().clone() for name, value in one.trainer.tensors().items()}
    list(one.updates())
    assert one.trainer.quantised
    first, second = _moved(tmp_path / "one", start), _moved(two / "whole", start)
    for part in ("networks.", "discriminators.", "learner."):
        a, b = (torch.cat([v.flatten() for k, v in moved.items() if k.startswith(part)]) for moved in (first, second))
        assert a.norm() > 0
        assert float((a - b).norm() / a.norm()) < TOLERANCE


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
@pytest.mark.slow
def test_two_processes_resume(recordings: Path, tmp_path: Path, two: Path) -> None:
    parts = tmp_path / "parts"
    stopped = ["run", *_of_two(recordings, two), "--out", str(parts), "--stop-after", "1e-6"]
    _started(TWO_RANKS, "train", json.dumps([stopped, ["resume", str(parts)]]))
    names = sorted(path.name for path in (parts / "checkpoints").iterdir())
    assert names == ["step-00000001", "step-00000005"]
    resumed, whole = (read_folder(newest(folder))[0] for folder in (parts, two / "whole"))
    assert not [name for name in resumed if not resumed[name].equal(whole[name])]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc, which Linux has")
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_no_thread_of_the_process_group_outlives_it_whether_it_ends_or_fails() -> None:
    """One that does may abort the process while the interpreter ends, when everything is trained and written."""
    _started(TWO_RANKS, "threads")


def test_alone_every_call_is_the_identity() -> None:
    world, value = World(), torch.arange(3.0)
    assert world.leads
    assert world.mean(value) is value
    assert world.gather(value, 0) is value
    assert world.of_the_first([1.0, 2.0]) == [1.0, 2.0]
    world.mean_in_place([value])
    world.wait()


def test_a_device_that_is_not_there_is_told() -> None:
    with joined("cpu") as world:
        assert world == World()
    with pytest.raises(ConfigError, match="nonsense"), joined("nonsense"):
        pass
