"""The page's modules that need no browser, under node."""

import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = sorted(Path(__file__).parent.glob("*.test.mjs"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name.partition(".")[0])
def test_under_node(path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the page's JavaScript is tested with it")
    command = [node, "--test", "--test-reporter=tap", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
    assert "# pass 0" not in done.stdout
