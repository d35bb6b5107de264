"""``streamcodec mic``: hear yourself through a codec, live."""

import contextlib
import json
import math
import os
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch

from ..codecs import Codec
from ..errors import InputError
from ..files import NewFile
from ..live import RoundTrip, SoundHost, describe_devices
from ..live import run as run_live
from ..live.devices import choose
from ..live.keys import Keys
from ..live.line import Line
from ..live.recorder import FORMATS, Recorder
from .ends import new_output, output_format, takes_stdout
from .running import open_codec
from .signals import told_by_signals
from .telling import tell

__all__ = ["run"]

BLOCK = 0.005  # seconds of a device's block: Python's callbacks keep up, and a frame is two to four of them
REDRAW = 0.2  # seconds between two status lines on a terminal
PLAIN = 2.0  # and elsewhere
QUIETEST = 1e-5  # -100 dB


def run(args: Namespace) -> int:
    """Run the command."""
    if args.list_devices:
        print("\n".join(describe_devices()) or "no sound devices")
        return 0
    _check(args)
    with contextlib.ExitStack() as stack:
        return _run(args, _outputs(args, stack))


def _run(args: Namespace, outputs: "list[NewFile | None]") -> int:
    torch.set_num_threads(1)  # a step is too little work to share, and the callbacks need a core
    codec = open_codec(args.codec, args)
    microphone = choose("input", args.input, codec.spec, args.rate)
    speaker = choose("output", args.output, codec.spec, args.rate)
    line = Line(
        codec,
        bandwidth=codec.spec.resolve(args.bandwidth, args.codebooks),
        frames=args.frames,
        input_rate=microphone.rate,
        output_rate=speaker.rate,
        input_channels=microphone.channels,
        output_channels=speaker.channels,
    )
    blocks = [args.block or round(BLOCK * device.rate) for device in (microphone, speaker)]
    host = SoundHost(microphone, speaker, input_block=blocks[0], output_block=blocks[1])
    trip = RoundTrip(line, input_block=blocks[0], output_block=blocks[1])
    codec.warm_up(args.frames)
    tell(f"{codec.spec.name} from {microphone.name} ({microphone.rate} Hz) to {speaker.name} ({speaker.rate} Hz)")
    tell("use headphones: a speaker that the microphone hears will howl")
    since, told = time.monotonic(), threading.Event()
    with told_by_signals(told.set):  # no exception, which would break off a recording wherever that stands
        with contextlib.ExitStack() as stack, Keys() as keys:
            played = _recorders(outputs, line, stack)
            display = _Display(trip, codec, keys, told)
            reopened = run_live(trip, host, seconds=args.seconds, tick=display.tick, say=display.say, played=played)
            display.finish()
        _report(args, trip, codec, (microphone, speaker), time.monotonic() - since, reopened)
    if host.abandoned:
        # A stream that does not close holds a thread of the sound library, which can keep the interpreter from ending.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def _check(args: Namespace) -> None:
    for name, low, high in (("rate", 4000, 384000), ("block", 1, 65536), ("seconds", 0.1, math.inf)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name} {value:g} cannot be used; it must be {low:g} to {high:g}")


def _outputs(args: Namespace, stack: contextlib.ExitStack) -> "list[NewFile | None]":
    """Where the microphone and the speaker are recorded; refused before anybody speaks."""
    paths = [args.record_input, args.record_output]
    if None not in paths and len({os.path.realpath(path) for path in paths}) == 1:
        raise InputError(f"--record-input and --record-output are both {paths[0]}; they need a file each")
    for path in filter(None, paths):
        output_format(path, FORMATS)
        if takes_stdout(path):
            raise InputError(f"{path} is standard output, which has the result; record to a file")
    return [path and stack.enter_context(new_output(path, args.force)) for path in paths]


def _recorders(
    outputs: "list[NewFile | None]", line: Line, stack: contextlib.ExitStack
) -> Callable[[Any], object] | None:
    """Open what is to be recorded; the function that takes what was played, if that is."""
    if outputs[0] is not None:
        heard = Recorder(outputs[0], line.spec.sample_rate, line.spec.channels)
        stack.callback(heard.close)
        line.heard = heard.write
    if outputs[1] is None:
        return None
    spoken = Recorder(outputs[1], line.output_rate, line.output_channels)
    stack.callback(spoken.close)
    return spoken.write


def _decibels(level: float) -> str:
    return f"{20 * math.log10(max(level, QUIETEST)):4.0f} dB"


class _Display:
    """The status line and the keys. told: set when it is to end."""

    def __init__(self, trip: RoundTrip, codec: Codec, keys: Keys, told: threading.Event) -> None:
        self._trip, self._spec, self._keys, self._told = trip, codec.spec, keys, told
        self._live = sys.stderr.isatty()
        self._every = REDRAW if self._live else PLAIN
        self._next, self._width = time.monotonic(), 0
        if keys.available:
            tell("keys: + and - bandwidth, m mute, q quit")

    def tick(self) -> bool:
        """Act on keys and show the line when it is due; whether to end."""
        ended = [self._act(key) for key in self._keys.pressed()]
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            self._show(self._line())
        return any(ended) or self._told.is_set()

    def _act(self, key: str) -> bool:
        line, offered = self._trip.line, self._spec.bandwidths
        place = offered.index(line.bandwidth)
        if key == "+":
            line.bandwidth = offered[min(place + 1, len(offered) - 1)]
        elif key == "-":
            line.bandwidth = offered[max(place - 1, 0)]
        elif key == "m":
            self._trip.playout.muted = not self._trip.playout.muted
        return key == "q"

    def _line(self) -> str:
        trip, (heard, spoken) = self._trip, self._trip.take_levels()
        delay, line = trip.take_delay(), trip.line
        step = line.seconds / max(1, line.steps)
        parts = [
            f"in {_decibels(heard)}",
            "out  muted" if trip.playout.muted else f"out {_decibels(spoken)}",
            f"{line.bandwidth:g} kbps",
            "delay -" if delay is None else f"delay {delay.total:.0f} ms",
            f"underruns {trip.playout.underruns}",
            f"step {1000 * step:.1f} of {1000 * line.step / self._spec.sample_rate:.1f} ms",
        ]
        if trip.input.lost:
            parts.append(f"too slow: {trip.input.lost / line.input_rate:.1f} s lost")
        return " | ".join(parts)

    def _show(self, text: str) -> None:
        if self._live:
            print(f"\r{text:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def say(self, sentence: str) -> None:
        """A sentence on a line of its own."""
        self.finish()
        tell(sentence)

    def finish(self) -> None:
        """End the status line."""
        if self._live and self._width:
            print(file=sys.stderr)
            self._width = 0


def _report(
    args: Namespace, trip: RoundTrip, codec: Codec, devices: tuple[Any, Any], seconds: float, reopened: int
) -> None:
    figures = {
        "codec": codec.spec.name,
        "seconds": seconds,
        **{device.kind: {"name": device.name, "rate": device.rate, "channels": device.channels} for device in devices},
        "reopened": reopened,
        **trip.figures(),
    }
    if args.json:
        print(json.dumps(figures))
        return
    delay = trip.mean_delay()
    shown = "not measured" if delay is None else f"{delay.total:.0f} ms"
    print(
        f"{seconds:.1f} s | delay {shown} | underruns {figures['underruns']} | opened again {reopened} times | "
        f"real-time factor {figures['real_time_factor']:.3f}"
    )
