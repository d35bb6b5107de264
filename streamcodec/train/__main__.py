"""``python -m streamcodec.train run`` trains a codec, ``... evaluate`` measures one."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import StreamcodecError

SHARES = {"speech": 0.58, "speech16k": 0.17, "music": 0.15, "noise": 0.10}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m streamcodec.train", description="Train and measure a codec.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train, or go on with a training that was interrupted")
    run.add_argument("--data", required=True, help="a folder of audio, or a text file with one path a line")
    run.add_argument("--out", required=True, type=Path, help="a folder for the log, checkpoints, cache and the codec")
    end = run.add_mutually_exclusive_group(required=True)
    end.add_argument("--minutes", type=float, help="the planned end, in minutes of training")
    end.add_argument("--steps", type=int, help="the planned end, in updates")
    run.add_argument("--config", type=Path, help="a codec's config.json; without it the bundled codec's")
    run.add_argument("--settings", type=json.loads, default={}, metavar="JSON", help="fields of TrainConfig")
    run.add_argument(
        "--shares", type=json.loads, default=SHARES, metavar="JSON", help=f"folder name -> share, such as {SHARES}"
    )
    run.add_argument("--from", dest="start", metavar="CODEC", help="begin with this codec's weights and codebooks")
    write = commands.add_parser("export", help="write the codec of a training's newest checkpoint")
    write.add_argument("run", type=Path, help="the training's --out folder; the training may still be running")
    write.add_argument("codec", type=Path, help="the folder to write")
    measure = commands.add_parser("evaluate", help="print the table of a model card")
    measure.add_argument("codec", help="a directory, a hub id, or 'default'")
    measure.add_argument("holdout", help="a folder of audio, or a text file with one path a line")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from .build import build_trainer, export_run

    settings: dict[str, Any] = arguments.settings | {"minutes": arguments.minutes, "steps": arguments.steps}
    trainer = build_trainer(
        arguments.data, arguments.out, settings, arguments.config, arguments.shares, arguments.start
    )
    for row in trainer.run(arguments.out):
        print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    print(export_run(arguments.out, arguments.out / "codec"))


def _export(arguments: argparse.Namespace) -> None:
    from .build import export_run

    print(export_run(arguments.run, arguments.codec))


def _evaluate(arguments: argparse.Namespace) -> None:
    from ..checkpoint import load
    from .evaluate import codebook_usage, evaluate, table

    codec = load(None if arguments.codec == "default" else arguments.codec)
    print(table(evaluate(codec, arguments.holdout)))
    usage = codebook_usage(codec, arguments.holdout)
    shown = ", ".join(f"{value:.0f}" for value in usage.perplexities)
    print(f"\nPerplexity of the codebooks over {usage.frames} frames: {shown} of {codec.spec.codebook_size}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        {"run": _run, "export": _export, "evaluate": _evaluate}[parsed.command](parsed)
    except StreamcodecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
