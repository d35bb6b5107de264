"""A microphone alone, and a speaker alone, for what need not be heard at once: the device is waited for."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from ..errors import DeviceError
from ..resample import Resampler
from .devices import Device, portaudio
from .line import mixed
from .ring import Rows

__all__ = ["Microphone", "Speaker"]


class _OneWay:
    """A device that is open in a `with` statement. rate, channels: of what goes through, Hz; the device has its own."""

    kind = ""

    def __init__(self, device: Device, rate: int, channels: int) -> None:
        self.device, self.rate, self.channels = device, rate, channels
        self.troubles = 0
        """Times that the device lost samples, or had none to play."""

    def __enter__(self) -> Any:
        sd, device = portaudio(), self.device
        try:
            self._stream = getattr(sd, self.kind)(
                samplerate=device.rate, device=device.index, channels=device.channels, dtype="float32", latency="high"
            )
            self._stream.start()
        except (sd.PortAudioError, ValueError) as error:
            raise DeviceError(
                f"cannot open {device.name}: {error}; another program may hold it, or it was unplugged (see "
                "'streamcodec mic --list-devices')"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._stream.stop()  # which plays to the end
        self._stream.close(ignore_errors=True)

    def _asked(self, call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except portaudio().PortAudioError as error:
            raise DeviceError(f"{self.device.name} does not go on: {error}") from error


class Microphone(_OneWay):
    """`blocks` gives what is heard."""

    kind = "InputStream"

    def blocks(self, samples: int) -> Iterator[Rows]:
        """About so many at a time, [C, n], for ever. What is not finite, as drivers may give it, is silence."""
        resampler = Resampler(self.device.rate, self.rate, self.channels)
        count = max(1, samples * self.device.rate // self.rate)
        while True:
            rows, lost = self._asked(self._stream.read, count)
            self.troubles += bool(lost)
            finite = np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)
            yield resampler.push(mixed(finite, self.channels).T)


class Speaker(_OneWay):
    """`play` waits until the device takes more."""

    kind = "OutputStream"

    def __init__(self, device: Device, rate: int, channels: int) -> None:
        super().__init__(device, rate, channels)
        self._resampler = Resampler(rate, device.rate, channels)

    def play(self, samples: Rows) -> None:
        """[C, n]."""
        rows = mixed(self._resampler.push(samples).T, self.device.channels)
        piece = self.device.rate // 10  # so that Ctrl-C does not wait
        for first in range(0, len(rows), piece):
            part = np.ascontiguousarray(np.clip(rows[first : first + piece], -1, 1))
            self.troubles += bool(self._asked(self._stream.write, part))
