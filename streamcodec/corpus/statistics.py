"""What is in a data set of tokens: how much, how silent, and how evenly its codebooks are used."""

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .folder import Folder, find_shards, write_text
from .formats import open_shard

__all__ = ["Statistics", "write_statistics"]

JSON, PICTURE = "statistics.json", "statistics.png"
BINS = 40


@dataclass(frozen=True)
class Statistics:
    """items, frames: how many; seconds: of audio; silent_seconds: below -60 dBFS; shortest, longest: seconds.

    used: of each codebook, the share of its entries that occur; perplexity: as many entries, used evenly, would tell
    as much; bits: of entropy a frame, all codebooks together, each by itself; fields: the names of the columns.
    """

    items: int
    frames: int
    seconds: float
    silent_seconds: float
    shortest: float
    longest: float
    used: list[float]
    perplexity: list[float]
    bits: float
    fields: list[str]


def write_statistics(folder: Folder) -> Statistics:
    """Count all items of a data set and write `statistics.json`, and a picture of it where matplotlib is installed."""
    counts = np.zeros((folder.codebooks, folder.header.codebook_size), np.int64)
    seconds, silent, fields = [], 0.0, dict[str, None]()
    for path in find_shards(folder.path):
        shard = open_shard(path)
        for row in range(len(shard.keys)):
            item = shard.item(row)
            seconds.append(item.length / folder.header.sample_rate)
            silent += item.silence * seconds[-1]
            fields |= dict.fromkeys(item.fields)
            for stage, codes in enumerate(item.codes):
                counts[stage] += np.bincount(codes, minlength=counts.shape[1])
        shard.close()
    found = _summed(counts, np.array(seconds), silent, list(fields))
    write_text(folder.path / JSON, json.dumps(asdict(found), indent=1) + "\n")
    with contextlib.suppress(ModuleNotFoundError):
        _draw(folder, found, counts, np.array(seconds))
    return found


def _summed(counts: NDArray[Any], seconds: NDArray[Any], silent: float, fields: list[str]) -> Statistics:
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    return Statistics(
        items=len(seconds),
        frames=int(counts[0].sum()),
        seconds=round(float(seconds.sum()), 3),
        silent_seconds=round(silent, 3),
        shortest=float(seconds.min(initial=np.inf if len(seconds) else 0)),
        longest=float(seconds.max(initial=0)),
        used=(counts > 0).mean(1).round(4).tolist(),
        perplexity=np.exp(entropy).round(1).tolist(),
        bits=round(float(entropy.sum() / np.log(2)), 3),
        fields=fields,
    )


def _draw(folder: Folder, found: Statistics, counts: NDArray[Any], seconds: NDArray[Any]) -> None:
    """How often each entry of each codebook occurs, the most frequent first, and how long the items are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    use, lengths = figure.subplots(1, 2)
    for stage, row in enumerate(counts):
        ranked = np.sort(row)[::-1] / max(1, row.sum())
        use.plot(np.arange(1, len(ranked) + 1), ranked, label=f"{stage}: {found.perplexity[stage]:.0f}")
    use.set(xscale="log", yscale="log", xlabel="entry, by how often it occurs", ylabel="share of frames")
    use.set_title("Use of the codebooks (number: perplexity)")
    use.legend(fontsize="x-small", ncols=2)
    lengths.hist(seconds, bins=BINS)
    lengths.set(xlabel="seconds", ylabel="items", title=f"{found.items} items, {found.seconds / 3600:.2f} hours")
    figure.savefig(folder.path / PICTURE, dpi=120)
