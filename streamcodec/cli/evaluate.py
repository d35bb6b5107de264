"""``streamcodec evaluate``: a codec and Opus on the same recordings."""

import json
import math
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import asdict

from ..errors import InputError
from ..files import NewFile
from ..train.evaluate import Evaluation, skipped, table, usage_line
from ..train.spectrogram import draw
from .ends import check_folder, new_output
from .running import open_codec
from .signals import check_ended
from .telling import tell

__all__ = ["run"]


def _measure(evaluation: Evaluation, args: Namespace) -> None:
    from tqdm import tqdm

    drawn: Counter[str] = Counter()
    total = len(evaluation.files())
    for heard in tqdm(evaluation.run(), total=total, disable=not sys.stderr.isatty(), file=sys.stderr, unit="file"):
        check_ended()
        if args.spectrograms is not None and drawn[heard.group] < args.pictures:
            drawn[heard.group] += 1
            draw(heard, args.spectrograms / f"{heard.group}_{heard.name}.png")


def _json(evaluation: Evaluation, left_out: list[str]) -> str:
    scores = [
        {key: value if not isinstance(value, float) or math.isfinite(value) else None for key, value in row.items()}
        for row in map(asdict, evaluation.scores)
    ]
    usage = evaluation.usage()
    return json.dumps({"scores": scores, "codebook_use": usage.shares, "frames": usage.frames, "skipped": left_out})


def run(args: Namespace) -> int:
    """Run the command."""
    if args.every < 1 or args.pictures < 0:
        raise InputError(f"--every is {args.every} and --pictures {args.pictures}; at least 1 and 0 are needed")
    if bad := [rate for rate in args.opus if not 6 <= rate <= 256]:
        raise InputError(f"--opus {bad[0]:g}: Opus has 6 to 256 kbps for one channel")
    if args.spectrograms is not None:
        check_folder(args.spectrograms, "*.png", "pictures", args.force)
    if args.output is None:
        return _evaluate(args, None)
    with new_output(args.output, args.force) as output:
        return _evaluate(args, output)


def _evaluate(args: Namespace, output: NewFile | None) -> int:
    codec = open_codec(args.codec, args.device)
    left_out = skipped(args.opus)
    for sentence in left_out:
        tell(sentence)
    evaluation = Evaluation(codec, args.data, args.opus, args.speech, args.every)
    _measure(evaluation, args)
    lines = [table(evaluation.scores), "", usage_line(evaluation.usage()), *(f"{line}." for line in left_out)]
    text = "\n".join(lines)
    if output is not None:
        output.file.write(f"{text}\n".encode())
        output.commit()
    print(_json(evaluation, left_out) if args.json else text)
    return 0
