"""Opus packet by packet, through libopus itself, for what opusenc and opusdec cannot do: packets that are lost."""

import ctypes
import ctypes.util
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import AudioError, InputError
from .loss import Loss, lost_packets
from .recording import Decoded, Recording, at_rate, fitted

__all__ = ["PACKET_SECONDS", "LossyOpus", "missing_library"]

PACKET_SECONDS = 0.02
RATES = (8000, 12000, 16000, 24000, 48000)  # Hz, that Opus takes
MOST_BYTES = 1275  # of a packet of one frame (RFC 6716, section 3.4)
# opus_defines.h
APPLICATION_VOIP = 2048
SET_BITRATE, SET_INBAND_FEC, SET_PACKET_LOSS_PERC, GET_LOOKAHEAD = 4002, 4012, 4014, 4027


def missing_library() -> str:
    """Why there is no libopus here; empty where there is (Debian: apt install libopus0)."""
    return "" if ctypes.util.find_library("opus") else "libopus (Debian: libopus0)"


@functools.cache
def _library() -> Any:
    library = ctypes.CDLL(ctypes.util.find_library("opus"))
    pointer, number, samples = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_float)
    library.opus_encoder_create.argtypes = [ctypes.c_int32, number, number, ctypes.POINTER(number)]
    library.opus_decoder_create.argtypes = [ctypes.c_int32, number, ctypes.POINTER(number)]
    library.opus_encoder_create.restype = library.opus_decoder_create.restype = pointer
    library.opus_encoder_destroy.argtypes = library.opus_decoder_destroy.argtypes = [pointer]
    library.opus_encoder_ctl.argtypes = [pointer, number]  # and one more, as the request has it
    library.opus_encode_float.argtypes = [pointer, samples, number, ctypes.c_char_p, ctypes.c_int32]
    library.opus_decode_float.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int32, samples, number, number]
    return library


def _checked(code: int) -> int:
    if code < 0:
        raise AudioError(f"libopus failed with the error {code}")
    return code


def _pointer(samples: np.ndarray) -> Any:
    return samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _created(create: Any, *args: int) -> Any:
    error = ctypes.c_int()
    made = create(*args, ctypes.byref(error))
    _checked(error.value)
    return made


def _encoded(wav: np.ndarray, rate: int, kbps: float, loss: Loss) -> tuple[list[bytes], int]:
    """The packets of [N] at `rate`, with Opus's own FEC for that loss; and its delay in samples."""
    library, size = _library(), round(PACKET_SECONDS * rate)
    encoder = _created(library.opus_encoder_create, rate, 1, APPLICATION_VOIP)
    try:
        delay = ctypes.c_int32()
        for request, value in (
            (SET_BITRATE, ctypes.c_int32(round(1000 * kbps))),
            (SET_INBAND_FEC, ctypes.c_int32(1)),
            (SET_PACKET_LOSS_PERC, ctypes.c_int32(round(100 * loss.share))),
            (GET_LOOKAHEAD, ctypes.byref(delay)),
        ):
            _checked(library.opus_encoder_ctl(encoder, request, value))
        padded = fitted(wav, -(-(len(wav) + delay.value) // size) * size).astype(np.float32)
        packets = []
        for begin in range(0, len(padded), size):
            out = ctypes.create_string_buffer(MOST_BYTES)
            frame = np.ascontiguousarray(padded[begin : begin + size])
            count = _checked(library.opus_encode_float(encoder, _pointer(frame), size, out, MOST_BYTES))
            packets.append(out.raw[:count])
        return packets, delay.value
    finally:
        library.opus_encoder_destroy(encoder)


def _decoded(packets: Sequence[bytes], lost: np.ndarray, rate: int) -> np.ndarray:
    """[N] at `rate`: what is lost by the next packet's FEC where that came, else by Opus's concealment."""
    library, size = _library(), round(PACKET_SECONDS * rate)
    decoder = _created(library.opus_decoder_create, rate, 1)
    out = np.zeros((len(packets), size), np.float32)
    try:
        for place, packet in enumerate(packets):
            use_fec = 0
            data: bytes | None = packet
            if lost[place]:
                follows = place + 1 < len(packets) and not lost[place + 1]
                data, use_fec = (packets[place + 1], 1) if follows else (None, 0)
            count = 0 if data is None else len(data)
            _checked(library.opus_decode_float(decoder, data, count, _pointer(out[place]), size, use_fec))
    finally:
        library.opus_decoder_destroy(decoder)
    return out.ravel()


class LossyOpus:
    """Opus at nominal bitrates in kbps, with its own FEC and concealment, over links that lose packets of 20 ms."""

    def __init__(self, rates: Sequence[float], losses: Sequence[Loss]):
        if bad := [rate for rate in rates if not 6 <= rate <= 256]:
            raise InputError(f"Opus at {bad[0]:g} kbps: it has 6 to 256 kbps for one channel")
        self.rates, self.losses = tuple(rates), tuple(losses)

    def __call__(self, recording: Recording) -> Iterator[Decoded]:
        """One for each bitrate and loss. Raises AudioError where libopus fails."""
        rate = min((rate for rate in RATES if rate >= recording.sample_rate), default=RATES[-1])
        wav = at_rate(recording.audio, recording.sample_rate, rate)
        for kbps in self.rates:
            for loss in self.losses:
                packets, delay = _encoded(wav, rate, kbps, loss)
                audio = _decoded(packets, lost_packets(len(packets), loss, recording.name), rate)[delay:]
                audio = fitted(at_rate(audio, rate, recording.sample_rate), len(recording.audio))
                yield Decoded(f"Opus {kbps:g}, {loss.name}", audio, 8 * sum(map(len, packets)))
