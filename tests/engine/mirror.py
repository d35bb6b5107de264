"""A session of an engine beside the single streams that it must equal, given the same calls."""

from typing import Any

import torch
from oracles import signal
from torch import Tensor

from streamcodec import Codes
from streamcodec.codecs import Codec
from streamcodec.engine import Delivery, Engine

Frames = list[tuple[int, ...]]


def frames_of(pieces: list[Codes]) -> Frames:
    """The codes of every frame, as many as it has codebooks."""
    return [tuple(column.tolist()) for piece in pieces for column in piece.data[0].t()]


class Mirror:
    """`engine` may be given later calls through this alone."""

    def __init__(self, engine: Engine, direction: str, bandwidth: float, start: str, seed: int):
        codec = engine.codec
        self.engine, self.direction, self.codec = engine, direction, codec
        self.session = engine.open(direction, bandwidth=bandwidth, start=start, codes=True)
        self.encoder = codec.open_encoder(bandwidth, start=start)
        self.decoder = codec.open_decoder(start=start, bandwidth=bandwidth)
        self.wav = signal(1, codec.spec.channels, 200 * codec.spec.hop_length, seed)
        self.place = 0
        self.expected_codes: list[Codes] = []
        self.expected_audio: list[Tensor] = []
        self.codes: list[Codes] = []
        self.audio: list[Tensor] = []
        self.scales: list[Tensor] = []
        self.done = False

    def feed(self, samples: int) -> None:
        """As many samples, or for a decoder the codes that they give."""
        piece = self.wav[:, :, self.place : self.place + samples]
        self.place += samples
        if self.direction != "decode":
            self.engine.feed(self.session, piece)
        self._codes(self.encoder.push(piece))

    def _codes(self, codes: Codes) -> None:
        if self.direction == "decode":
            self.engine.feed(self.session, codes)
        else:
            self.expected_codes.append(codes)
        if self.direction != "encode":
            self.expected_audio.append(self.decoder.push(codes))

    def change(self, bandwidth: float) -> None:
        if self.direction != "decode":
            self.engine.set_bandwidth(self.session, bandwidth)
        self.encoder.bandwidth = bandwidth

    def flush(self) -> None:
        self._codes(self.encoder.flush())
        if self.direction != "encode":
            self.expected_audio.append(self.decoder.flush())
        self.engine.flush(self.session)

    def take(self, delivery: Delivery) -> None:
        assert delivery.error is None, delivery.error
        assert not self.done, "nothing comes after the end"
        self.codes += delivery.codes
        if delivery.audio is not None:
            assert delivery.audio.shape[2]
            self.audio.append(delivery.audio)
        self.done = delivery.done

    def check(self, tolerance: float) -> None:
        """What came equals the single streams' results; call it when all was delivered."""
        assert self.done
        assert self.session.closed
        if self.direction != "decode":
            assert frames_of(self.codes) == frames_of(self.expected_codes)
            assert sum(piece.length for piece in self.codes) == sum(piece.length for piece in self.expected_codes)
            assert all(piece.length >= 0 for piece in self.codes)
            scales = [_scales(pieces) for pieces in (self.codes, self.expected_codes)]
            torch.testing.assert_close(*scales, rtol=0, atol=tolerance)
        else:
            assert not self.codes
        if self.direction != "encode":
            audio, expected = torch.cat([_nothing(self.codec), *self.audio], 2), torch.cat(self.expected_audio, 2)
            torch.testing.assert_close(audio, expected, rtol=0, atol=tolerance)
        else:
            assert not self.audio


def _scales(pieces: list[Codes]) -> Tensor:
    scales = [piece.scale for piece in pieces if piece.scale is not None]
    return torch.cat([torch.zeros(1, 0).double(), *(scale.double() for scale in scales)], 1)


def _nothing(codec: Codec) -> Tensor:
    return torch.zeros(1, codec.spec.channels, 0, dtype=codec.dtype)


def deliver(mirrors: list[Mirror], deliveries: list[Delivery]) -> None:
    """Every delivery to its session's mirror; there must be one."""
    by_session: dict[Any, Mirror] = {mirror.session: mirror for mirror in mirrors}
    for delivery in deliveries:
        by_session[delivery.session].take(delivery)


def drain(engine: Engine, mirrors: list[Mirror], limit: int = 2000) -> None:
    """Steps until nothing is ready."""
    for _ in range(limit):
        if not engine.ready:
            return
        deliver(mirrors, engine.step())
    raise AssertionError("the engine does not come to rest")
