"""The card of a data set of tokens: a README that people, and Hugging Face's hub, read."""

from importlib import metadata

from .folder import Folder, write_text
from .statistics import PICTURE, Statistics

__all__ = ["write_card"]

CARD = "README.md"

READING = {
    "parquet": 'datasets.load_dataset("parquet", data_files="*.parquet")',
    "arrow": 'datasets.load_dataset("arrow", data_files="*.arrow")',
    "tar": "webdataset.WebDataset(urls).decode()",
    "safetensors": "any safetensors library",
}


def write_card(folder: Folder, found: Statistics) -> None:
    """Write `README.md`."""
    write_text(folder.path / CARD, _card(folder, found))


def _version() -> str:
    try:
        return metadata.version("streamcodec")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _card(folder: Folder, found: Statistics) -> str:
    header, hours = folder.header, found.seconds / 3600
    silent = found.silent_seconds / found.seconds if found.seconds else 0.0
    facts = {
        "codec": f"{header.codec} ({header.source or 'the codec that is bundled with streamcodec'})",
        "codec hash": f"`{header.fingerprint}`",
        "bandwidth": f"{header.bandwidth:g} kbps",
        "codebooks": f"{folder.codebooks} of {header.codebook_size} entries",
        "sample rate": f"{header.sample_rate} Hz, channels: {header.channels}",
        "frame": f"{header.hop_length} samples, {header.sample_rate / header.hop_length:g} a second",
        "made with": f"streamcodec {_version()}",
        "format": f"{folder.format}, read by `streamcodec.TokenDataset` or {READING[folder.format]}",
        "items": f"{found.items}, from {found.shortest:.2f} to {found.longest:.2f} s",
        "audio": f"{hours:.3f} hours, {silent:.1%} of it below -60 dBFS",
        "entropy": f"{found.bits:.2f} bits a frame",
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    use = [
        f"| {stage} | {used:.1%} | {perplexity:.0f} |"
        for stage, (used, perplexity) in enumerate(zip(found.used, found.perplexity, strict=True))
    ]
    columns = ", ".join(f"`{name}`" for name in found.fields) or "none"
    picture = [f"![statistics]({PICTURE})", ""] if (folder.path / PICTURE).exists() else []
    front = ["---", "tags:", "- audio-tokens", "- streamcodec", "---", ""]
    return "\n".join(
        [
            *front, "# Audio tokens", "", "| | |", "|---|---|", *rows, "",
            f"Each item has its key, its codes [codebooks, frames], its length in samples, and the columns of the "
            f"source: {columns}.", "",
            "| codebook | entries that occur | perplexity |", "|---|---|---|", *use, "", *picture,
        ]
    ).rstrip() + "\n"  # fmt: skip
