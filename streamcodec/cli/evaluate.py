"""``streamcodec evaluate``: a codec and others on the same recordings."""

import json
import math
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..codecs import Codec
from ..errors import InputError
from ..evaluate.evaluation import Evaluation
from ..evaluate.folder import Folder
from ..evaluate.libopus import LossyOpus, missing_library
from ..evaluate.loss import Loss
from ..evaluate.lossy_codec import LossyCodec
from ..evaluate.lyra import Lyra
from ..evaluate.measured import MeasuredCodec, usage_line
from ..evaluate.measures import available, left_out
from ..evaluate.opus import Opus, missing_tools
from ..evaluate.recording import System
from ..evaluate.spectrogram import draw
from ..evaluate.table import NOTES, summary, table
from ..files import NewFile
from .ends import check_folder, frames_by_codebooks, new_output
from .running import open_codec
from .signals import check_ended
from .telling import tell

__all__ = ["run"]

LOSS_MEASURES = ("pesq", "stoi")


def run(args: Namespace) -> int:
    """Run the command."""
    if args.every < 1 or args.pictures < 0:
        raise InputError(f"--every is {args.every} and --pictures {args.pictures}; at least 1 and 0 are needed")
    others = _anchors(args)
    if args.loss and (args.anchors_only or args.anchor or args.lyra):
        raise InputError("--loss with --anchor, --lyra or --anchors-only: their packets cannot be lost")
    for refuse in (_losses, _redundancy):  # before a codec is loaded
        refuse(args)
    if args.anchors_only and not others:
        raise InputError("--anchors-only leaves the codec out, and there is no --anchor, --lyra or --opus")
    if args.spectrograms is not None:
        check_folder(args.spectrograms, "*.png", "pictures", args.force)
    if args.output is None:
        return _evaluate(args, others, None)
    with new_output(args.output, args.force) as output:
        return _evaluate(args, others, output)


def _losses(args: Namespace) -> list[Loss]:
    return [Loss(percent / 100, burst) for percent in args.loss for burst in (1.0, args.burst)]


def _redundancy(args: Namespace) -> list[tuple[int, int]]:
    return [frames_by_codebooks(text) for text in args.redundancy]


def _lossy(codec: Codec, args: Namespace) -> list[System]:
    """What is measured with --loss."""
    losses = _losses(args)
    opus = [] if not args.opus or missing_library() else [LossyOpus(args.opus, losses)]
    return [LossyCodec(codec, losses, args.bandwidth, _redundancy(args)), *opus]


def _anchors(args: Namespace) -> list[System]:
    opus = Opus(args.opus)
    folders = [_folder(text) for text in args.anchor]
    lyra = [] if args.lyra is None else [Lyra(args.lyra)]
    return [*([opus] if args.opus and not missing_tools() else []), *lyra, *folders]


def _folder(text: str) -> Folder:
    name, found, folder = text.partition("=")
    if not (found and name and folder):
        raise InputError(f"--anchor {text}; it must be NAME=FOLDER, such as 'EnCodec 6=decoded/encodec'")
    return Folder(name, Path(folder))


def _left_out(args: Namespace) -> list[str]:
    sentences = left_out(LOSS_MEASURES if args.loss else None)
    if args.loss:
        if args.opus and (library := missing_library()):
            sentences.append(f"left out: Opus, for want of {library}")
    elif args.opus and (tools := missing_tools()):
        sentences.append(f"left out: Opus, for want of {' and '.join(tools)} (opus-tools)")
    return sentences


def _evaluate(args: Namespace, others: Sequence[System], output: NewFile | None) -> int:
    codec = open_codec(args.codec, args)
    sentences = _left_out(args)
    for sentence in sentences:
        tell(sentence)
    measured = None if args.anchors_only or args.loss else MeasuredCodec(codec)
    systems: Sequence[System] = others if measured is None else [measured, *others]
    evaluation = Evaluation(systems, args.data, codec.spec.sample_rate, args.speech, args.english, args.every)
    if args.loss:
        evaluation.systems = _lossy(codec, args)
        evaluation.measures = [measure for measure in available() if measure.field in LOSS_MEASURES]
    _measure(evaluation, args)
    unmatched = [system.left_out() for system in others if isinstance(system, Folder)]
    for line in filter(None, unmatched):
        tell(line)
        sentences.append(line)
    text = _markdown(evaluation, measured, sentences)
    if output is not None:
        output.file.write(f"{text}\n".encode())
        output.commit()
    print(_json(evaluation, measured, sentences) if args.json else text)
    return 0


def _measure(evaluation: Evaluation, args: Namespace) -> None:
    from tqdm import tqdm

    drawn: Counter[str] = Counter()
    total = len(evaluation.files())
    for results in tqdm(evaluation.run(), total=total, disable=not sys.stderr.isatty(), file=sys.stderr, unit="file"):
        check_ended()
        recording = results.recording
        if args.spectrograms is not None and drawn[recording.group] < args.pictures:
            drawn[recording.group] += 1
            draw(results, args.spectrograms / f"{recording.group}_{recording.name}.png")


def _markdown(evaluation: Evaluation, measured: MeasuredCodec | None, left_out: Sequence[str]) -> str:
    use = [] if measured is None else ["", usage_line(measured.usage())]
    lines = [table(summary(evaluation.scores)), "", NOTES, *use, *(f"\n{sentence}." for sentence in left_out)]
    return "\n".join(lines)


def _json(evaluation: Evaluation, measured: MeasuredCodec | None, left_out: Sequence[str]) -> str:
    scores = [{**asdict(score), **score.values} for score in evaluation.scores]
    for score in scores:
        del score["values"]
    rows = [{**asdict(row), "statistics": _statistics(row.statistics)} for row in summary(evaluation.scores)]
    use = {}
    if measured is not None:
        usage = measured.usage()
        use = {"codebook_use": usage.shares, "frames": usage.frames}
    return json.dumps(_finite({"scores": scores, "summary": rows, **use, "skipped": list(left_out)}))


def _statistics(statistics: Any) -> dict[str, dict[str, float]]:
    return {name: statistic._asdict() for name, statistic in statistics.items()}


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: null for them."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
