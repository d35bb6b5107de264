"""Memory does not depend on how long a recording is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import ENVIRONMENT, RATE


def peak_memory(*commands: list[str]) -> list[int]:
    """Peak resident bytes of a process that runs commands one after the other, after each of them.

    Not from getrusage: there a child begins with the peak of the process that it was forked from.
    """
    script = (
        "import json, re, sys\n"
        "from pathlib import Path\n"
        "from streamcodec.cli import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    if main(command):\n"
        "        sys.exit(1)\n"
        "    print('peak', re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    run = [sys.executable, "-c", script, json.dumps(commands)]
    done = subprocess.run(run, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    peaks = [1024 * int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak ")]
    assert len(peaks) == len(commands)
    return peaks


def noise(path: Path, seconds: int) -> str:
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(seconds):
            file.write(rng.uniform(-0.5, 0.5, RATE))
    return str(path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_depend_on_the_length(tiny, tmp_path):
    short, long = (noise(tmp_path / f"{seconds}.wav", seconds) for seconds in (20, 200))
    files = [(source, f"{source}.safetensors", f"{source}.out.wav") for source in (short, long)]
    for steps in (
        [["roundtrip", source, out] for source, _, out in files],
        [["encode", source, codes] for source, codes, _ in files],
        [["decode", codes, out] for _, codes, out in files],
    ):

        def growth(steps=steps):
            first, second = peak_memory(*([*step, "--force", "--codec", tiny] for step in steps))
            return second - first

        # 180 s more are 17 MB as float32 and 9 MB as int16. On a loaded machine a process's threads may leave it some
        # megabytes higher than it needs, never lower: hence a second try.
        assert growth() < 6e6 or growth() < 6e6, steps[0][0]
