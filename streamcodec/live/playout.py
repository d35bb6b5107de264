"""What the speaker gets: a cushion of samples that takes up jitter, and no clicks where it fails."""

from dataclasses import dataclass

import numpy as np

from .ring import Ring, Rows

__all__ = ["FADE_SECONDS", "Playout", "PlayoutEvent"]

FADE_SECONDS = 0.005  # long enough not to click (its spectrum is below 200 Hz), too short to be heard as a fade
FIRST_MARGIN = 0.010  # seconds for late threads: a desktop's scheduler has 1 to 4 ms slices
MORE_MARGIN = 0.010  # added by every underrun
MOST_MARGIN = 0.4  # beyond this a conversation is lost anyway, and the computer is too slow
WINDOW = 5.0  # seconds over which the cushion must never have been needed before it is cut
MOST_EVENTS = 10000  # kept, so that memory is bounded


@dataclass(frozen=True)
class PlayoutEvent:
    """From sample `position` of what was played on, the samples are those from `source` on of what was written.

    kind: "start" after a wait, "drop" where waiting samples were left out, and "stop" where silence begins. The first
    `FADE_SECONDS` after each are faded.
    """

    kind: str
    position: int
    source: int


class Fader:
    """A gain that goes between 0 and 1 in steps of one sample, over any number of blocks."""

    def __init__(self, length: int, at: int) -> None:
        self.length, self.at, self.rising = length, at, True
        self._up = (np.arange(1, length + 1, dtype=np.float32) / length)[:, None]
        self._down = np.ascontiguousarray(1 - self._up)

    def apply(self, out: Rows) -> None:
        """Multiply a block in place."""
        if self.rising:
            count = min(len(out), self.length - self.at)
            out[:count] *= self._up[self.at : self.at + count]
            self.at += count
        else:
            count = min(len(out), self.at)
            start = self.length - self.at
            out[:count] *= self._down[start : start + count]
            out[count:] = 0
            self.at -= count

    def cross(self, old: Rows, new: Rows) -> None:
        """`new` becomes the blend from `old` to itself at the place where a rising fader is."""
        count = len(new)
        new *= self._up[self.at : self.at + count]
        old *= self._down[self.at : self.at + count]
        new += old
        self.at += count


class Playout:
    """Fills the speaker's blocks from a ring, and waits with silence until the ring holds a cushion.

    rate: Hz; burst: samples that the ring gets at a time; blocks: samples by which a burst can come late because the
    devices hand over whole blocks.

    The cushion right after a burst must last until the next one: burst + blocks + margin samples. Where it did not, the
    last sample fades out, playing stops, the margin grows, and playing fades in when the new cushion is there. Where
    for `WINDOW` seconds there was always more than a whole cushion (a stall is over, or the speaker's clock is slower
    than the microphone's), the surplus is left out under a crossfade.
    """

    def __init__(self, ring: Ring, rate: int, burst: int, blocks: int) -> None:
        self.ring, self.rate = ring, rate
        self.position = 0  # samples played, silence included
        self.underruns = self.drops = self.silence = 0
        self.events: list[PlayoutEvent] = []
        self.playing = False
        self._needed, self._margin = burst + blocks, round(FIRST_MARGIN * rate)
        fade = max(1, round(FADE_SECONDS * rate))
        self._gain, self._mute = Fader(fade, 0), Fader(fade, fade)
        self._cross, self._drop = Fader(fade, fade), 0
        self._old: Rows = np.zeros((fade, ring.channels), np.float32)
        self._last: Rows = np.zeros((1, ring.channels), np.float32)  # the last sample played
        self._tail = self._last.copy()  # the one that fades out
        self._tail_gain = Fader(fade, 0)
        self._tail_gain.rising = False
        self._lowest, self._watched = ring.capacity, 0

    @property
    def target(self) -> int:
        """Samples that the ring must hold before playing begins."""
        return min(self._needed + self._margin, self.ring.capacity)

    @property
    def muted(self) -> bool:
        """Whether silence is played in place of the samples, which are used up all the same."""
        return not self._mute.rising

    @muted.setter
    def muted(self, value: bool) -> None:
        self._mute.rising = not value

    def fill(self, out: Rows) -> None:
        """The speaker's next block, [n, channels]: overwrites all of `out`."""
        fill = self.ring.fill
        if not self.playing and fill >= self.target:
            self._start()
        count = min(len(out), max(0, fill - self._drop)) if self.playing else 0
        self._play(out[:count])
        if self.playing and count < len(out):
            self._stop(count)
        self._pause(out[count:])
        self._mute.apply(out)
        self.position += len(out)
        self._watch(len(out))

    def _start(self) -> None:
        self.playing = True
        self._gain.at = 0
        self._note("start", self.position, self.ring.consumed)
        self._lowest, self._watched = self.ring.capacity, 0

    def _play(self, out: Rows) -> None:
        if not len(out):
            return
        done = self._crossfade(out) if self._drop else 0
        self.ring.read(out[done:])
        self._gain.apply(out)
        if self._tail_gain.at:  # a pause shorter than a fade
            old = self._old[: min(len(out), self._tail_gain.at)]
            old[:] = self._tail
            self._tail_gain.apply(old)
            out[: len(old)] += old
        self._last[0] = out[-1]

    def _crossfade(self, out: Rows) -> int:
        """The part of a block in which samples are left out; its length."""
        count = min(len(out), self._cross.length - self._cross.at)
        self.ring.peek(0, self._old[:count])
        self.ring.peek(self._drop, out[:count])
        self._cross.cross(self._old[:count], out[:count])
        self.ring.skip(count)
        if self._cross.at == self._cross.length:
            self.ring.skip(self._drop)
            self._drop = 0
        return count

    def _stop(self, count: int) -> None:
        self.playing = False
        self.underruns += 1
        self.ring.skip(self._drop if self._drop <= self.ring.fill else 0)
        self._drop = 0
        self._note("stop", self.position + count, self.ring.consumed)
        self._tail[:] = self._last
        self._tail_gain.at = self._tail_gain.length
        self._margin = min(self._margin + round(MORE_MARGIN * self.rate), round(MOST_MARGIN * self.rate))

    def _pause(self, out: Rows) -> None:
        """Silence, after the last sample has faded."""
        self.silence += len(out)
        out[:] = self._tail
        self._tail_gain.apply(out)

    def _watch(self, count: int) -> None:
        """Cut a cushion that has been larger than needed for a whole window."""
        if not self.playing or self._drop:
            return
        self._lowest = min(self._lowest, self.ring.fill)
        self._watched += count
        if self._watched < WINDOW * self.rate:
            return
        if self._lowest > self.target + self._cross.length:
            self._drop, self._cross.at = self._lowest - self._margin - self._cross.length, 0
            self.drops += 1
            self._note("drop", self.position, self.ring.consumed + self._drop)
        self._lowest, self._watched = self.ring.capacity, 0

    def _note(self, kind: str, position: int, source: int) -> None:
        if len(self.events) < MOST_EVENTS:
            self.events.append(PlayoutEvent(kind, position, source))
