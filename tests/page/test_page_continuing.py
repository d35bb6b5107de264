"""In the page a sound goes on as streamcodec/continuing.py has it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from streamcodec.continuing import continued

SCRIPT = Path(__file__).parent / "continue.mjs"


@pytest.mark.parametrize(("rate", "heard"), [(24_000, 4000), (48_000, 1300), (48_000, 100)])
def test_it_goes_on_as_at_a_client(rate, heard):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the page's JavaScript is tested with it")
    time = np.arange(heard) / rate
    sound = sum(np.sin(2 * np.pi * k * 141 * time + k) / k for k in range(1, 5))
    sound = (0.2 * sound + np.random.default_rng(rate).normal(0, 0.01, heard)).astype(np.float32)
    count = rate // 10
    command = [node, str(SCRIPT), str(rate), str(count)]
    done = subprocess.run(command, input=sound.tobytes(), capture_output=True, timeout=60, check=True)
    wanted = continued(sound[:, None], count, rate)[:, 0]
    assert wanted.any()
    np.testing.assert_allclose(np.frombuffer(done.stdout, np.float32), wanted, atol=1e-6)
