"""Where callbacks come from: the protocol, and PortAudio behind it."""

import atexit
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..errors import DeviceError
from .devices import Device, portaudio
from .ring import Rows

__all__ = ["Callback", "Host", "SoundHost"]

Callback = Callable[
    [Rows, float, bool], None
]  # block [n, channels], when its first sample meets the converter, trouble
PLAUSIBLE = 2.0  # seconds between a callback and its samples' times: some drivers give 0, or the time of another clock
CLOSING = 2.0  # seconds: closing was seen to hang for good in a sound server's plugin


class Host(Protocol):
    """Two devices that call back with blocks."""

    def open(self, on_input: Callback, on_output: Callback) -> None:
        """Start both. Raises DeviceError."""

    def close(self) -> None:
        """Stop both; may be called again, and after a failed `open`."""


class SoundHost:
    """A microphone and a speaker of this machine, each with a stream of its own, since they may be different cards.

    block: samples a callback, or 0 to let PortAudio choose.
    """

    def __init__(self, microphone: Device, speaker: Device, *, input_block: int, output_block: int) -> None:
        self.microphone, self.speaker = microphone, speaker
        self._blocks = input_block, output_block
        self._streams: list[Any] = []
        self._closed_before = False
        self.abandoned = 0
        """Streams that could not be closed within `CLOSING` seconds, and were left alone."""

    def open(self, on_input: Callback, on_output: Callback) -> None:
        """Start both devices. Raises DeviceError."""
        sd = portaudio()
        if self._closed_before and not self.abandoned:
            _look_again(sd)
        try:
            self._streams.append(self._open(sd.InputStream, self.microphone, self._blocks[0], _Input(on_input)))
            self._streams.append(self._open(sd.OutputStream, self.speaker, self._blocks[1], _Output(on_output)))
            for stream in self._streams:
                stream.start()
        except (sd.PortAudioError, ValueError) as error:
            self.close()
            raise DeviceError(
                f"cannot open {self.microphone.name} and {self.speaker.name}: {error}; another program may hold them, "
                "or they were unplugged (see 'streamcodec mic --list-devices')"
            ) from error

    def _open(self, kind: Any, device: Device, block: int, callback: Any) -> Any:
        stream = kind(
            samplerate=device.rate,
            blocksize=block,
            device=device.index,
            channels=device.channels,
            dtype="float32",
            latency="low",
            callback=callback,
        )
        callback.use(stream)
        return stream

    def close(self) -> None:
        """Stop both devices, without waiting for what is still to be played."""
        streams, self._streams = self._streams, []
        for stream in streams:
            # A thread, since a call that hangs cannot be taken back; it dies with the process.
            thread = threading.Thread(target=_close, args=(stream,), daemon=True)
            thread.start()
            thread.join(CLOSING)
            self.abandoned += thread.is_alive()
        self._closed_before = True
        if self.abandoned:
            # sounddevice's own clean-up at exit would wait for the stream that does not close.
            atexit.unregister(portaudio()._exit_handler)


def _close(stream: Any) -> None:
    stream.abort(ignore_errors=True)
    stream.close(ignore_errors=True)


def _look_again(sd: Any) -> None:
    """PortAudio lists the devices once; start it anew, so that one that was plugged in again is found."""
    sd._terminate()
    sd._initialize()


class _Side:
    """A callback as sounddevice has it, with the times of PortAudio's clock put on time.monotonic()."""

    def __init__(self, callback: Callback) -> None:
        self._callback, self._offset, self._latency = callback, 0.0, 0.0

    def use(self, stream: Any) -> None:
        self._offset, self._latency = time.monotonic() - stream.time, float(stream.latency)

    def _placed(self, when: float, sign: int) -> float:
        now = time.monotonic()
        placed = when + self._offset
        return placed if when and abs(placed - now) < PLAUSIBLE else now + sign * self._latency


class _Input(_Side):
    def __call__(self, rows: Any, frames: int, times: Any, status: Any) -> None:
        self._callback(rows, self._placed(times.inputBufferAdcTime, -1), bool(status))


class _Output(_Side):
    def __call__(self, rows: Any, frames: int, times: Any, status: Any) -> None:
        self._callback(rows, self._placed(times.outputBufferDacTime, 1), bool(status))
