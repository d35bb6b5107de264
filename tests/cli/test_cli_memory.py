"""Memory does not depend on how long a recording is."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from commands import ENVIRONMENT, RATE


def peak_memory(*arguments: str) -> int:
    """Peak resident bytes of a command in a process of its own.

    Not from getrusage: there a child begins with the peak of the process that it was forked from.
    """
    script = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from streamcodec.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return 1024 * int(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_depend_on_the_length(tiny, tmp_path):
    peaks: dict[str, list[int]] = {}
    for seconds in (30, 300):
        source, codes, out = (str(tmp_path / name) for name in ("in.wav", "codes.safetensors", "out.wav"))
        rng = np.random.default_rng(0)
        with soundfile.SoundFile(source, "w", RATE, 1) as file:
            for _ in range(seconds):
                file.write(rng.uniform(-0.5, 0.5, RATE))
        for command in (["roundtrip", source, out], ["encode", source, codes], ["decode", codes, out]):
            # On a loaded machine a process's threads may leave it some megabytes higher than it needs; never lower.
            peak = min(peak_memory(*command, "--force", "--codec", tiny) for _ in range(2))
            peaks.setdefault(command[0], []).append(peak)
    # 270 s more are 26 MB as float32 and 13 MB as int16.
    for command, (short, long) in peaks.items():
        assert long - short < 8e6, (command, short, long)
