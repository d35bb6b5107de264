"""docs/training_set: the script that rebuilds training set and hold-out, and the lists that it follows."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

FOLDER = Path(__file__).parents[2] / "docs" / "training_set"


def _rows(listed: str = "recordings.tsv") -> list[dict[str, str]]:
    with (FOLDER / listed).open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _heard() -> list[dict[str, str]]:
    return _rows() + _rows("more.tsv")


def test_the_lists_name_recordings_once_and_only_repositories_that_are_fetched() -> None:
    fetched = (FOLDER / "fetch.sh").read_text(encoding="utf-8")
    for listed, count, folders in (
        ("recordings.tsv", 600, {"speech", "speech16k", "music", "noise"}),
        ("more.tsv", 290, {"speech", "speech16k"}),
        ("holdout.tsv", 36, {"speech", "speech16k", "music", "noise", "stereo48k"}),
    ):
        rows = _rows(listed)
        assert len(rows) == len({(row["folder"], row["name"]) for row in rows}) > count
        assert {row["folder"] for row in rows} == folders
        assert all(f"\nfetch {row['repository']} " in fetched for row in rows)


def test_the_training_list_excludes_the_holdout() -> None:
    heard, kept = _heard(), _rows("holdout.tsv")
    assert len({(row["folder"], row["name"]) for row in heard}) == len(heard)
    assert not {row["name"] for row in heard} & {row["name"] for row in kept}
    files = {(row["repository"], Path(name).name) for row in heard for name in row["originals"].split("|")}
    assert not files & {(row["repository"], Path(row["originals"]).name) for row in kept}
    # Speakers and pieces of the hold-out, by what their recordings are called: no other file of theirs is heard.
    for name in ("jfk", "gaellegosselin", "violetbleu", "libritts_2300", "ripper", "sorohan", "carnatic", "robin"):
        assert not [row for row in heard if name in row["name"].lower() or name in row["originals"].lower()]
    speakers = {row["originals"].split("/")[1] for row in kept if row["originals"].startswith("WAVE/SPEAKER")}
    assert speakers
    assert not [row for row in heard for speaker in speakers if speaker in row["originals"]]


@pytest.mark.slow
def test_the_sets_are_rebuilt_from_files_in_their_places(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heard = [row for row in _rows() if row["repository"] in ("coqui-ai/TTS", "karoldvl/ESC-10")][:20]
    kept = [row for row in _rows("holdout.tsv") if row["name"].startswith(("esc10_person_sneeze", "boomboxhead"))]
    for row, seconds in [(row, 0.1) for row in heard] + [(row, 33) for row in kept]:
        for name in row["originals"].split("|"):
            path = tmp_path / "repositories" / row["repository"] / "somewhere" / name.replace("_boom", "/boom")
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = 0.1 + rng.uniform(-1, 1, (round(seconds * 44100), 2))
            soundfile.write(path, noise, 44100, format=path.suffix[1:].upper())
    folders = [str(tmp_path / name) for name in ("repositories", "train", "holdout")]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "rebuild.py"), *folders], capture_output=True, text=True, check=True
    )
    listed = _heard() + _rows("holdout.tsv")
    assert done.stderr.count("skipped: ") == len(listed) - len(heard) - len(kept)
    assert len(list((tmp_path / "train").rglob("*.flac"))) == len(heard)
    for folder, row, seconds in [("train", heard[0], 0.1 * len(heard[0]["originals"].split("|")))] + [
        ("holdout", row, float(row["seconds"])) for row in kept
    ]:
        audio, rate = soundfile.read(tmp_path / folder / row["folder"] / f"{row['name']}.flac")
        assert rate == int(row["rate"])
        assert abs(len(audio) - seconds * rate) <= 4
        assert abs(audio.mean()) < 1e-4
        assert np.abs(audio).max() <= 0.986
