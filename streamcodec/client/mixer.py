"""All that is heard at once: a jitter buffer for each speaker, added up."""

import threading
import time
from collections.abc import Callable

import numpy as np

from ..protocol import Missing
from .events import Event, Pcm
from .jitter import JitterBuffer, Rows

__all__ = ["Mixer"]


class Mixer:
    """`take` what a session gives, `pull` what is played; each may be called from a thread of its own.

    rate: Hz; block: samples of a `pull`. buffers: by stream, at most 65,536 as the wire has it; a stream's number is
    used again for another speaker, and so is its buffer.
    """

    def __init__(self, rate: int, channels: int, block: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.channels, self.block, self._clock = rate, channels, block, clock
        self.buffers: dict[int, JitterBuffer] = {}
        self._lock = threading.Lock()

    def take(self, event: Event) -> None:
        """An event of the session: audio, or what is missing of it."""
        if isinstance(event, Pcm):
            buffer = self._buffer(event.stream)
            buffer.push(event.samples)
            if event.last:
                buffer.end()
        elif isinstance(event, Missing):
            self._buffer(event.stream).gap(event.count)

    def pull(self, count: int) -> Rows:
        """The next `count` samples of all together, [count, channels]; may go beyond full scale."""
        with self._lock:
            buffers = list(self.buffers.values())
        out: Rows = np.zeros((count, self.channels), np.float32)
        for buffer in buffers:
            out += buffer.pull(count)
        return out

    @property
    def waiting(self) -> int:
        """Samples that wait in the fullest buffer."""
        return max((buffer.waiting for buffer in list(self.buffers.values())), default=0)

    @property
    def underruns(self) -> int:
        return sum(buffer.underruns for buffer in list(self.buffers.values()))

    @property
    def concealed(self) -> int:
        """Samples of all streams in which what was before them went on."""
        return sum(buffer.concealed for buffer in list(self.buffers.values()))

    def _buffer(self, stream: int) -> JitterBuffer:
        with self._lock:
            if stream not in self.buffers:
                self.buffers[stream] = JitterBuffer(self.rate, self.channels, self.block, self._clock)
            return self.buffers[stream]
