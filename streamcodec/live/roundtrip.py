"""The audio path between the callbacks of a microphone and of a speaker, without a sound library or a thread."""

import math
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass

import numpy as np

from .line import Line
from .playout import Playout
from .ring import Ring, Rows

__all__ = ["DelayBudget", "RoundTrip"]

BACKLOG = 0.5  # seconds of input that may wait for the codec: later it is lost, since a conversation would be
TAPE = 4.0  # seconds of what was played that may wait to be recorded
TRACE = 1200  # single delays that are kept: a minute's
BLOCK = 0.02  # seconds: what is taken for a device's block before one was seen


@dataclass(frozen=True)
class DelayBudget:
    """From the microphone's converter to the speaker's, in milliseconds.

    total: measured, by the times that the devices give for the same sample going in and coming out.
    What it is made of, as means: `input`, from the converter to the callback; `resampling`; `codec`, look-ahead and one
    step; `computing`, of a step; `cushion`, waiting for the speaker's callback (less half a step: a step's first sample
    waits for the whole step before it is coded, its last one behind the others afterwards); `output`, from there to the
    converter. `waiting` is the rest, of threads that wait for their turn; about 0.
    """

    total: float
    input: float
    resampling: float
    codec: float
    computing: float
    cushion: float
    output: float
    waiting: float


class RoundTrip:
    """Microphone to codec to speaker.

    line: the codec with the devices' rates; input_block, output_block: samples of the devices' blocks, 0 where they
        choose and change them.

    `on_input` and `on_output` are for the devices' callbacks: they copy samples and do nothing else. `work` runs the
    codec on what has come and is for a thread of its own; `tick` is for the thread that shows figures.
    """

    def __init__(self, line: Line, *, input_block: int = 0, output_block: int = 0) -> None:
        self.line = line
        rates = line.input_rate, line.output_rate
        blocks = [
            block / rate if block else BLOCK for block, rate in zip((input_block, output_block), rates, strict=True)
        ]
        late = math.ceil(sum(blocks) * rates[1])
        step = line.step / line.spec.sample_rate
        self.input = Ring(math.ceil((BACKLOG + 2 * step) * rates[0]), line.input_channels)
        self.output = Ring(3 * line.burst + late + rates[1], line.output_channels)
        self.playout = Playout(self.output, rates[1], line.burst, late)
        self.tape: Ring | None = None
        self.levels = [0.0, 0.0]  # the highest sample since `take_levels`, of input and output
        self.callbacks = {"input": 0.0, "output": 0.0}  # when the last one came, by time.monotonic()
        self.statuses = {"input": 0, "output": 0}  # over- and underflows that the host reported
        self.arrived = threading.Event()
        self._met = (0, 0.0, 0.0)  # sample, when its converter took it, a mean sample's age at the callback
        self._heard: tuple[int, float, float, int] | None = None  # sample, when heard, how long after, cushion
        self._all, self._recent = _Mean(), _Mean()
        self._trace: deque[tuple[int, float]] = deque(maxlen=TRACE)

    # -- callbacks -------------------------------------------------------------------------------------------------

    def on_input(self, rows: Rows, met: float, trouble: bool = False) -> None:
        """A block from the microphone, [n, channels].

        met: when its first sample met the converter, by time.monotonic(); trouble: samples were lost before it.
        """
        now = time.monotonic()
        self.callbacks["input"] = now
        self.statuses["input"] += trouble
        self._met = (self.input.written, met, now - met - len(rows) / (2 * self.line.input_rate))
        self.input.write(rows)
        if len(rows):
            self.levels[0] = max(self.levels[0], float(rows.max()), -float(rows.min()))
        self.arrived.set()

    def on_output(self, out: Rows, heard: float, trouble: bool = False) -> None:
        """The speaker's next block, [n, channels], to be filled. heard: when its first sample meets the converter."""
        now = time.monotonic()
        self.callbacks["output"] = now
        self.statuses["output"] += trouble
        source, fill = self.output.consumed, self.output.fill
        self.playout.fill(out)
        self._heard = (source, heard, heard - now, fill) if self.playout.playing else None
        if self.tape is not None:
            self.tape.write(out)
        if len(out):
            self.levels[1] = max(self.levels[1], float(out.max()), -float(out.min()))

    # -- other threads ---------------------------------------------------------------------------------------------

    def work(self) -> int:
        """Run the codec on all that has come from the microphone; the number of samples that went to the speaker."""
        rows: Rows = np.empty((self.input.fill, self.input.channels), np.float32)
        if not len(rows):
            return 0
        self.input.read(rows)
        done = self.line.push(rows)
        if len(done):
            self.output.write(done)
        return len(done)

    def start_tape(self) -> Ring:
        """From now on what is played is kept in a ring too, for a recording; read it several times a second."""
        self.tape = Ring(math.ceil(TAPE * self.line.output_rate), self.line.output_channels)
        return self.tape

    def take_levels(self) -> tuple[float, float]:
        """The highest sample of input and output since the last call, 1 being full scale."""
        levels = (self.levels[0], self.levels[1])
        self.levels[:] = [0.0, 0.0]
        return levels

    def tick(self) -> DelayBudget | None:
        """Measure the delay of the sample now being played, a few times a second; None while there is silence."""
        heard, met, line = self._heard, self._met, self.line
        if heard is None or not met[1]:
            return None
        source, when, after, fill = heard
        # The speaker's sample is the microphone's at the same time: what the codec and the resamplers give is aligned.
        sample = (source + self.output.lost) * line.input_rate / line.output_rate
        total = when - (met[1] - (met[0] - sample) / line.input_rate)
        cushion = (fill - line.burst / 2) / line.output_rate
        values = (total, met[2], after, cushion)
        self._trace.append((source, 1000 * total))
        self._all.add(values)
        self._recent.add(values)
        return self._delay(values)

    def mean_delay(self) -> DelayBudget | None:
        """The mean over all ticks."""
        return self._delay(self._all.value())

    def take_delay(self) -> DelayBudget | None:
        """The mean over the ticks since the last call."""
        value, self._recent = self._recent.value(), _Mean()
        return self._delay(value)

    def _delay(self, values: tuple[float, ...] | None) -> DelayBudget | None:
        if values is None:
            return None
        total, before, after, cushion = values
        line = self.line
        computing = line.seconds / max(1, line.steps)
        parts = (before, line.resampling, line.framing, computing, cushion, after)
        return DelayBudget(*(1000 * value for value in (total, *parts, total - sum(parts))))

    def figures(self) -> dict[str, object]:
        """Counts so far, for a summary, and the last delays: (sample of what was written for the speaker, ms)."""
        line, playout = self.line, self.playout
        delay = self.mean_delay()
        step = line.seconds / max(1, line.steps)
        return {
            "steps": line.steps,
            "step_frames": line.frames,
            "step_ms": 1000 * step,
            "real_time_factor": step * line.spec.sample_rate / line.step,
            "played": playout.position,
            "silence": playout.silence,
            "underruns": playout.underruns,
            "drops": playout.drops,
            "lost_input": self.input.lost,
            "lost_output": self.output.lost,
            "device_overflows": self.statuses["input"],
            "device_underflows": self.statuses["output"],
            "cushion_target_ms": 1000 * playout.target / line.output_rate,
            "delay_ms": None if delay is None else asdict(delay),
            "delays_ms": list(self._trace),
            "bandwidths": line.bandwidths,
            "events": [[event.kind, event.position, event.source] for event in playout.events],
        }


class _Mean:
    """The mean of tuples of four numbers."""

    def __init__(self) -> None:
        self._sum, self._count = np.zeros(4), 0

    def add(self, values: tuple[float, ...]) -> None:
        self._sum += values
        self._count += 1

    def value(self) -> tuple[float, ...] | None:
        return tuple((self._sum / self._count).tolist()) if self._count else None
