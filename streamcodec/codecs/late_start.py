"""How a decoder begins in the middle of a stream of codes: the frames that it must hear before anybody hears it.

Convolutions remember a number of frames that their program knows. An LSTM, and the keys and values of an attention,
remember longer. For an LSTM that was trained, 10 s of any signal that was tried left a difference of 1e-5 at most
(docs/server.md).
"""

from typing import NamedTuple

from ..spec import CodecSpec
from .framing import Framing

__all__ = ["PreRoll", "pre_roll"]

RECURRENT_SECONDS = 10.0


class PreRoll(NamedTuple):
    """What `Codec.pre_roll` says.

    frames: before a place in a stream of codes, that a decoder hears first. exact: whether it then gives there what a
    decoder gives that heard all; otherwise it comes near.
    """

    frames: int
    exact: bool


def pre_roll(framing: Framing, spec: CodecSpec) -> PreRoll:
    """See `Codec.pre_roll`."""
    if spec.segment_frames is not None and spec.segment_stride is not None:
        # Segments are decoded each on its own: those count that reach into the current one, and what came of that.
        reaching = (spec.segment_frames * spec.hop_length - 1) // spec.segment_stride
        return PreRoll((reaching + 1) * spec.segment_frames, True)
    memory = framing.networks[1].program.memory_frames  # the decoder's
    return PreRoll(round(RECURRENT_SECONDS * spec.frame_rate), False) if memory is None else PreRoll(memory, True)
