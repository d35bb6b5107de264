"""Entropy coding of the packets of codes, in both directions of a session: what each end remembers of each stream."""

from ..entropy import FrameDecoder, FrameEncoder, Predictor
from ..entropy.frames import Coded
from ..errors import CodesError
from ..packet import Array, CodedMessage
from .faults import ProtocolError

__all__ = ["MAX_FRAMES", "Coding"]

MAX_FRAMES = 50  # of a coded packet: to decode one takes time in proportion, some 20 ms of a server's event loop
RESTART_SECONDS = 10.0  # after which a sender begins anew, so that who lost the past need not wait longer


class Coding:
    """The coders of a session. frame_rate: of the codec, in Hz."""

    def __init__(self, predictor: Predictor, frame_rate: float) -> None:
        self._predictor, self._every = predictor, round(RESTART_SECONDS * frame_rate)
        self._encoders: dict[int, FrameEncoder] = {}
        self._since: dict[int, int] = {}  # frames that an encoder coded since its start
        self._decoders: dict[int, FrameDecoder] = {}

    def takes(self, frames: int) -> bool:
        """Whether a packet of so many frames is coded."""
        return 0 < frames <= MAX_FRAMES

    def encode(self, codes: Array, stream: int, anew: bool) -> tuple[Coded, bool]:
        """A packet's codes [K, T], and whether they need nothing before them. anew: they must not."""
        anew = anew or self._since.get(stream, self._every) >= self._every
        if anew:
            self._encoders[stream], self._since[stream] = FrameEncoder(self._predictor), 0
        self._since[stream] += codes.shape[1]
        return self._encoders[stream].encode(codes), anew

    def restart(self) -> None:
        """The peer may have lost the past: the next packet of each stream needs nothing before it."""
        self._since.clear()

    def decode(self, packet: CodedMessage) -> Array:
        """A packet's codes, [K, T] uint16. Raises ProtocolError "bad_coding", and is as before."""
        if not self.takes(packet.frames):
            text = f"a coded packet of {packet.frames} frames; it has 1 to {MAX_FRAMES}"
            raise ProtocolError("bad_coding", text, allowed=[1, MAX_FRAMES])
        decoder = self._decoders.get(packet.stream)
        if packet.restart or decoder is None:
            decoder = FrameDecoder(self._predictor)
        try:
            codes = decoder.decode(packet.coded, packet.codebooks, packet.frames)
        except CodesError as error:
            raise ProtocolError("bad_coding", f"{error}; send a packet that restarts") from None
        self._decoders[packet.stream] = decoder
        return codes.astype("<u2")

    def forget(self, stream: int) -> None:
        """The stream's number may be given to another."""
        for each in (self._encoders, self._since, self._decoders):
            each.pop(stream, None)
