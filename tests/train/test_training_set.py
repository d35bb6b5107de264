"""docs/training_set: the script that rebuilds the training audio, and the list that it follows."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

FOLDER = Path(__file__).parents[2] / "docs" / "training_set"


def _rows() -> list[dict[str, str]]:
    with (FOLDER / "recordings.tsv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_the_list_names_no_holdout_and_only_repositories_that_are_fetched() -> None:
    rows, fetched = _rows(), (FOLDER / "fetch.sh").read_text(encoding="utf-8")
    assert len(rows) == len({(row["folder"], row["name"]) for row in rows}) > 600
    assert {row["folder"] for row in rows} == {"speech", "speech16k", "music", "noise"}
    assert all(f"\nfetch {row['repository']} " in fetched for row in rows)
    # Speakers and pieces of the hold-out, by the names of their recordings.
    for name in (
        "jfk",
        "gaellegosselin",
        "violetbleu",
        "libritts_2300",
        "ripper",
        "sorohan",
        "carnatic",
        "robin",
        "fleursdumal_001_",
        "fleursdumal_005_",
    ):
        assert not [row for row in rows if name in row["name"].lower() or name in row["originals"].lower()]


def test_the_set_is_rebuilt_from_files_in_their_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [row for row in _rows() if row["repository"] in ("coqui-ai/TTS", "karoldvl/ESC-10")][:20]
    for row in rows:
        for name in row["originals"].split("|"):
            path = tmp_path / "repositories" / row["repository"] / "somewhere" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 + rng.uniform(-1, 1, (4410, 2)), 44100, format=path.suffix[1:].upper())
    command = [sys.executable, str(FOLDER / "rebuild.py"), str(tmp_path / "repositories"), str(tmp_path / "train")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.count("skipped: ") == len(_rows()) - len(rows)
    assert len(list((tmp_path / "train").rglob("*.flac"))) == len(rows)
    row = rows[0]
    audio, rate = soundfile.read(tmp_path / "train" / row["folder"] / f"{row['name']}.flac")
    assert rate == int(row["rate"])
    assert abs(len(audio) - len(row["originals"].split("|")) * rate / 10) <= 4
    assert abs(audio.mean()) < 1e-4
    assert np.abs(audio).max() <= 0.986
