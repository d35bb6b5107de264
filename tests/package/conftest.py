"""The wheel and the source distribution, built once, and clean environments to install the wheel into."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from environments import Environment, run
from filelock import FileLock

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "server"))  # the small codec and the server in a test's own loop

UNTRACKED = shutil.ignore_patterns(
    ".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".artifacts", ".scratch", "build", "dist",
    "runs", "shared", "*.wav",
)  # fmt: skip


@contextmanager
def shared(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A path that is the same for all of xdist's workers, for one of them at a time."""
    base = tmp_path_factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{path}.lock"):
        yield path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """ "wheel" and "sdist": built by `python -m build`, the former from the latter, once for all of xdist's workers."""
    for name in ("build", "setuptools"):
        pytest.importorskip(name, reason=f"{name} is not installed: the extra `release` has it")
    if int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools before 77 cannot build this package: the extra `release` has a later one")
    with shared(tmp_path_factory, "distributions") as out:
        if not out.exists():
            source = tmp_path_factory.mktemp("source") / "streamcodec"  # a copy: building writes beside its sources
            shutil.copytree(ROOT, source, ignore=UNTRACKED)
            run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out.with_suffix(".new"), source])
            out.with_suffix(".new").rename(out)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Environment]:
    """A function that makes another one."""
    return lambda: Environment(tmp_path_factory.mktemp("environment") / "new")


@pytest.fixture(scope="session")
def thin(distributions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """WHEEL[client], every package of it fetched by pip; once for all workers."""
    with shared(tmp_path_factory, "thin") as path:
        environment, complete = Environment(path), path.with_suffix(".complete")
        if not complete.exists():
            environment.install(f"{distributions['wheel']}[client]")
            complete.touch()
    return environment
