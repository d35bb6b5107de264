"""Every command and every Python block of the prose runs as it stands, or is marked as not run, with the reason."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import soundfile
from pages import BACKGROUND, ELSEWHERE, FILE, GENERATED, PAGES, ROOT, Block, blocks

from streamcodec.cli.roundtrip import RECORDING

PORT = "8765"  # in the prose
SECONDS = 3
RUNNER = Path(__file__).with_name("run_blocks.py")


def to_run(page: Path) -> list[Block]:
    found = [block for block in blocks(page) if block.language in ("sh", "python")]
    return [block for block in found if not block.note or block.note == BACKGROUND or FILE.fullmatch(block.note)]


def pages_to_run() -> list[Any]:
    """All that have such blocks. They take seconds each, and more packages than the tests do."""
    pages = [page for page in PAGES if page.name not in GENERATED and to_run(page)]
    return [pytest.param(page, marks=pytest.mark.slow, id=page.name) for page in pages]


def furnish(page: Path, folder: Path) -> None:
    """The files that a reader of the prose has: recordings of speech, and a folder of them."""
    speech, rate = soundfile.read(RECORDING, dtype="float32")
    soundfile.write(folder / "in.wav", speech[: SECONDS * rate], rate)
    soundfile.write(folder / "in.flac", np.repeat(speech[: SECONDS * rate, None], 2, 1), 2 * rate)
    soundfile.write(folder / "in.mp3", speech[: SECONDS * rate], rate)
    (folder / "recordings").mkdir()
    for number in range(3):
        cut = speech[number * rate : (number + 1) * rate]
        soundfile.write(folder / "recordings" / f"{number}.wav", cut, rate)
    if page.name == "from_transformers.md":
        published.furnish(folder)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def orders(page: Path) -> list[dict[str, Any]]:
    """What run_blocks.py is to do. Each of README's blocks can be pasted by itself."""
    port = free_port()
    return [
        {
            "place": block.place,
            "language": block.language,
            "text": block.text.replace(PORT, port),
            "fresh": page.name == "README.md",
            "background": block.note == BACKGROUND,
            "file": found["name"] if (found := FILE.fullmatch(block.note)) else "",
        }
        for block in to_run(page)
    ]


def programs(folder: Path) -> Path:
    """A folder with `streamcodec` and `python` as a reader's environment has them."""
    folder.mkdir()
    for name, call in (("streamcodec", f"{sys.executable} -m streamcodec"), ("python", sys.executable)):
        (folder / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="the prose is for a POSIX shell")
@pytest.mark.parametrize("page", pages_to_run())
def test_the_blocks_of_a_page_run_as_they_stand(page, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    furnish(page, folder)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
        "PATH": os.pathsep.join([str(programs(tmp_path / "bin")), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, RUNNER], input=json.dumps(orders(page)), cwd=folder, env=environment, capture_output=True,
        text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    for result in results:
        assert not result["error"], f"{result['place']}\n{result['error']}\n{result['output']}"
    assert len(results) == len(to_run(page))


def test_the_commands_that_are_run_elsewhere_are_still_there():
    notes = {block.note for block in blocks(ROOT / "README.md")}
    assert set(ELSEWHERE) <= notes
