"""Every command and every Python block of the prose runs as it stands, or is marked as not run, with the reason."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import published
import pytest
import soundfile
from pages import BACKGROUND, ELSEWHERE, FILE, GENERATED, PAGES, ROOT, Block, blocks

from streamcodec.cli.roundtrip import RECORDING

PORT = "8765"  # in the prose
SECONDS = 3


def to_run() -> list[Block]:
    pages = [page for page in PAGES if page.name not in GENERATED]
    found = [block for page in pages for block in blocks(page) if block.language in ("sh", "python")]
    return [block for block in found if not block.note or block.note == BACKGROUND or FILE.fullmatch(block.note)]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def furnish(folder: Path) -> None:
    """The files that a reader of the prose has: recordings of speech, and a folder of them."""
    speech, rate = soundfile.read(RECORDING, dtype="float32")
    soundfile.write(folder / "in.wav", speech[: SECONDS * rate], rate)
    soundfile.write(folder / "in.flac", np.repeat(speech[: SECONDS * rate, None], 2, 1), 2 * rate)
    soundfile.write(folder / "in.mp3", speech[: SECONDS * rate], rate)
    (folder / "recordings").mkdir()
    for number in range(3):
        cut = speech[number * rate : (number + 1) * rate]
        soundfile.write(folder / "recordings" / f"{number}.wav", cut, rate)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What came of each block, by its place. One process runs them all."""
    programs = tmp_path_factory.mktemp("bin")
    for name, call in (("streamcodec", f"{sys.executable} -m streamcodec"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        (programs / name).chmod(0o755)
    folders: dict[Path, Path] = {}
    ports: dict[Path, str] = {}
    todo = []
    for block in to_run():
        if block.page not in folders:
            folders[block.page] = tmp_path_factory.mktemp(block.page.stem)
            furnish(folders[block.page])
            if block.page.name == "from_transformers.md":
                published.furnish(folders[block.page])
            ports[block.page] = free_port()
        todo.append(
            {
                "place": block.place,
                "language": block.language,
                "text": block.text.replace(PORT, ports[block.page]),
                "folder": str(folders[block.page]),
                "fresh": block.page.name == "README.md",  # each of its blocks can be pasted by itself
                "background": block.note == BACKGROUND,
                "file": found["name"] if (found := FILE.fullmatch(block.note)) else "",
            }
        )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
        "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
        "OMP_NUM_THREADS": "1",
    }
    runner = Path(__file__).with_name("run_blocks.py")
    done = subprocess.run(
        [sys.executable, runner],
        input=json.dumps(todo),
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {result["place"]: result for result in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("block", to_run(), ids=lambda block: block.place)
def test_a_block_of_the_prose_runs_as_it_stands(block, results):
    if block.place not in results:
        pytest.fail("not run, since a block before it on its page failed")
    result = results[block.place]
    assert not result["error"], f"{result['error']}\n{result['output']}"


def test_the_commands_that_are_run_elsewhere_are_still_there():
    notes = {block.note for block in blocks(ROOT / "README.md")}
    assert set(ELSEWHERE) <= notes
