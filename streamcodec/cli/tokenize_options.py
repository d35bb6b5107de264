"""The options of ``streamcodec tokenize``. Imports nothing that takes time."""

import argparse
import re

__all__ = ["FORMATS", "add_tokenize"]

FORMATS = ("safetensors", "tar", "parquet", "arrow")


def add_tokenize(parser: argparse.ArgumentParser) -> None:
    """What there is beside --codec and --bandwidth."""
    parser.add_argument(
        "source",
        help="a folder, a list (.txt), a manifest (.csv, .tsv, .jsonl), tar shards ('shards/{000..015}.tar'), Parquet "
        "files, a data set of Hugging Face on disk, or a URL of one (s3://...)",
    )
    parser.add_argument("out", help="the folder of the tokens; a run that was broken off goes on")
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="of the files; tar is webdataset's (default: safetensors)"
    )
    parser.add_argument(
        "--processes", type=_count, metavar="N", help="that encode, one thread each (default: one a core; GPU: 1)"
    )
    parser.add_argument(
        "--batch", type=_count, metavar="N", help="recordings that are encoded together (default: 1; GPU: 32)"
    )
    parser.add_argument(
        "--shard",
        type=_shard,
        default=(0, 1),
        metavar="I/N|auto",
        help="encode every N-th recording from the I-th on (I from 0), into the same folder as the others; auto: as "
        "torchrun or SLURM numbers this process",
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="encode on the Ray cluster that this machine is in, or on the one at ADDRESS; local: on one of this "
        "machine's own. --processes is then how many of its workers (default: all)",
    )
    parser.add_argument("--audio-column", metavar="NAME", help="of a manifest or data set (default: audio, path, ...)")
    parser.add_argument("--key-column", metavar="NAME", help="what names a recording (default: key or id, or its path)")
    parser.add_argument(
        "--shard-mb", type=_count, default=64, metavar="MB", help="how large a file may become (default: 64)"
    )


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number


def _shard(text: str) -> tuple[int, int] | None:
    if text == "auto":
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1, such as 0/8, nor auto")
    return int(match[1]), int(match[2])
