"""The pages that are made from the source are those that it would make today."""

import subprocess
import sys

import pytest
from pages import GENERATED, ROOT


def test_the_generated_pages_are_up_to_date():
    pytest.importorskip("griffe", reason="griffe reads the docstrings: pip install griffe")
    command = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}; run python docs/generate.py"


def test_the_pages_say_that_they_are_generated():
    for name in GENERATED:
        assert "docs/generate.py" in (ROOT / "docs" / name).read_text(encoding="utf-8")[:300]
