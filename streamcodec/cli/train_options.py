"""The options of ``streamcodec train``. Imports nothing that takes time."""

import argparse
from pathlib import Path

from .ends import add_force

__all__ = ["add_train"]

FILES = "a folder of audio, a text file with one path a line"
DATA = f"{FILES}, a pack, or tokens of `streamcodec tokenize`"


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="TOML", help="settings; see --print-config")
    _add_set(parser)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="change one setting, such as loss.mel=2; may be given several times",
    )


def _add_going(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stop-after", type=float, default=0.0, metavar="MINUTES", help="end early, with a checkpoint to go on from"
    )


def add_train(parser: argparse.ArgumentParser) -> None:
    """Fill in ``streamcodec train``."""
    parser.add_argument("--print-config", action="store_true", help="print every setting as TOML and end")
    parser.add_argument("--config", type=Path, metavar="TOML", help="settings that --print-config begins from")
    parser.set_defaults(action="", overrides=[], parser=parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    begin = actions.add_parser("run", help="train, or go on with what an earlier run left in the folder")
    begin.add_argument("--data", required=True, type=Path, help=DATA)
    begin.add_argument("--out", required=True, type=Path, metavar="RUN", help="folder for everything that it writes")
    _add_settings(begin)
    _add_going(begin)
    begin.set_defaults(action="run")
    again = actions.add_parser("resume", help="go on with a run, with its own settings and data")
    again.add_argument("run", type=Path, metavar="RUN", help="the --out folder of an earlier run")
    _add_set(again)
    _add_going(again)
    again.set_defaults(action="resume")
    export = actions.add_parser("export", help="write the codec of a run's newest checkpoint")
    export.add_argument("run", type=Path, metavar="RUN", help="the run may still be going on")
    export.add_argument("codec", type=Path, metavar="CODEC", help="the folder to write, for load and for transformers")
    add_force(export)
    export.set_defaults(action="export")
    blend = actions.add_parser("blend", help="write the codec between one and what a further training made of it")
    blend.add_argument("one", metavar="CODEC", help="as `streamcodec info` takes it")
    blend.add_argument("other", metavar="OTHER", help="a codec of the same shape, trained on from CODEC")
    blend.add_argument("codec", type=Path, metavar="OUT", help="the folder to write, for load and for transformers")
    blend.add_argument("--share", type=float, default=0.5, metavar="X", help="0: all of CODEC; 1: all of OTHER")
    add_force(blend)
    blend.set_defaults(action="blend")
    pack = actions.add_parser("pack", help="pack audio into a few files, to be carried to another machine")
    pack.add_argument("--data", required=True, type=Path, help=DATA)
    pack.add_argument("--out", required=True, type=Path, metavar="PACK", help="folder for pack-*.safetensors")
    pack.add_argument("--rate", type=int, default=24000, metavar="HZ", help="of the codec to train (default: 24000)")
    pack.add_argument("--channels", type=int, default=1, metavar="N", help="of the codec to train (default: 1)")
    pack.add_argument("--limit", type=float, default=58.0, metavar="MIB", help="size of it all (default: 58)")
    add_force(pack)
    pack.add_argument("--seed", type=int, default=0, help="of the choice, where not all fits")
    pack.set_defaults(action="pack")
    _add_entropy(actions.add_parser("entropy", help="train a predictor that makes a codec's codes cost fewer bits"))


def _add_entropy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        required=True,
        type=Path,
        help=f"{FILES}, or a folder that streamcodec tokenize wrote with all codebooks",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="MODEL", help="the model's file, .safetensors")
    parser.add_argument("--codec", metavar="SOURCE", help="whose codes it is for; default: the codec in this package")
    parser.add_argument("--minutes", type=float, default=15.0, help="of CPU time to train for (default: 15)")
    parser.add_argument("--hours", type=float, default=3.0, help="of audio at most, chosen at random (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice and of the training")
    add_force(parser)
    parser.set_defaults(action="entropy")
