"""The page's resampler gives what streamcodec/resample.py gives."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from streamcodec.resample import Resampler

SCRIPT = Path(__file__).parent / "resample.mjs"
RATES = [(48000, 24000), (44100, 24000), (48000, 44100), (48000, 16000), (24000, 48000), (16000, 44100), (24000, 24000)]


def in_javascript(samples, source, target, cuts):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the page's JavaScript is tested with it")
    command = [node, str(SCRIPT), *map(str, (source, target, *cuts))]
    done = subprocess.run(command, input=samples.tobytes(), capture_output=True, timeout=60, check=True)
    return np.frombuffer(done.stdout, np.float32)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_equals_the_server_s_and_does_not_depend_on_the_cuts(source, target):
    samples = np.random.default_rng(source + target).uniform(-1, 1, 20_000).astype(np.float32)
    wanted = Resampler(source, target, 1).push(samples[None])[0]
    found = in_javascript(samples, source, target, [128])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)  # float64 sums where the server has float32
    np.testing.assert_array_equal(found, in_javascript(samples, source, target, [1, 977, 30, 5000]))


def test_what_would_alias_is_70_db_down():
    """A tone of 15 kHz is not in a signal of 24 kHz."""
    tone = np.sin(2 * np.pi * 15000 * np.arange(48000) / 48000).astype(np.float32)
    found = in_javascript(tone, 48000, 24000, [128])[200:]
    assert 20 * np.log10(np.abs(found).max()) < -69
