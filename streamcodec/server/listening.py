"""What one listener of a room gets of one speaker, and what it loses when it does not keep up."""

from collections.abc import Callable

from ..protocol import WAY_SHARE, ServerSession
from .conversion import FramePackets, Outlet, no_frames
from .live_session import LiveSession
from .voice import Array, Frames

__all__ = ["CodesListenerStream", "ListenerStream", "Pace", "PcmListenerStream"]

FINE, REDUCE, DROP = 0, 1, 2
# A listener loses codebooks when it lags by so many seconds (an option), and frames at this many times that.
DROP_AT = 3


class Pace:
    """How slow a listener is. heard: streams that come to it; lag: the seconds from which it is slow.

    dropped, reduced: called with what it lost: frames, and packets with fewer codebooks.
    """

    def __init__(
        self, live: LiveSession, lag: float, dropped: Callable[[int], None], reduced: Callable[[], None]
    ) -> None:
        self.heard = 0
        self.dropped, self.reduced = dropped, reduced
        codec, self._bound = live.agreement.codec, live.agreement.hello.max_delay
        self._live = live
        self._limit = lag if self._bound is None else min(lag, self._bound * WAY_SHARE / DROP_AT)
        self._packet = live.agreement.hello.frames_per_packet * codec.hop_length / codec.sample_rate
        self._level = FINE

    def level(self) -> int:
        """FINE, REDUCE or DROP. It has to catch up half of what was too much before it gets more again."""
        live = self._live
        if not live.protocol.writable:
            self._level = DROP
            return DROP
        lag, limit, previous = live.lag * self._packet / max(1, self.heard), self._limit, self._level
        if self._bound is None and (live.catching_up or live.link is None):
            # Gone, or just come back: nothing is lost as long as it can be held for the resume.
            live.catching_up = live.link is None or lag > limit / 2
            self._level = FINE
            return FINE
        reduce_at = limit / 2 if previous >= REDUCE else limit
        drop_at = DROP_AT * (limit / 2 if previous == DROP else limit)
        self._level = DROP if lag > drop_at else REDUCE if lag > reduce_at else FINE
        return self._level


class ListenerStream:
    """One speaker's stream towards one listener."""

    def __init__(self, live: LiveSession, stream: int, pace: Pace) -> None:
        self.stream, self.pace = stream, pace
        self.live = live
        self.protocol: ServerSession = live.protocol
        self.codec = live.agreement.codec
        self.per_packet = live.agreement.hello.frames_per_packet
        self._lacking: int | None = None  # index from which on nothing was sent

    def _lack(self, index: int, frames: int) -> None:
        if self._lacking is None:
            self._lacking = index
        self.pace.dropped(frames)

    def _catch_up(self, index: int) -> None:
        """Tell what was left out, now that its end is known."""
        if self._lacking is not None and index > self._lacking:
            self.protocol.drop(self._lacking, index - self._lacking, self.stream)
        self._lacking = None


class CodesListenerStream(ListenerStream):
    """Codes, in packets of the listener's own size."""

    def __init__(self, live: LiveSession, stream: int, pace: Pace) -> None:
        super().__init__(live, stream, pace)
        self._packets = FramePackets(self.per_packet)
        self._fewer: int | None = None  # codebooks, where a slow listener was told of fewer

    def hear(self, frames: Frames, index: int, most: int) -> None:
        """The speaker's frames from `index` on; most: codebooks that the listener wants."""
        level, count = self.pace.level(), frames.codes.shape[1]
        if level == DROP:
            held = self._packets.count
            if held:
                self._lose(self._packets.take(), most)
            self._lose(frames, most)
            self._lack(index - held, count + held)
            return
        self._catch_up(index)
        depth = self._depth(min(frames.codes.shape[0], most), level, index)
        start = index - self._packets.count
        for packet in self._packets.push(Frames(frames.codes[:depth], frames.scale)):
            self._send(packet, start)
            start += packet.codes.shape[1]

    def _lose(self, frames: Frames, most: int) -> None:
        self.protocol.lose(frames.codes[:most], frames.scale, self.stream)

    def _depth(self, agreed: int, level: int, index: int) -> int:
        depth = min(agreed, self.codec.bandwidth_codebooks[0]) if level == REDUCE else agreed
        fewer = depth if depth < agreed else None
        if fewer != self._fewer:
            self._fewer = fewer
            self.protocol.change_codebooks(depth, index, self.stream, agreed)
        return depth

    def _send(self, packet: Frames, index: int) -> None:
        reduced = packet.codes.shape[0] == self._fewer
        if reduced:
            self.pace.reduced()
        self.protocol.send_codes(packet.codes, scale=packet.scale, stream=self.stream, index=index, reduced=reduced)

    def end(self, frames: int, length: int | None) -> None:
        """The stretch had `frames` frames in all, which stand for `length` samples."""
        self._catch_up(frames)
        index = frames - self._packets.count
        rest = self._packets.take() if self._packets.count else no_frames(1, self.codec.scaled)
        self.protocol.send_codes(
            rest.codes, scale=rest.scale, stream=self.stream, index=index, last=True, length=length
        )


class PcmListenerStream(ListenerStream):
    """Audio that the server decoded, at the listener's rate."""

    def __init__(self, live: LiveSession, stream: int, pace: Pace) -> None:
        super().__init__(live, stream, pace)
        self._outlet: Outlet | None = None
        self._place = 0  # of the next sample, at the codec's rate
        self._index = 0  # of the next sample, at the listener's

    def hear(self, audio: Array, place: int) -> None:
        """Decoded samples [C, n] from `place` on."""
        if self._outlet is None or place != self._place:
            self._begin(place)
        assert self._outlet is not None
        self._place = place + audio.shape[1]
        for samples in self._outlet.push(audio):
            self._send(samples)

    def _begin(self, place: int) -> None:
        pcm = self.live.agreement.pcm
        assert pcm is not None, "who gets PCM has said how"
        self._outlet = Outlet(pcm, self.codec, self.per_packet * self.codec.hop_length, place)
        self._outlet.index = self._index = max(self._index, self._outlet.index)

    def _send(self, samples: Array) -> None:
        count = samples.shape[1]
        if self.pace.level() == DROP:
            rate = self.live.agreement.pcm.sample_rate if self.live.agreement.pcm else 1
            self._lack(self._index, round(count * self.codec.sample_rate / rate / self.codec.hop_length))
        else:
            self._catch_up(self._index)
            self.protocol.send_pcm(samples, stream=self.stream, index=self._index)
        self._index += count

    def end(self, length: int | None) -> None:
        """All of the stretch was heard; length: its samples at the codec's rate."""
        if self._outlet is None:
            self._begin(0)
        assert self._outlet is not None
        *packets, last = self._outlet.finish(length)
        for samples in packets:
            self._send(samples)
        self._catch_up(self._index)
        self.protocol.send_pcm(last, stream=self.stream, index=self._index, last=True)
        self._outlet, self._place, self._index = None, 0, 0
