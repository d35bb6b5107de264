"""``streamcodec cut`` and ``cat``: .scx files as other ones; and what the commands that read them share."""

import contextlib
import json
import re
from argparse import Namespace

from ..codesfile.scx import ScxReader, cut, join
from ..entropy import find_model
from ..errors import InputError
from .ends import input_of, output_format
from .running import open_codec, result_output
from .telling import tell

__all__ = ["announce_damage", "describe", "run", "span"]

TIME = re.compile(r"(-)?(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)")


def _seconds(text: str | None, option: str, reader: ScxReader) -> float | None:
    """A time in the file, as an option has it. Raises InputError."""
    if text is None:
        return None
    found = TIME.fullmatch(text)
    if found is None or len(text) > 20:
        raise InputError(
            f"{option} {text!r} is no time; give seconds, M:S or H:M:S, such as 90, 1:30 or 0:01:30.5, or with a minus "
            "sign the time before the end"
        )
    minus, hours, minutes, rest = found.groups()
    time = 3600 * int(hours or 0) + 60 * int(minutes or 0) + float(rest)
    return max(0.0, reader.seconds - time) if minus else time


def span(args: Namespace, reader: ScxReader) -> tuple[float, float | None]:
    """What --from and --to say. Raises InputError."""
    start, end = _seconds(args.start_time, "--from", reader) or 0.0, _seconds(args.end, "--to", reader)
    if end is not None and end <= start:
        raise InputError(f"--to {args.end} is not after --from {args.start_time or 0}")
    return start, end


def announce_damage(reader: ScxReader) -> None:
    """Say on stderr what of a file could not be read."""
    if reader.damaged:
        tell(f"{reader.path}: {reader.damaged} bytes are damaged; the frames in them are missing")


def describe(name: str, as_json: bool) -> int:
    """What ``info`` tells of a .scx file."""
    with ScxReader(input_of(name)) as reader:
        header = reader.header
        facts = {
            "codec": header.codes.codec, "source": header.codes.source, "fingerprint": header.codes.fingerprint,
            "created": header.created, "seconds": reader.seconds, "closed": reader.closed,
            "bandwidth": header.codes.bandwidth, "sample_rate": header.codes.sample_rate, "pre_roll": header.pre_roll,
            "pre_roll_exact": header.pre_roll_exact, "metadata": header.metadata,
        }  # fmt: skip
    if as_json:
        print(json.dumps(facts))
        return 0
    notes = {f"note {key}": value for key, value in header.metadata.items()}
    rows = {key: value for key, value in facts.items() if key != "metadata"} | notes
    width = max(map(len, rows))
    for key, value in rows.items():
        shown = f"{value:.2f}" if key == "seconds" else value
        print(f"{key.replace('_', ' '):<{width}}  {'' if shown is None else shown}")
    return 0


def run(args: Namespace) -> int:
    """Run ``cut`` or ``cat``."""
    names = args.inputs if hasattr(args, "inputs") else [args.input]
    output_format(args.output, ("scx",))
    with contextlib.ExitStack() as stack:
        model = None if args.entropy is None else find_model(args.entropy)
        readers = [stack.enter_context(ScxReader(input_of(name), model)) for name in names]
        with result_output(args, args.output, names) as output:
            if hasattr(args, "inputs"):
                writer = join(readers, output)
            else:
                pre_roll = None if args.codec is None else open_codec(args.codec, args).pre_roll.frames
                writer = cut(readers[0], output, *span(args, readers[0]), pre_roll=pre_roll)
        for reader in readers:
            announce_damage(reader)
    rate = writer.header.codes.sample_rate
    result = {"input": names, "output": args.output, "samples": writer.place, "seconds": writer.place / rate}
    if args.json:
        print(json.dumps(result))
    else:
        tell(f"{result['seconds']:.2f} s")
    return 0
