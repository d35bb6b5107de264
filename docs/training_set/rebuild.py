"""The training set from the repositories that fetch.sh brought: ``python rebuild.py REPOSITORIES TRAIN``.

``recordings.tsv`` lists every training recording, and none of the hold-out: its folder, name, repository, sample rate
in Hz and original files, which are joined back to back. Each is mixed to mono, resampled (soxr VHQ), freed of its mean,
scaled down where its peak passes 0.985, and written as 16-bit FLAC. The set that was trained on was also cut at quiet
points to at most 20 s, with shortened silences; crops of 0.4 s hardly see the difference.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr

PEAK = 0.985


def originals(repository: Path) -> dict[str, Path]:
    """Every name by which recordings.tsv may call a file: its own, with its folder, or with `_` between the two."""
    found: dict[str, Path] = {}
    for path in sorted(repository.rglob("*")):
        if path.is_file() and ".git" not in path.parts:
            parts = path.relative_to(repository).parts
            for start in range(len(parts)):
                found["/".join(parts[start:])] = found["_".join(parts[start:])] = path
    return found


def read(path: Path, rate: int) -> np.ndarray:
    """Mono samples [N] at `rate` Hz."""
    audio, original = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(audio.mean(1), original, rate, quality="VHQ")


def main(repositories: Path, train: Path) -> None:
    """Write all recordings; names what is missing and goes on."""
    index: dict[str, dict[str, Path]] = {}
    with (Path(__file__).parent / "recordings.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        files = index.setdefault(row["repository"], originals(repositories / row["repository"]))
        names = row["originals"].split("|")
        if missing := [name for name in names if name not in files]:
            print(f"skipped: {row['name']}: {row['repository']} has no {', '.join(missing)}", file=sys.stderr)
            continue
        rate = int(row["rate"])
        audio = np.concatenate([read(files[name], rate) for name in names])
        audio -= audio.mean()
        audio *= min(1.0, PEAK / max(1e-9, float(np.abs(audio).max())))
        (train / row["folder"]).mkdir(parents=True, exist_ok=True)
        soundfile.write(train / row["folder"] / f"{row['name']}.flac", audio, rate, subtype="PCM_16")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
