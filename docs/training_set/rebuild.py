"""Training set and hold-out, from what fetch.sh brought: ``python rebuild.py REPOSITORIES TRAIN HOLDOUT``.

``recordings.tsv`` and ``more.tsv`` list the training recordings, ``holdout.tsv`` what is only measured on: folder,
name, repository, sample rate in Hz and original files, which are joined back to back; begin and seconds, where only a
part is taken. Each is mixed to mono, resampled (soxr VHQ), freed of its mean, scaled down where its peak passes 0.985,
and written as 16-bit FLAC. The set that was trained on was also cut at quiet points to at most 20 s, with shortened
silences, and what ``more.tsv`` lists was heard through Opus (31 and 46 kbps); crops of 0.4 s hardly see the difference.
Hold-out recordings are as long as those that were measured, but where those were cut from longer originals is not
recorded: they are taken from the start, Ripper's second after its first. Figures differ accordingly.
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


def main(repositories: Path, listed: str, to: Path) -> None:
    """Write the recordings of a list; names what is missing and goes on."""
    index: dict[str, dict[str, Path]] = {}
    with (Path(__file__).parent / listed).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for row in rows:
        files = index.setdefault(row["repository"], originals(repositories / row["repository"]))
        names = row["originals"].split("|")
        if missing := [name for name in names if name not in files]:
            print(f"skipped: {row['name']}: {row['repository']} has no {', '.join(missing)}", file=sys.stderr)
            continue
        rate = int(row["rate"])
        audio = np.concatenate([read(files[name], rate) for name in names])
        if row.get("seconds"):
            begin = round(float(row["begin"]) * rate)
            audio = audio[begin : begin + round(float(row["seconds"]) * rate)]
        audio -= audio.mean()
        audio *= min(1.0, PEAK / max(1e-9, float(np.abs(audio).max())))
        (to / row["folder"]).mkdir(parents=True, exist_ok=True)
        soundfile.write(to / row["folder"] / f"{row['name']}.flac", audio, rate, subtype="PCM_16")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), "recordings.tsv", Path(sys.argv[2]))
    main(Path(sys.argv[1]), "more.tsv", Path(sys.argv[2]))
    main(Path(sys.argv[1]), "holdout.tsv", Path(sys.argv[3]))
