"""A wheel holds the whole package and nothing else, and its command runs without the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"streamcodec": ROOT / "streamcodec", "streamcodec_kernels": ROOT / "kernels" / "streamcodec_kernels"}
BUILD = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"


def files(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built by the backend that pyproject.toml names, from a copy: it writes beside its sources."""
    setuptools = pytest.importorskip("setuptools", reason="setuptools is not installed; it builds the wheel")
    if tuple(map(int, setuptools.__version__.split(".")[:2])) < (70, 1):
        pytest.importorskip("wheel", reason="setuptools before 70.1 needs wheel, which is not installed")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("streamcodec", "kernels", "tests", "demos", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".artifacts"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-c", BUILD, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.iterdir()
    return zipfile.ZipFile(path)


def test_a_wheel_has_every_file_of_the_package_and_no_other(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {f"{package}/{name}" for package, root in PACKAGES.items() for name in files(root)}
    assert inside == expected
    for name in ("bench/__init__.py", "py.typed", "server/page/index.html", "bundled/streamcodec_24khz/config.json"):
        assert f"streamcodec/{name}" in inside  # the comparison is not of two empty sets


def test_its_command_runs_without_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "installed")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}  # before any installed streamcodec
    script = (
        "import sys, streamcodec, streamcodec.bench, streamcodec_kernels; from streamcodec.cli import main; "
        "print(streamcodec.__file__, streamcodec_kernels.__file__, file=sys.stderr); sys.exit(main(['info']))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(str(tmp_path / "installed")) == 2
    assert "24000 Hz" in done.stdout  # the bundled codec's
