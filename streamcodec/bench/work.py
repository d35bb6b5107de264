"""What a step has to do: the operations of its arithmetic, and the bytes that it reads."""

import math
from typing import NamedTuple

from ..codecs import Codec
from ..native_int8 import is_rounded
from ..native_weights import TERMS, is_split, pays, terms_of, weight_bytes
from ..nn.transducer import Network
from ..precisions import ENCODING
from ..program import Attention

__all__ = ["Work", "work_of"]

FLOAT, HALF = 4, 2


class Work(NamedTuple):
    """Of one direction. operations: of a frame, two for a multiply-add; weights: bytes that a step reads, once for all
    its streams; rings: bytes of keys and values, for each stream."""

    operations: int
    weights: int
    rings: int

    def step_bytes(self, batch: int) -> int:
        """Bytes that a step of so many streams reads at least."""
        return self.weights + batch * self.rings


def work_of(codec: Codec, bandwidth: float, precision: str = "float32", frames: int | None = None) -> dict[str, Work]:
    """By direction, or nothing for a codec of segments. To encode is to search the codebooks of `bandwidth` too; what
    looks them up is not counted.

    frames: of a step, of all streams together: few rows may read weights in int8. None: of so many that none does.
    """
    networks = dict(zip(("encode", "decode"), codec.framing.networks, strict=False))
    if not networks:
        return {}
    work = {
        way: _of_network(network, frames, precision if way == "decode" or precision in ENCODING else "float32")
        for way, network in networks.items()
    }
    books, count = codec.quantizer.codebooks, codec.spec.codebooks(bandwidth)
    searched, one = work["encode"], books[0].numel()
    work["encode"] = searched._replace(
        operations=searched.operations + 2 * count * one,
        weights=searched.weights + FLOAT * min(count, len(books)) * one,
    )
    return work


def _of_network(network: Network, frames: int | None, precision: str) -> Work:
    """precision: of what pays in it."""
    weights = rings = 0
    half, int8 = HALF * TERMS.get(precision, 0), precision == "int8"
    program, native = network.program, network.served_by.startswith("native")
    for op, value in zip(program.ops, program.values, strict=True):
        if isinstance(op, Attention):
            rings += FLOAT * op.multiply_adds  # each key and each value is multiplied once
        else:
            rows = math.inf if frames is None else frames * (value.at.rate // op.spread)
            rounds = int8 and is_rounded(op, value)
            terms = terms_of(op, value, precision) if native else 0
            split = is_split(op, value, terms)
            each = weight_bytes(op, rows, terms, rounds, split) if native else half if half and pays(op) else FLOAT
            weights += each * op.multiply_adds  # and so is each weight of a window
    return Work(2 * program.multiply_adds, weights, rings)
