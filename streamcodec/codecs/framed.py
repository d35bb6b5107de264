"""Codecs that run frame by frame: a `Transducer` as the core of a stream, and its primed start."""

import torch
from torch import Tensor

from ..errors import StateError
from ..nn.piece import Piece
from ..nn.transducer import Network, Progress, Transducer
from ..state import State

__all__ = ["FramedCore", "primed"]


class FramedCore:
    """A network in one direction; frames carry no scale."""

    def __init__(self, transducer: Transducer):
        self.transducer = transducer

    def push(self, piece: Piece) -> Piece:
        return Piece(self.transducer.push(piece.rows))

    def flush(self) -> Piece:
        return Piece(self.transducer.flush())

    def save(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        stream = self.transducer
        tensors = {"pending": stream.pending.cpu().contiguous()} | stream.state.save("state.")
        return tensors, stream.progress._asdict() | {"skip": stream.skip}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, int]) -> None:
        stream, network = self.transducer, self.transducer.network
        if numbers.keys() != {*Progress._fields, "skip"} or min(numbers.values()) < 0:
            raise StateError("saved state lacks the place in the stream, or has a wrong one")
        tensors = dict(tensors)
        pending = tensors.pop("pending", None)
        if pending is None or pending.dim() != 3 or pending.shape[::2] != stream.pending.shape[::2]:
            raise StateError("saved state lacks the samples of the current frame, or they have another shape")
        limit = network.at.rate * (1 if numbers["frames"] else max(1, network.prefill_frames))
        if pending.shape[1] >= limit or pending.dtype != stream.pending.dtype:
            raise StateError(
                f"saved state holds {pending.shape[1]} waiting rows of {pending.dtype}; fewer than {limit} fit"
            )
        device = stream.pending.device
        stream.state = State.load(network.spec, tensors, pending.shape[0], device, "state.")
        stream.pending, stream.skip = pending.to(device), numbers["skip"]
        stream.progress = Progress(*(numbers[name] for name in Progress._fields))


def primed(network: Network, silence: Tensor) -> Transducer:
    """A stream of batch 1 that has heard `silence`, [1, n, C], the rows of the prefill frames."""
    stream = Transducer(network, 1, silence.device, silence.dtype, max_frames=max(1, network.prefill_frames))
    stream.push(silence)
    return stream


def silent_rows(network: Network, like: Tensor) -> Tensor:
    """The prefill frames' rows of zeros, [1, n, C], of the type and on the device of `like`."""
    rows = network.prefill_frames * network.at.rate
    return torch.zeros(1, rows, network.channels, dtype=like.dtype, device=like.device)
