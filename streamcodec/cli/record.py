"""``streamcodec record``: what is heard, as codes in a file that can be read while it grows."""

import json
import sys
import threading
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import numpy as np
import torch

from ..audio import Samples
from ..codecs import Codec
from ..codesfile.scx import ScxWriter, header_of
from ..entropy import find_model
from ..errors import InputError
from ..files import GrowingFile
from ..int16 import INT16_SCALE
from ..live.devices import choose
from ..live.keys import Keys
from ..live.line import mixed
from ..live.one_way import Microphone
from ..resample import Resampler
from .ends import STANDARD, output_format, takes_stdout
from .running import open_codec
from .signals import told_by_signals
from .telling import tell

__all__ = ["run"]

STEP = 0.1  # seconds that are encoded at a time


def _notes(args: Namespace) -> dict[str, str]:
    for note in args.note:
        if "=" not in note:
            raise InputError(f"--note {note!r}: it must be NAME=TEXT")
    return dict(note.split("=", 1) for note in args.note)


def run(args: Namespace) -> int:
    """Run the command."""
    output_format(args.output, ("scx",))
    notes, stdout = _notes(args), takes_stdout(args.output)
    if stdout and args.json:
        raise InputError(f"--json and the output {args.output}: both want standard output; leave one of them out")
    if args.append and args.force:
        raise InputError("--append keeps the file and --force replaces it; leave one of them out")
    existing = "append" if args.append else "replace" if args.force else "refuse"
    name = sys.stdout.buffer if args.output == STANDARD else args.output
    torch.set_num_threads(1)  # a step is too little work to share
    with GrowingFile(name, existing) as output:  # type: ignore[arg-type]
        codec = open_codec(args.codec, args)
        bandwidth = codec.spec.resolve(args.bandwidth, args.codebooks)
        header = header_of(codec, bandwidth=bandwidth, start="primed", source=args.codec or "", metadata=notes)
        entropy = None if args.entropy is None else find_model(args.entropy or None, args.codec)
        with ScxWriter(output, header, block_seconds=args.block_seconds, entropy=entropy) as writer:
            heard = _record(codec, bandwidth, writer, args)
    result = {"codec": codec.spec.name, "output": args.output, "seconds": heard / codec.spec.sample_rate}
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{result['seconds']:.2f} s in {args.output}", file=sys.stderr if stdout else sys.stdout)
    return 0


def _record(codec: Codec, bandwidth: float, writer: ScxWriter, args: Namespace) -> int:
    """Until it is told to end; samples that were heard."""
    spec, told = codec.spec, threading.Event()
    encoder = codec.open_encoder(bandwidth=bandwidth, start="primed")
    codec.warm_up(1)
    most = None if args.seconds is None else round(args.seconds * spec.sample_rate)
    with ExitStack() as stack:
        blocks = _blocks(codec, args, stack)
        stack.enter_context(told_by_signals(told.set))
        keys = stack.enter_context(Keys())
        for samples in _until(blocks, told, most):
            encoder.bandwidth, ended = _pressed(keys, encoder.bandwidth, spec.bandwidths)
            writer.append(encoder.push(samples[None]))
            if ended:
                break
        writer.append(encoder.flush())
    return writer.length


def _pressed(keys: Keys, bandwidth: float, offered: tuple[float, ...]) -> tuple[float, bool]:
    """The bandwidth after the keys + and -, and whether q was pressed."""
    ended = False
    for key in keys.pressed():
        place = offered.index(bandwidth) + {"+": 1, "-": -1}.get(key, 0)
        bandwidth, ended = offered[min(max(place, 0), len(offered) - 1)], ended or key == "q"
    return bandwidth, ended


def _until(blocks: Iterable[Samples], told: threading.Event, most: int | None) -> Iterator[Samples]:
    """The blocks, as long as nobody wants an end, up to so many samples."""
    count = 0
    for samples in blocks:
        left = samples.shape[1] if most is None else most - count
        yield samples[:, :left]
        count += samples.shape[1]
        if told.is_set() or (most is not None and count >= most):
            return


def _blocks(codec: Codec, args: Namespace, stack: ExitStack) -> Iterator[Samples]:
    spec = codec.spec
    step = round(STEP * spec.sample_rate)
    if args.input == STANDARD:
        return _raw(args.rate or spec.sample_rate, args.channels, spec.sample_rate, spec.channels)
    device = choose("input", args.input, spec, args.rate)
    microphone: Microphone = stack.enter_context(Microphone(device, spec.sample_rate, spec.channels))
    tell(f"{spec.name} from {device.name} ({device.rate} Hz); Ctrl-C ends the recording")
    stack.callback(_say_troubles, microphone)
    return microphone.blocks(step)


def _say_troubles(microphone: Microphone) -> None:
    if microphone.troubles:
        tell(f"{microphone.device.name} lost samples {microphone.troubles} times: this machine was busy")


def _raw(rate: int, channels: int, target: int, target_channels: int) -> Iterator[Samples]:
    """Raw s16le samples of standard input, until it ends."""
    if not 4000 <= rate <= 384_000:
        raise InputError(f"--rate {rate} cannot be used; it must be 4000 to 384000")
    resampler, size = Resampler(rate, target, target_channels), 2 * channels * round(STEP * rate)
    while data := sys.stdin.buffer.read(size):
        whole = len(data) - len(data) % (2 * channels)
        rows = np.frombuffer(data[:whole], "<i2").reshape(-1, channels).astype(np.float32) * INT16_SCALE
        yield resampler.push(mixed(rows, target_channels).T)
