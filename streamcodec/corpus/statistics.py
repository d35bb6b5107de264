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
    seconds, silence, fields = list[float](), list[float](), dict[str, None]()
    for path in find_shards(folder.path):
        shard = open_shard(path)
        for row in range(len(shard.keys)):
            item = shard.item(row)
            seconds.append(item.length / folder.header.sample_rate)
            silence.append(item.silence)
            fields |= dict.fromkeys(item.fields)
            for stage, codes in enumerate(item.codes):
                counts[stage] += np.bincount(codes, minlength=counts.shape[1])
        shard.close()
    found = _summed(counts, np.array(seconds), np.array(silence), list(fields))
    write_text(folder.path / JSON, json.dumps(asdict(found), indent=1) + "\n")
    with contextlib.suppress(ModuleNotFoundError):
        if seconds:
            _draw(folder, found, counts, np.array(seconds), np.array(silence))
    return found


def _summed(counts: NDArray[Any], seconds: NDArray[Any], silence: NDArray[Any], fields: list[str]) -> Statistics:
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1)
    return Statistics(
        items=len(seconds),
        frames=int(counts[0].sum()),
        seconds=round(float(seconds.sum()), 3),
        silent_seconds=round(float(seconds @ silence), 3),
        shortest=float(seconds.min(initial=np.inf if len(seconds) else 0)),
        longest=float(seconds.max(initial=0)),
        used=(counts > 0).mean(1).round(4).tolist(),
        perplexity=np.exp(entropy).round(1).tolist(),
        bits=round(float(entropy.sum() / np.log(2)), 3),
        fields=fields,
    )


def _draw(
    folder: Folder, found: Statistics, counts: NDArray[Any], seconds: NDArray[Any], silence: NDArray[Any]
) -> None:
    """How evenly the codebooks are used, entry by entry and in one number each; how long items are, and how silent."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    ((entries, books), (lengths, silences)) = figure.subplots(2, 2)
    numbers = np.arange(len(counts))
    scale = ScalarMappable(Normalize(0, max(1, len(counts) - 1)), "viridis")  # any number of codebooks, in order
    colours = scale.to_rgba(numbers)
    for stage, row in enumerate(counts):
        ranked = np.sort(row)[::-1] / max(1, row.sum())
        entries.plot(np.arange(1, len(ranked) + 1), ranked, color=colours[stage], linewidth=1)
    entries.set(xscale="log", yscale="log", xlabel="entry, by how often it occurs", ylabel="share of frames")
    entries.set_title("How often each entry occurs")
    figure.colorbar(scale, ax=entries, label="codebook")
    books.bar(numbers, 100 * np.array(found.used), color="lightgrey", label="entries that occur")
    books.bar(numbers, 100 * np.array(found.perplexity) / counts.shape[1], 0.5, label="perplexity")
    books.set(xlabel="codebook", ylabel=f"% of {counts.shape[1]} entries", ylim=(0, 120), yticks=range(0, 101, 20))
    books.set_title("Use of the codebooks")
    books.legend(loc="upper right", ncols=2)
    bins = int(np.clip(np.sqrt(len(seconds)), 10, BINS))
    lengths.hist(seconds, bins=bins)
    lengths.set(xlabel="seconds", ylabel="items", title=f"{found.items} items, {found.seconds / 3600:.3g} hours")
    silences.hist(100 * silence, bins=bins, range=(0, 100))
    share = found.silent_seconds / max(1e-9, found.seconds)
    silences.set(xlabel="% of an item's time", ylabel="items", title=f"Silence: {share:.1%} of all time")
    for axis in (books.xaxis, lengths.yaxis, silences.yaxis):
        axis.get_major_locator().set_params(integer=True)
    figure.savefig(folder.path / PICTURE, dpi=120)
