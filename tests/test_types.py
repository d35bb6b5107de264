"""What the type hints promise a user's program, by `mypy --strict`."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamcodec

ROOT = Path(__file__).parent.parent
PROGRAMS = ROOT / "tests" / "typed"
# Besides the project's own settings, which let the cache of its own check serve here: strict in full for the programs.
STRICT = """
[[tool.mypy.overrides]]
module = ["user", "mistakes"]
warn_unused_ignores = true
disallow_untyped_calls = true
disallow_any_generics = true
disallow_subclassing_any = true
disallow_untyped_decorators = true
warn_return_any = true
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, set[str]]]:
    """For each program the lines that mypy finds fault with, and the names of its errors there."""
    pytest.importorskip("mypy", reason="mypy is not installed: pip install '.[lint]' brings it")
    settings = tmp_path_factory.mktemp("mypy") / "pyproject.toml"
    settings.write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8") + STRICT, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings)]
    programs = [str(path.relative_to(ROOT)) for path in sorted(PROGRAMS.glob("*.py"))]
    done = subprocess.run(
        [*command, "--no-error-summary", *programs],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    faults: dict[str, dict[int, set[str]]] = {Path(program).name: {} for program in programs}
    for line in done.stdout.splitlines():
        found = re.match(r"(.+?):(\d+): error: .*\[([\w-]+)\]$", line)
        if found:
            faults[Path(found[1]).name].setdefault(int(found[2]), set()).add(found[3])
        else:
            assert ": note: " in line, line
    return faults


def mistakes() -> Iterator[tuple[int, str]]:
    for number, line in enumerate((PROGRAMS / "mistakes.py").read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith('"') and (found := re.search(r"  # ([\w-]+)$", line)):
            yield number, found[1]


def test_a_program_that_uses_every_public_name_is_sound(reported):
    assert reported["user.py"] == {}
    text = (PROGRAMS / "user.py").read_text(encoding="utf-8")
    assert all(re.search(rf"\b{name}\b", text) for name in streamcodec.__all__)


def test_every_mistake_is_reported_on_its_line(reported):
    assert reported["mistakes.py"] == {line: {error} for line, error in mistakes()}
