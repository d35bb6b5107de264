"""What a step has to do: the operations of its arithmetic, and the bytes that it reads."""

from typing import NamedTuple

from ..codecs import Codec
from ..native_executor import pays
from ..nn.transducer import Network
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


def work_of(codec: Codec, bandwidth: float, precision: str = "float32") -> dict[str, Work]:
    """By direction, or nothing for a codec of segments. To encode is to search the codebooks of `bandwidth` too; what
    looks them up is not counted.
    """
    networks = dict(zip(("encode", "decode"), codec.framing.networks, strict=False))
    if not networks:
        return {}
    work = {way: _of_network(network, way == "decode" and precision == "bfloat16") for way, network in networks.items()}
    books, count = codec.quantizer.codebooks, codec.spec.codebooks(bandwidth)
    searched, one = work["encode"], books[0].numel()
    work["encode"] = searched._replace(
        operations=searched.operations + 2 * count * one,
        weights=searched.weights + FLOAT * min(count, len(books)) * one,
    )
    return work


def _of_network(network: Network, low: bool) -> Work:
    """low: whether it is in bfloat16, as far as that pays."""
    weights = rings = 0
    for op in network.program.ops:
        if isinstance(op, Attention):
            rings += FLOAT * op.multiply_adds  # each key and each value is multiplied once
        else:
            weights += (HALF if low and pays(op) else FLOAT) * op.multiply_adds  # and so is each weight of a window
    return Work(2 * network.program.multiply_adds, weights, rings)
