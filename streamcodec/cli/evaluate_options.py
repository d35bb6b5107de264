"""The options of ``streamcodec evaluate``. Imports nothing that takes time."""

import argparse
from pathlib import Path

from .ends import add_force

__all__ = ["add_evaluate"]


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Fill in ``streamcodec evaluate``, without the options of its codec."""
    parser.add_argument("data", nargs="+", type=Path, help="folders of audio or text files with one path a line")
    _add_anchors(parser)
    _add_recordings(parser)
    _add_loss(parser)
    parser.add_argument("--spectrograms", type=Path, metavar="DIR", help="write pictures: the original and each system")
    parser.add_argument("--pictures", type=int, default=1, metavar="N", help="files of each folder that get one")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the Markdown there too")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of Markdown")


def _add_loss(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--loss",
        type=float,
        nargs="+",
        default=[],
        metavar="PERCENT",
        help="so many packets of 20 ms lost, single and in bursts, and what is done about it: STOI and PESQ of the "
        "codec, and of Opus with its own FEC and concealment at the bitrates of --opus",
    )
    parser.add_argument("--burst", type=float, default=4.0, metavar="N", help="with --loss: packets of a burst (4)")
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="with --loss: default: the codec's own")
    parser.add_argument(
        "--redundancy",
        nargs="*",
        default=["1x3", "2x2"],
        metavar="FRAMESxCODEBOOKS",
        help="with --loss: what packets carry of earlier frames, a row for each (default: 1x3 2x2)",
    )


def _add_anchors(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--opus",
        type=float,
        nargs="*",
        default=[6.0, 8.0, 12.0],
        metavar="KBPS",
        help="bitrates of Opus beside it (default: 6 8 12), through opusenc and opusdec; none: leave Opus out",
    )
    parser.add_argument(
        "--lyra",
        type=Path,
        metavar="DIR",
        help="Lyra v2 beside it at 3.2, 6 and 9.2 kbps: the folder of its networks, lyra/model_coeffs of google/lyra",
    )
    parser.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="what another codec made of the recordings, beside it: GROUP/NAME.wav or NAME.wav in a folder; may be "
        "given several times",
    )
    parser.add_argument("--anchors-only", action="store_true", help="leave the codec out; its sample rate is used")


def _add_recordings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--speech",
        nargs="*",
        default=["speech", "alsa"],
        metavar="NAME",
        help="folders whose names begin so are speech, for what judges speech alone (default: speech alsa)",
    )
    parser.add_argument(
        "--english",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="names of speech files that are English, for word errors, such as 'libri*' '*_en'; default: those that "
        "Whisper takes for English",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth file of each folder")
