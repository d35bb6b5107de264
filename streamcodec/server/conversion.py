"""Between the client's samples and the codec's, and from what an engine gives to packets."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..continuing import Gaps
from ..protocol import Agreement, CodecFacts, Delay, Delays, PcmFormat
from ..protocol.samples import from_wire, to_float
from ..resample import Resampler
from .voice import Frames

__all__ = ["FramePackets", "Inlet", "Outlet", "delays"]

Array = NDArray[Any]

MAX_COUNT = 32_768  # samples a packet at most; the header could say 65,535
Samples = NDArray[np.float32]


def mixed(samples: Array, channels: int) -> Array:
    """[any, n] as [channels, n]: averaged to mono, mono copied."""
    found = samples.shape[0]
    if found == channels:
        return samples
    if channels == 1:
        return samples.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.repeat(samples[:1], channels, axis=0)


class Inlet:
    """A client's samples as the codec takes them. Where some are missing the sound goes on, and fades.

    An engine takes int16 too. So samples with which nothing is to be done pass as they are, and only when some are
    missing are the last ones looked at.
    """

    def __init__(self, pcm: PcmFormat, codec: CodecFacts) -> None:
        self.resampler = Resampler(pcm.sample_rate, codec.sample_rate, codec.channels)
        self._gaps = Gaps(pcm.sample_rate, self.resampler.channels)
        self._as_is = _alike(pcm, codec)
        self._passed: deque[Array] = deque()  # the last that did, as many as count before a gap
        self._passed_count = 0

    @property
    def concealed(self) -> int:
        """Samples in which the sound went on; the rest of what was missing was silence."""
        return self._gaps.concealed

    def push(self, rows: Array) -> Array:
        """[n, channels of the client] int16 or float32, at its rate; what is final at the codec's rate, [C, m]."""
        if self._as_is and not self._gaps.joining:
            self._passed.append(rows)
            self._passed_count += len(rows)
            while self._passed_count - len(self._passed[0]) >= self._gaps.size:
                self._passed_count -= len(self._passed.popleft())
            return self.resampler.push(rows.T)
        self._look()
        return self.resampler.push(self._heard(rows))

    def missing(self, count: int) -> Samples:
        """As `push`, for `count` samples that did not come."""
        self._look()
        return self.resampler.push(self._gaps.gap(count).T)

    def finish(self) -> Samples:
        """The rest of the stream; the next push begins another."""
        self._forget()
        self._gaps.restart()
        return self.resampler.finish()

    def _look(self) -> None:
        """Tell of what has passed."""
        for rows in self._passed:
            self._heard(rows)
        self._forget()

    def _heard(self, rows: Array) -> Samples:
        return self._gaps.push(mixed(from_wire(rows), self.resampler.channels).T).T

    def _forget(self) -> None:
        self._passed.clear()
        self._passed_count = 0


class Outlet:
    """The codec's samples as a client takes them, in packets.

    samples: of a packet, at the codec's rate, at least. start: of the first sample in the stream, at the codec's rate.
    takes_int16: whether the codec's samples may come as the client gets them, since nothing is to be done with them.
    """

    def __init__(self, pcm: PcmFormat, codec: CodecFacts, samples: int, start: int = 0) -> None:
        self.channels = pcm.channels
        self.takes_int16 = pcm.format == "s16le" and _alike(pcm, codec)
        self.resampler = Resampler(codec.sample_rate, pcm.sample_rate, codec.channels)
        self._least = samples
        self._held: list[Array] = []
        self._count = 0
        self.index = self.resampler.length(start)  # of the next sample that comes out

    def push(self, audio: Array) -> list[Array]:
        """[C, n] at the codec's rate; packets' samples, [channels of the client, m]."""
        if self._held or audio.shape[1] < self._least:
            self._held.append(audio)
            self._count += audio.shape[1]
            if self._count < self._least:
                return []
            audio = self._take()
        return self._cut(self.resampler.push(audio))

    def finish(self, length: int | None = None) -> list[Array]:
        """The rest of the stream: at least one packet's samples, which may be none. Then another stream begins.

        length: samples of the stream at the codec's rate, where the client said: what is beyond them is cut off, if it
        was not sent before.
        """
        rest = np.concatenate([self.resampler.push(to_float(self._take())), self.resampler.finish()], axis=1)
        if length is not None:
            rest = rest[:, : max(0, self.resampler.length(length) - self.index)]
        return self._cut(rest) or [np.zeros((self.channels, 0), np.float32)]

    def restart(self) -> None:
        """After `finish`."""
        self.index = 0

    def _take(self) -> Array:
        held, self._held, self._count = self._held, [], 0
        if len(held) == 1:
            return held[0]
        return np.concatenate(held, axis=1) if held else np.zeros((self.resampler.channels, 0), np.float32)

    def _cut(self, samples: Array) -> list[Array]:
        count = samples.shape[1]
        self.index += count
        if samples.shape[0] != self.channels:
            samples = mixed(samples, self.channels)
        if 0 < count <= MAX_COUNT:
            return [samples]
        return [samples[:, start : start + MAX_COUNT] for start in range(0, count, MAX_COUNT)]


class FramePackets:
    """Frames of codes in packets of `frames` each; a packet is shorter where the number of codebooks changes."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._held: list[Frames] = []
        self.count = 0  # frames held

    def push(self, frames: Frames) -> list[Frames]:
        """The packets that are full now."""
        if self._frames == 1 and frames.codes.shape[1] == 1:
            return [frames]
        packets = []
        if self._held and self._held[0].codes.shape[0] != frames.codes.shape[0]:
            packets.append(self.take())
        self._held.append(frames)
        self.count += frames.codes.shape[1]
        while self.count >= self._frames:
            joined = self.take()
            packets.append(part(joined, 0, self._frames))
            if joined.codes.shape[1] > self._frames:
                rest = part(joined, self._frames, joined.codes.shape[1])
                self._held, self.count = [rest], rest.codes.shape[1]
        return packets

    def take(self) -> Frames:
        """What is held, taken out; at least one piece must be held."""
        held, self._held, self.count = self._held, [], 0
        if len(held) == 1:
            return held[0]
        scales = [frames.scale for frames in held if frames.scale is not None]
        return Frames(
            np.concatenate([frames.codes for frames in held], axis=1), np.concatenate(scales) if scales else None
        )


def part(frames: Frames, start: int, stop: int) -> Frames:
    """Frames from `start` to `stop`."""
    return Frames(frames.codes[:, start:stop], None if frames.scale is None else frames.scale[start:stop])


def no_frames(codebooks: int, scaled: bool) -> Frames:
    """For a last packet that holds no frames."""
    return Frames(np.zeros((codebooks, 0), np.uint16), np.zeros(0, np.float32) if scaled else None)


def _alike(pcm: PcmFormat, codec: CodecFacts) -> bool:
    """Whether the client's samples are the codec's, at its rate and in its channels."""
    return (pcm.sample_rate, pcm.channels) == (codec.sample_rate, codec.channels)


def delays(agreement: Agreement) -> Delays:
    """What `welcome` tells: where the time goes."""
    codec, pcm, rate = agreement.codec, agreement.pcm, agreement.codec.sample_rate
    encodes = agreement.takes == "pcm"
    decodes = agreement.gives == "pcm"
    found: dict[str, Delay | None] = {
        "framing": _delay(agreement.hello.frames_per_packet * codec.hop_length, rate),
        "encoder": _delay(codec.encoder_delay, rate) if encodes else None,
        "decoder": _delay(codec.decoder_delay, rate) if decodes else None,
        "resampler_in": None,
        "resampler_out": None,
    }
    if pcm is not None and encodes:
        found["resampler_in"] = _delay(Resampler(pcm.sample_rate, rate, 1).delay, pcm.sample_rate)
    if pcm is not None and decodes:
        back = Resampler(rate, pcm.sample_rate, 1)
        found["resampler_out"] = _delay(round(back.delay * pcm.sample_rate / rate), pcm.sample_rate)
    total = sum(delay.ms for delay in found.values() if delay is not None)
    return Delays(**found, total_ms=round(total, 3))


def _delay(samples: int, rate: int) -> Delay:
    return Delay(samples=samples, ms=round(1000 * samples / rate, 3))
