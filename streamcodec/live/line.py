"""The codec between two devices: what comes from the microphone in, what goes to the speaker out."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from ..codecs import Codec
from ..errors import InputError
from ..resample import Resampler
from .ring import Rows

__all__ = ["Line", "mixed"]


class Line:
    """Encoder and decoder stream back to back, in whole steps, with the devices' rates and channel counts.

    codec: bandwidth in kbps (None: its default); frames: of a step.
    input_rate, input_channels, output_rate, output_channels: of the devices.

    Both streams start primed: they wait for nothing. `push` may be called with any number of samples; what comes out in
    all is the codec's streams run on what went in, to the bit, however it was cut: the steps are always the same ones.
    """

    steps: int
    """Steps so far."""
    seconds: float
    """Time spent computing them."""
    bandwidths: list[tuple[int, float]]
    """(step from which on, kbps), one entry for each change."""

    def __init__(
        self,
        codec: Codec,
        *,
        bandwidth: float | None = None,
        frames: int = 1,
        input_rate: int | None = None,
        output_rate: int | None = None,
        input_channels: int | None = None,
        output_channels: int | None = None,
    ) -> None:
        spec = self.spec = codec.spec
        if frames < 1:
            raise InputError(f"a step of {frames} frames; it must be at least 1")
        self.frames, self.step = frames, frames * spec.hop_length
        self.input_rate, self.output_rate = input_rate or spec.sample_rate, output_rate or spec.sample_rate
        self.input_channels, self.output_channels = input_channels or spec.channels, output_channels or spec.channels
        self._encoder = codec.open_encoder(bandwidth=bandwidth, start="primed")
        self._decoder = codec.open_decoder(start="primed", bandwidth=self._encoder.bandwidth)
        self._down = Resampler(self.input_rate, spec.sample_rate, spec.channels)
        self._up = Resampler(spec.sample_rate, self.output_rate, spec.channels)
        self._waiting: Rows = np.zeros((0, spec.channels), np.float32)
        self._wanted = self._encoder.bandwidth
        self.heard: Callable[[Rows], object] | None = None  # called with what each step gives to the codec
        self.steps, self.seconds = 0, 0.0
        self.bandwidths = [(0, self._wanted)]

    @property
    def bandwidth(self) -> float:
        """kbps; set it from any thread, and the next step uses it. Raises BandwidthError for one not on offer."""
        return self._wanted

    @bandwidth.setter
    def bandwidth(self, value: float) -> None:
        self.spec.codebooks(value)
        self._wanted = value

    @property
    def burst(self) -> int:
        """Most samples, at the output's rate, that come at once."""
        samples = max(self.step, self.spec.segment_stride or 0)
        return math.ceil(samples * self.output_rate / self.spec.sample_rate)

    @property
    def resampling(self) -> float:
        """Seconds that both changes of rate withhold."""
        return self._down.delay / self.input_rate + self._up.delay / self.spec.sample_rate

    @property
    def framing(self) -> float:
        """Seconds of the codec's look-ahead, and of a step, which must be whole before it is coded."""
        return (self.spec.encoder_delay + self.spec.decoder_delay + self.step) / self.spec.sample_rate

    def push(self, rows: Rows) -> Rows:
        """Samples from the microphone, [n, input_channels]; returns those for the speaker, [m, output_channels].

        Samples that are not finite, which a driver may give, are taken as silence.
        """
        finite = np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)
        heard = self._down.push(mixed(finite, self.spec.channels).T).T
        self._waiting = np.concatenate([self._waiting, heard])
        parts = [np.zeros((0, self.output_channels), np.float32)]
        while len(self._waiting) >= self.step:
            step, self._waiting = self._waiting[: self.step], self._waiting[self.step :]
            parts.append(mixed(self._up.push(self._run(step).T).T, self.output_channels))
        return np.concatenate(parts)

    def _run(self, step: Rows) -> Rows:
        since = time.perf_counter()
        if self._wanted != self._encoder.bandwidth:
            self._encoder.bandwidth = self._wanted
            self.bandwidths.append((self.steps, self._wanted))
        codes = self._encoder.push(torch.from_numpy(np.ascontiguousarray(step.T))[None])
        pcm: Rows = self._decoder.push(codes)[0].to("cpu", torch.float32).numpy().T
        self.steps += 1
        self.seconds += time.perf_counter() - since
        if self.heard is not None:
            self.heard(step)
        return pcm


def mixed(rows: Rows, channels: int) -> Rows:
    """[n, any] as [n, channels]: averaged to mono, mono copied, and else the first ones, the rest silent."""
    found = rows.shape[1]
    if found == channels:
        return rows
    if channels == 1:
        return rows.mean(axis=1, keepdims=True, dtype=np.float32)
    if found == 1:
        return np.repeat(rows, channels, axis=1)
    out: Rows = np.zeros((len(rows), channels), np.float32)
    shared = min(found, channels)
    out[:, :shared] = rows[:, :shared]
    return out
