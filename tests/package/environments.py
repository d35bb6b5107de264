"""Clean environments to install the wheel into."""

import importlib.metadata
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

__all__ = ["Environment", "run"]


def run(command: list[object], **options: object) -> str:
    """stdout of a command that succeeds."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=280, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Environment:
    """A virtual environment with nothing in it, not even pip; or the one that is at `path`."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            venv.create(path, with_pip=False, symlinks=os.name != "nt")
        self.bin = path / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / "python"
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def install(self, *requirements: str) -> None:
        """With the running interpreter's pip. Skips the test where that reaches no index."""
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check"]
        command = [*pip, "install", "--quiet", "--no-compile", *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            probe = [*pip, "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed", "tqdm"]
            if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
                pytest.skip("pip reaches no index, from which the wheel's dependencies would come")
        assert done.returncode == 0, done.stdout + done.stderr

    def lend(self, distribution: str, into: Path) -> None:
        """Show the environment a distribution of the running interpreter's, with all it depends on, through links."""
        into.mkdir()
        for name in dependencies(distribution):
            files = importlib.metadata.files(name) or []
            for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
                found = Path(importlib.metadata.distribution(name).locate_file(top))
                if not (into / top).exists():
                    (into / top).symlink_to(found, target_is_directory=found.is_dir())
        where = run([self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        Path(where, "lent.pth").write_text(f"{into}\n")

    def run(self, *command: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
        """A command of the environment's, away from the checkout."""
        words = [str(self.bin / str(command[0])), *map(str, command[1:])]
        return subprocess.run(
            words, cwd=cwd, env=self.environ, capture_output=True, text=True, timeout=200, check=False
        )


def dependencies(name: str) -> set[str]:
    """The names of a distribution and of all that it needs here, without extras."""
    found, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found
